// SPDX-License-Identifier: MIT
/// simxen-bridge: lets programs that talk xenstore over a socket be guests. What
/// they send is put into a domain's request ring, whole messages only, as a guest's
/// kernel does; what comes back is sent to them.
///
/// A domain has one client at a time. Watches and their events belong to the
/// domain: events that nobody is there for wait in the ring for the next client.
/// Replies belong to the client that asked, and are dropped when it has gone.
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/simxen/guest.h"

namespace {

constexpr std::uint32_t kMaxPayload = 4096;
constexpr std::uint32_t kWatchEvent = 15;
/// What may wait for a client, or for a ring, before we read no more.
constexpr std::size_t kMaxWaiting = 65536;
/// How often a domain's end is looked for: nothing tells us of it.
constexpr int kLookMs = 50;

struct Header {
  std::uint32_t type, req_id, tx_id, length;
};

std::optional<Header> header_of(std::string_view bytes) {
  if (bytes.size() < sizeof(Header)) return std::nullopt;
  Header header{};
  std::memcpy(&header, bytes.data(), sizeof header);
  return header;
}

/// Messages on their way out, the first perhaps in part.
class Queue {
 public:
  bool empty() const { return messages_.empty(); }
  std::size_t count() const { return messages_.size(); }
  std::size_t bytes() const { return bytes_; }
  void push(std::string message) {
    bytes_ += message.size();
    messages_.push_back(std::move(message));
  }
  /// What is left of the first one.
  std::string_view front() const { return std::string_view(messages_.front()).substr(sent_); }
  void consume(std::size_t count);
  /// Forgets the first one if some of it was sent.
  void drop_begun();
  void clear() { *this = Queue(); }
  /// Keeps only these; none of them counts as sent in part.
  template <class Predicate>
  void keep_if(const Predicate& predicate);

 private:
  std::deque<std::string> messages_;
  std::size_t bytes_ = 0;  ///< of whole messages
  std::size_t sent_ = 0;   ///< of the first one
};

void Queue::consume(std::size_t count) {
  sent_ += count;
  if (sent_ < messages_.front().size()) return;
  bytes_ -= sent_;
  messages_.pop_front();
  sent_ = 0;
}

void Queue::drop_begun() {
  if (sent_ > 0) consume(front().size());
}

template <class Predicate>
void Queue::keep_if(const Predicate& predicate) {
  std::deque<std::string> before = std::exchange(messages_, {});
  clear();
  for (std::string& message : before) {
    if (predicate(message)) push(std::move(message));
  }
}

/// One domain's ring and the client that has it now.
class Pump {
 public:
  Pump(simxen::Machine& machine, simxen::GuestEvents& events, std::uint16_t domid)
      : guest_(machine, events, domid) {}
  ~Pump() { detach(); }
  Pump(const Pump&) = delete;
  Pump& operator=(const Pump&) = delete;

  /// Takes the place of the client before.
  void attach(int fd);
  void detach();
  bool is_attached() const { return fd_ >= 0; }
  bool is_alive() const { return guest_.is_alive(); }
  pollfd wish() const;
  void on_socket(short events);
  /// Moves what can be moved between the ring and the buffers.
  void move();

 private:
  void read_socket();
  void write_socket();
  void take_requests();
  void take_replies();
  void notice_reset();

  simxen::Guest guest_;
  int fd_ = -1;
  unsigned client_ = 0;      ///< counts them
  bool is_absurd_ = false;   ///< the client does not send messages any more
  std::string from_client_;  ///< not whole yet
  Queue to_ring_;
  std::string from_ring_;  ///< not whole yet
  Queue to_client_;
  std::deque<unsigned> askers_;  ///< whose replies are to come
  std::uint32_t req_prod_ = 0;   ///< as we left it
};

void Pump::attach(int fd) {
  detach();
  fd_ = fd;
  ++client_;
  is_absurd_ = false;
  move();
}

// Messages that are in the ring in part go there to the end, or the next could not
// be told from it. Events stay, one that was sent in part will be sent again.
void Pump::detach() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
  from_client_.clear();
  if (is_absurd_) to_ring_.clear();
  to_client_.keep_if(
      [](const std::string& message) { return header_of(message)->type == kWatchEvent; });
}

pollfd Pump::wish() const {
  short events = 0;
  if (to_ring_.bytes() < kMaxWaiting) events |= POLLIN;
  if (!to_client_.empty()) events |= POLLOUT;
  return {fd_, events, 0};
}

void Pump::on_socket(short events) {
  if ((events & POLLOUT) != 0) write_socket();
  if ((events & (POLLIN | POLLHUP | POLLERR)) != 0) read_socket();
  move();
}

void Pump::read_socket() {
  std::array<char, 16384> bytes{};
  const ssize_t count = recv(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT);
  if (count > 0) {
    from_client_.append(bytes.data(), static_cast<std::size_t>(count));
    take_requests();
  } else if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
    detach();
  }
}

void Pump::write_socket() {
  while (!to_client_.empty()) {
    const std::string_view rest = to_client_.front();
    const ssize_t count = ::send(fd_, rest.data(), rest.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0) return;
    to_client_.consume(static_cast<std::size_t>(count));
  }
}

void Pump::take_requests() {
  while (!is_absurd_) {
    const auto header = header_of(from_client_);
    if (!header) return;
    is_absurd_ = header->length > kMaxPayload;
    if (is_absurd_) break;
    const std::size_t whole = sizeof(Header) + header->length;
    if (from_client_.size() < whole) return;
    to_ring_.push(from_client_.substr(0, whole));
    from_client_.erase(0, whole);
    askers_.push_back(client_);
  }
  if (!from_client_.empty()) to_ring_.push(std::exchange(from_client_, {}));
}

