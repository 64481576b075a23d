// SPDX-License-Identifier: MIT
#include <poll.h>

#include <chrono>
#include <cstring>
#include <utility>

#include "tests/simxen/guest.h"
#include "tests/simxen/guest_impl.h"

namespace simxen {
namespace {

constexpr std::uint32_t kWatchEvent = 15;

struct Header {
  std::uint32_t type, req_id, tx_id, length;
};

using Clock = std::chrono::steady_clock;

}  // namespace

struct SimpleClient::Impl {
  GuestEvents arrivals;
  Guest guest;
  std::string unread;
  std::vector<Message> events;
  std::uint32_t last_id = 0;

  Impl(Machine& machine, std::uint16_t domid)
      : arrivals(machine), guest(machine, arrivals, domid) {}
  void send(std::string_view bytes, Clock::time_point deadline);
  Message next(Clock::time_point deadline);
  void wait(Clock::time_point deadline);
};

void SimpleClient::Impl::wait(Clock::time_point deadline) {
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  pollfd waiting{arrivals.fd(), POLLIN, 0};
  if (left <= 0 || poll(&waiting, 1, static_cast<int>(left)) <= 0) {
    give_up("domain " + std::to_string(guest.domid()) + " waits in vain for xenstored");
  }
  arrivals.take();
}

void SimpleClient::Impl::send(std::string_view bytes, Clock::time_point deadline) {
  for (;;) {
    bytes.remove_prefix(guest.send(bytes));
    if (bytes.empty()) return;
    guest.receive(unread);  // the daemon may wait for space as well
    wait(deadline);
  }
}

Message SimpleClient::Impl::next(Clock::time_point deadline) {
  for (;;) {
    Header header{};
    if (unread.size() >= sizeof header) {
      std::memcpy(&header, unread.data(), sizeof header);
      if (unread.size() >= sizeof header + header.length) {
        Message message{header.type, header.req_id, header.tx_id,
                        unread.substr(sizeof header, header.length)};
        unread.erase(0, sizeof header + header.length);
        return message;
      }
    }
    if (guest.receive(unread) == 0) wait(deadline);
  }
}

SimpleClient::SimpleClient(Machine& machine, std::uint16_t domid)
    : impl_(std::make_unique<Impl>(machine, domid)) {}

SimpleClient::~SimpleClient() = default;

Guest& SimpleClient::guest() { return impl_->guest; }

Message SimpleClient::call(std::uint32_t type, std::string_view payload, std::uint32_t tx_id,
                           int seconds) {
  const auto deadline = Clock::now() + std::chrono::seconds(seconds);
  const Header header{type, ++impl_->last_id, tx_id, static_cast<std::uint32_t>(payload.size())};
  std::string bytes(sizeof header, '\0');
  std::memcpy(bytes.data(), &header, sizeof header);
  bytes += payload;
  impl_->send(bytes, deadline);
  for (;;) {
    Message message = impl_->next(deadline);
    if (message.type != kWatchEvent) return message;
    impl_->events.push_back(std::move(message));
  }
}

std::vector<Message> SimpleClient::take_events() { return std::exchange(impl_->events, {}); }

}  // namespace simxen
