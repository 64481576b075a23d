// SPDX-License-Identifier: MIT
#include "tools/crash/connection.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace crash {

Connection::Connection(Connection&& other) noexcept { *this = std::move(other); }

Connection& Connection::operator=(Connection&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(next_req_id_, other.next_req_id_);
  std::swap(out_, other.out_);
  std::swap(sent_, other.sent_);
  std::swap(in_, other.in_);
  std::swap(taken_, other.taken_);
  std::swap(is_garbled_, other.is_garbled_);
  return *this;
}

Connection::~Connection() { close(); }

void Connection::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

std::optional<Connection> Connection::open(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    errno = ENAMETOOLONG;
    return {};
  }
  std::memcpy(address.sun_path, path.data(), path.size());

  // Blocking while it connects: under a keeper the backlog may be full for the
  // moment that a restart takes.
  Connection connection(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!connection.is_open()) return {};
  if (::connect(connection.fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
    return {};
  if (::fcntl(connection.fd_, F_SETFL, O_NONBLOCK) != 0) return {};
  return connection;
}

std::uint32_t Connection::queue(const Request& request) {
  if (!wants_to_send()) {
    out_.clear();
    sent_ = 0;
  }
  out_ += encode(request, next_req_id_);
  return next_req_id_++;
}

void Connection::flush() {
  while (wants_to_send()) {
    const std::size_t count = send(std::string_view(out_).substr(sent_));
    if (count == 0) return;
    sent_ += count;
  }
}

std::size_t Connection::send(std::string_view bytes) {
  const ssize_t count = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  return count < 0 ? 0 : static_cast<std::size_t>(count);
}

bool Connection::receive() { return receive(in_); }

bool Connection::receive(std::string& out) {
  std::array<char, 65536> buffer;
  while (true) {
    const ssize_t count = ::recv(fd_, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (count > 0) {
      out.append(buffer.data(), static_cast<std::size_t>(count));
      continue;
    }
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    return false;  // end of stream, or ECONNRESET, which comes after the last byte
  }
}

std::optional<Frame> Connection::next() {
  xenstored::Header header;
  if (is_garbled_ || in_.size() - taken_ < sizeof(header)) return {};
  std::memcpy(&header, in_.data() + taken_, sizeof(header));
  if (header.len > xenstored::kPayloadMax) {
    is_garbled_ = true;
    return {};
  }
  if (in_.size() - taken_ < sizeof(header) + header.len) return {};
  Frame frame{static_cast<Op>(header.type), header.req_id, header.tx_id,
              in_.substr(taken_ + sizeof(header), header.len)};
  taken_ += sizeof(header) + header.len;
  if (taken_ == in_.size()) {
    in_.clear();
    taken_ = 0;
  }
  return frame;
}

}  // namespace crash