void Pump::take_replies() {
  while (const auto header = header_of(from_ring_)) {
    const std::size_t whole = sizeof(Header) + header->length;
    if (from_ring_.size() < whole) return;
    bool is_wanted = true;
    if (header->type != kWatchEvent && !askers_.empty()) {
      is_wanted = askers_.front() == client_ && is_attached();
      askers_.pop_front();
    }
    if (is_wanted) to_client_.push(from_ring_.substr(0, whole));
    from_ring_.erase(0, whole);
  }
}

/// The ring was made anew (the domain was introduced again): what was in it is lost.
void Pump::notice_reset() {
  if (guest_.page().req_prod == req_prod_) return;
  req_prod_ = guest_.page().req_prod;
  from_ring_.clear();
  to_ring_.drop_begun();
  while (askers_.size() > to_ring_.count()) askers_.pop_front();
}

void Pump::move() {
  notice_reset();
  while (!to_ring_.empty()) {
    const std::size_t count = guest_.send(to_ring_.front());
    if (count == 0) break;
    to_ring_.consume(count);
  }
  req_prod_ = guest_.page().req_prod;
  while ((is_attached() || !askers_.empty()) && to_client_.bytes() < kMaxWaiting) {
    if (guest_.receive(from_ring_) == 0) break;
    take_replies();
  }
  if (is_attached() && !to_client_.empty()) write_socket();
}

class Bridge {
 public:
  Bridge(const std::string& dir, int listen_fd, std::optional<std::uint16_t> domid)
      : machine_(dir), events_(machine_), listen_fd_(listen_fd), domid_(domid) {}
  [[noreturn]] void run();

 private:
  void accept_client();
  void greet(int fd);
  void attach(std::uint16_t domid, int fd);
  void drop_dead();
  bool is_busy() const;

  simxen::Machine machine_;
  simxen::GuestEvents events_;
  const int listen_fd_;
  const std::optional<std::uint16_t> domid_;
  std::vector<int> nameless_;  ///< clients that have not said their domid yet
  std::map<std::uint16_t, std::unique_ptr<Pump>> pumps_;
};

/// With one domain, whoever comes while it has a client waits for its turn.
bool Bridge::is_busy() const {
  if (!domid_) return false;
  const auto pump = pumps_.find(*domid_);
  return pump != pumps_.end() && pump->second->is_attached();
}

void Bridge::accept_client() {
  const int fd = accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC);
  if (fd < 0) return;
  if (domid_) {
    attach(*domid_, fd);
  } else {
    nameless_.push_back(fd);
  }
}

void Bridge::greet(int fd) {
  std::array<std::uint8_t, 2> name{};
  const ssize_t count = recv(fd, name.data(), name.size(), MSG_DONTWAIT | MSG_PEEK);
  if (count == 1 || (count < 0 && errno == EAGAIN)) return;
  std::erase(nameless_, fd);
  if (count == 2 && recv(fd, name.data(), name.size(), 0) == 2) {
    attach(static_cast<std::uint16_t>(name[0] | name[1] << 8), fd);
  } else {
    close(fd);
  }
}

void Bridge::attach(std::uint16_t domid, int fd) {
  drop_dead();
  if (!machine_.exists(domid)) {
    close(fd);
    return;
  }
  auto& pump = pumps_[domid];
  if (!pump) pump = std::make_unique<Pump>(machine_, events_, domid);
  pump->attach(fd);
}

void Bridge::drop_dead() {
  std::erase_if(pumps_, [](const auto& entry) { return !entry.second->is_alive(); });
}

void Bridge::run() {
  for (;;) {
    std::vector<pollfd> wishes{{events_.fd(), POLLIN, 0}};
    wishes.push_back({is_busy() ? -1 : listen_fd_, POLLIN, 0});
    for (const int fd : nameless_) wishes.push_back({fd, POLLIN, 0});
    const std::size_t first_pump = wishes.size();
    std::vector<std::uint16_t> domids;
    for (const auto& [domid, pump] : pumps_) {
      if (!pump->is_attached()) continue;
      wishes.push_back(pump->wish());
      domids.push_back(domid);
    }
    poll(wishes.data(), wishes.size(), domids.empty() ? -1 : kLookMs);
    for (const std::uint16_t domid : events_.take()) {
      if (const auto pump = pumps_.find(domid); pump != pumps_.end()) pump->second->move();
    }
    for (std::size_t i = 0; i < domids.size(); ++i) {
      const pollfd& seen = wishes[first_pump + i];
      if (seen.revents != 0) pumps_[domids[i]]->on_socket(seen.revents);
    }
    for (std::size_t i = 2; i < first_pump; ++i) {
      if (wishes[i].revents != 0) greet(wishes[i].fd);
    }
    if (wishes[1].revents != 0) accept_client();
    drop_dead();
  }
}

int listen_at(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return -1;
  path.copy(address.sun_path, path.size());
  unlink(path.c_str());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      listen(fd, 1024) != 0) {
    return -1;
  }
  return fd;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const bool has_domid = arguments.size() == 4 && arguments[2] == "--domid";
  if (arguments.size() != 2 && !has_domid) {
    std::fputs("simxen-bridge DIR SOCKET [--domid DOMID]\n", stderr);
    return 2;
  }
  std::optional<std::uint16_t> domid;
  if (has_domid) domid = static_cast<std::uint16_t>(std::atoi(arguments[3].c_str()));
  const int listen_fd = listen_at(arguments[1]);
  if (listen_fd < 0) {
    std::perror(arguments[1].c_str());
    return 1;
  }
  Bridge(arguments[0], listen_fd, domid).run();
}
