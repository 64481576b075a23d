// SPDX-License-Identifier: MIT
#include "xenstored/claim.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace xenstored {

store::Result<Claim, std::string> Claim::take(const Options& options) {
  if (::mkdir(options.run_dir.c_str(), 0755) != 0 && errno != EEXIST) {
    return tl::unexpected("cannot make " + options.run_dir + ": " + std::strerror(errno));
  }
  auto socket = SocketClaim::take(options.socket_path, options.server_pid_file());
  if (!socket.has_value()) return tl::unexpected(socket.error());
  auto pid_file = PidFile::take(options.pid_file);
  if (!pid_file.has_value()) {
    socket.value().remove_socket();
    return tl::unexpected(pid_file.error());
  }
  return Claim{std::move(socket.value()), std::move(pid_file.value())};
}

void Claim::give_up() {
  socket.remove_socket();
  pid_file.remove();
}

}  // namespace xenstored
