// SPDX-License-Identifier: MIT
#include "tools/common/client.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <system_error>

namespace tools {
namespace {

using xenstored::Header;
using xenstored::Op;

/// A daemon that answers nothing for so long is not going to.
constexpr timeval kPatience{.tv_sec = 10, .tv_usec = 0};

auto failed(std::string_view what, int number) {
  return tl::unexpected(std::string(what) + ": " + std::generic_category().message(number));
}

}  // namespace

std::string default_socket() {
  const char* const path = std::getenv("XENSTORED_PATH");
  return path != nullptr ? path : "/var/run/xenstored/socket";
}

Client::Client() : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {}

Client::~Client() { ::close(fd_); }

Result<void> Client::connect(const std::filesystem::path& socket) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket.native().size() >= sizeof address.sun_path) {
    return failed(socket.native(), ENAMETOOLONG);
  }
  std::memcpy(address.sun_path, socket.c_str(), socket.native().size());
  ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return failed("cannot connect to " + socket.native(), errno);
  }
  return {};
}

Result<Reply> Client::ask(Op op, std::string_view payload, std::uint32_t tx_id) {
  if (payload.size() > xenstored::kPayloadMax) {
    return tl::unexpected(std::to_string(payload.size()) +
                          " bytes are more than a request may have");
  }
  const Header request{static_cast<std::uint32_t>(op), 0, tx_id,
                       static_cast<std::uint32_t>(payload.size())};
  std::string bytes(reinterpret_cast<const char*>(&request), sizeof request);
  bytes += payload;
  if (::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(bytes.size())) {
    return failed("cannot ask the daemon", errno);
  }
  Header header{};
  Reply reply;
  if (!receive(&header, sizeof header)) return failed("no answer from the daemon", errno);
  reply.payload.resize(std::min<std::size_t>(header.len, xenstored::kPayloadMax));
  if (!receive(reply.payload.data(), reply.payload.size())) {
    return failed("half an answer from the daemon", errno);
  }
  reply.is_error = header.type != static_cast<std::uint32_t>(op);
  if (reply.is_error) reply.payload.resize(std::strlen(reply.payload.c_str()));
  return reply;
}

bool Client::receive(void* to, std::size_t size) {
  errno = 0;
  return size == 0 || ::recv(fd_, to, size, MSG_WAITALL) == static_cast<ssize_t>(size);
}

}  // namespace tools
