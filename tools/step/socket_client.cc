// SPDX-License-Identifier: MIT
#include "tools/step/socket_client.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace step {

std::unique_ptr<SocketClient> SocketClient::open(const std::string& path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  std::unique_ptr<SocketClient> client(new SocketClient(fd));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return {};
  return client;
}

SocketClient::~SocketClient() { ::close(fd_); }

std::uint32_t SocketClient::queue(Op op, std::string_view payload, std::uint32_t tx_id) {
  unsent_ += frame(op, ++last_id_, payload, tx_id);
  return last_id_;
}

void SocketClient::send(std::size_t bytes) {
  const std::size_t count = std::min(bytes, unsent_.size());
  // One that cannot be sent will not be answered.
  (void)::send(fd_, unsent_.data(), count, MSG_NOSIGNAL | MSG_DONTWAIT);
  unsent_.erase(0, count);
}

void SocketClient::send_no_more() { ::shutdown(fd_, SHUT_WR); }

std::uint32_t SocketClient::ask(Op op, std::string_view payload, std::uint32_t tx_id) {
  const std::uint32_t id = queue(op, payload, tx_id);
  send();
  return id;
}

std::uint32_t SocketClient::ask_next() {
  if (next_id_ == 0) next_id_ = ask(Op::kGetDomainPath, strings("0"));
  return next_id_;
}

std::size_t SocketClient::readable_bytes() const {
  int bytes = 0;
  ::ioctl(fd_, FIONREAD, &bytes);
  return static_cast<std::size_t>(bytes);
}

void SocketClient::read(std::size_t bytes_max) {
  std::array<char, 8192> some{};
  for (std::size_t left = bytes_max; left > 0;) {
    const ssize_t count = ::recv(fd_, some.data(), std::min(left, some.size()), MSG_DONTWAIT);
    if (count <= 0) {
      is_closed_ = count == 0 || errno != EAGAIN;
      break;
    }
    unread_.append(some.data(), static_cast<std::size_t>(count));
    left -= static_cast<std::size_t>(count);
  }
  Message message;
  while (take_message(unread_, message)) received_.push_back(message);
}

std::optional<Message> SocketClient::next(Clock::time_point deadline) {
  read();
  while (received_.empty()) {
    pollfd wanted{fd_, POLLIN, 0};
    if (is_closed_ || ::poll(&wanted, 1, milliseconds_until(deadline)) <= 0) return {};
    read();
  }
  Message first = std::move(received_.front());
  received_.erase(received_.begin());
  return first;
}

void SocketClient::forget_received() {
  received_.clear();
  next_id_ = 0;
}

}  // namespace step
