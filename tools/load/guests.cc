// SPDX-License-Identifier: MIT
#include "tools/load/guests.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "tools/load/node_sessions.h"

namespace load {
namespace {

using xenstored::Op;
using namespace std::string_view_literals;

/// Like no other domain's, also not those of an earlier run on this machine.
simxen::Uuid fresh_uuid() {
  static std::uint64_t made = 0;
  const std::array<std::uint64_t, 2> halves{static_cast<std::uint64_t>(getpid()), ++made};
  simxen::Uuid uuid{};
  std::memcpy(uuid.data(), halves.data(), uuid.size());
  return uuid;
}

}  // namespace

class Guests::Ring : public Connection {
 public:
  Ring(Guests& guests, std::uint16_t domid)
      : guests_(guests), guest_(guests.machine_, guests.events_, domid) {
    guests_.rings_[domid] = this;
  }
  ~Ring() override { guests_.rings_.erase(guest_.domid()); }

  void flush(Outbox& out) override;
  void fill(bool wait) override;

 private:
  void push();
  bool receive();

  Guests& guests_;
  simxen::Guest guest_;
  std::string unsent_;  ///< what the ring had no room for
  std::string received_;
};

void Guests::Ring::flush(Outbox& out) {
  unsent_ += out.bytes();
  out.clear();
  push();
}

void Guests::Ring::push() {
  if (!unsent_.empty()) unsent_.erase(0, guest_.send(unsent_));
}

bool Guests::Ring::receive() {
  received_.clear();
  guest_.receive(received_);
  std::memcpy(room().data(), received_.data(), received_.size());
  filled(received_.size());
  return !received_.empty();
}

void Guests::Ring::fill(bool wait) {
  // The event may as well say that there is room again.
  push();
  while (!receive() && wait) {
    if (guests_.wait(kPatience).empty()) {
      die("domain " + std::to_string(guest_.domid()) + " got no reply for " +
          std::to_string(kPatience.count()) + " s");
    }
    push();
  }
}

Guests::Guests(const std::string& machine_dir, const std::string& socket_path)
    : machine_(machine_dir), events_(machine_), socket_path_(socket_path) {}

Guests::~Guests() {
  if (domids_.empty()) return;
  SocketConnection control(socket_path_);
  for (const std::uint16_t domid : domids_) {
    control.ask(Op::kRelease, {std::to_string(domid), kNul});
  }
  machine_.destroy(domids_);
}

void Guests::introduce(unsigned count) {
  SocketConnection control(socket_path_);
  for (unsigned i = 1; i <= count; ++i) {
    const auto domid = static_cast<std::uint16_t>(i);
    if (machine_.exists(domid)) die("the machine has a domain " + std::to_string(i) + " already");
    const simxen::NewDomain made = machine_.create(domid, fresh_uuid());
    domids_.push_back(domid);
    const Frame reply =
        control.ask(Op::kIntroduce, {std::to_string(domid), kNul, std::to_string(made.gfn), kNul,
                                     std::to_string(made.port), kNul});
    if (!is_ok(reply, Op::kIntroduce)) {
      die("INTRODUCE " + std::to_string(i) + ": " + std::string(reply.payload));
    }
  }
}

std::unique_ptr<Connection> Guests::connect(std::uint16_t domid) {
  return std::make_unique<Ring>(*this, domid);
}

const std::vector<Connection*>& Guests::wait(std::chrono::milliseconds patience) {
  const auto until = std::chrono::steady_clock::now() + patience;
  notified_.clear();
  while (notified_.empty() && wait_for_event(until)) {
    for (const std::uint16_t domid : events_.take()) {
      const auto found = rings_.find(domid);
      if (found != rings_.end()) notified_.push_back(found->second);
    }
  }
  if (notified_.size() > 1) {
    std::sort(notified_.begin(), notified_.end());
    notified_.erase(std::unique(notified_.begin(), notified_.end()), notified_.end());
  }
  return notified_;
}

bool Guests::wait_for_event(std::chrono::steady_clock::time_point until) const {
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
  if (left.count() < 0) return false;
  pollfd ready{events_.fd(), POLLIN, 0};
  const int count = poll(&ready, 1, static_cast<int>(left.count()));
  if (count < 0 && errno != EINTR) die("poll", errno);
  return count != 0;
}

void Guests::destroy_all() { machine_.destroy(std::exchange(domids_, {})); }

}  // namespace load
