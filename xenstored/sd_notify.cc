// SPDX-License-Identifier: MIT
#include "xenstored/sd_notify.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "xenstored/unique_fd.h"

namespace xenstored {

bool sd_notify(const char* state) {
  const char* name = std::getenv("NOTIFY_SOCKET");
  if (name == nullptr || (name[0] != '/' && name[0] != '@')) return false;
  sockaddr_un address{};
  const std::size_t length = std::strlen(name);
  if (length >= sizeof(address.sun_path)) return false;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, name, length);
  if (name[0] == '@') address.sun_path[0] = '\0';

  const UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return false;
  const timeval second{1, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &second, sizeof(second));
  const std::size_t size = std::strlen(state);
  const auto address_size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  const ssize_t sent = ::sendto(fd.get(), state, size, MSG_NOSIGNAL,
                                reinterpret_cast<const sockaddr*>(&address), address_size);
  return sent == static_cast<ssize_t>(size);
}

}  // namespace xenstored
