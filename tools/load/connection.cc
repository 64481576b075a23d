// SPDX-License-Identifier: MIT
#include "tools/load/connection.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace load {
namespace {

constexpr std::size_t kInputBytes = std::size_t{64} * 1024;

int open_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) die("socket path too long: " + path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) die("socket", errno);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    die("connect " + path, errno);
  }
  const timeval patience{kPatience.count(), 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  return fd;
}

}  // namespace

void die(const std::string& what, int error) {
  if (error != 0) {
    std::fprintf(stderr, "xs-load: %s: %s\n", what.c_str(), std::strerror(error));
  } else {
    std::fprintf(stderr, "xs-load: %s\n", what.c_str());
  }
  std::exit(2);
}

void Outbox::add(xenstored::Op op, std::uint32_t tx_id,
                 std::initializer_list<std::string_view> parts) {
  xenstored::Header header{static_cast<std::uint32_t>(op), next_id_++, tx_id, 0};
  for (const auto part : parts) header.len += static_cast<std::uint32_t>(part.size());
  bytes_.append(reinterpret_cast<const char*>(&header), sizeof header);
  for (const auto part : parts) bytes_.append(part);
}

char* Outbox::add_prepared(std::string_view frame) {
  const std::size_t start = bytes_.size();
  bytes_.append(frame);
  const std::uint32_t id = next_id_++;
  std::memcpy(bytes_.data() + start + offsetof(xenstored::Header, req_id), &id, sizeof id);
  return bytes_.data() + bytes_.size();
}

std::span<char> Connection::room() {
  // Not before: silent connections need none. Not zeroed: a connection may live for one reply.
  if (!input_) input_ = std::make_unique_for_overwrite<char[]>(kInputBytes);
  // Only a part of one frame is ever left over, so moving it is cheap and always makes room.
  if (begin_ > 0) {
    std::memmove(input_.get(), input_.get() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  return {input_.get() + end_, kInputBytes - end_};
}

std::optional<Frame> Connection::next() {
  xenstored::Header header{};
  if (end_ - begin_ < sizeof header) return std::nullopt;
  std::memcpy(&header, input_.get() + begin_, sizeof header);
  if (header.len > xenstored::kPayloadMax) die("the server sent a frame of impossible length");
  if (end_ - begin_ < sizeof header + header.len) return std::nullopt;
  const char* payload = input_.get() + begin_ + sizeof header;
  begin_ += sizeof header + header.len;
  return Frame{header.type, header.req_id, header.tx_id, {payload, header.len}};
}

Frame Connection::reply() {
  while (true) {
    while (auto frame = next()) {
      if (!frame->is(xenstored::Op::kWatchEvent)) return *frame;
    }
    fill(/*wait=*/true);
  }
}

Frame Connection::ask(xenstored::Op op, std::initializer_list<std::string_view> parts) {
  Outbox out;
  out.add(op, 0, parts);
  flush(out);
  return reply();
}

SocketConnection::SocketConnection(const std::string& socket_path)
    : fd_(open_socket(socket_path)) {}

SocketConnection::~SocketConnection() { close(fd_); }

void SocketConnection::flush(Outbox& out) {
  std::string_view left = out.bytes();
  while (!left.empty()) {
    const ssize_t sent = send(fd_, left.data(), left.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) die("send", errno);
    left.remove_prefix(static_cast<std::size_t>(sent));
  }
  out.clear();
}

void SocketConnection::fill(bool wait) {
  const auto space = room();
  const ssize_t got = recv(fd_, space.data(), space.size(), wait ? 0 : MSG_DONTWAIT);
  if (got == 0) die("the server closed a connection");
  if (got > 0) {
    filled(static_cast<std::size_t>(got));
  } else if (errno == EAGAIN && wait) {
    die("no reply for " + std::to_string(kPatience.count()) + " s");
  } else if (errno != EAGAIN && errno != EINTR) {
    die("recv", errno);
  }
}

}  // namespace load
