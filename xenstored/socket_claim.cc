// SPDX-License-Identifier: MIT
#include "xenstored/socket_claim.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>

namespace xenstored {
namespace {

using Error = std::optional<std::string>;

/// Enough that no client is turned away while a server starts.
constexpr int kBacklog = 1024;

std::string with_errno(const std::string& text) { return text + ": " + std::strerror(errno); }

UniqueFd new_socket() {
  return UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

/// "?" if the file names none.
std::string pid_in(const std::string& file) {
  pid_t pid = 0;
  return std::ifstream(file) >> pid ? std::to_string(pid) : "?";
}

Error take_lock(const std::string& path, const std::string& server_pid_file, UniqueFd& lock) {
  const std::string lock_path = path + ".lock";
  lock.reset(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock.valid()) return with_errno("cannot open " + lock_path);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) == 0) return std::nullopt;
  if (errno != EWOULDBLOCK) return with_errno("cannot lock " + lock_path);
  return "another xenstored is running on " + path + " (server pid " + pid_in(server_pid_file) +
         "; it holds " + lock_path + ")";
}

/// A daemon of another make does not know our lock, but it answers a connect.
Error see_nobody_serves(const std::string& path, const sockaddr_un& address) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    return errno == ENOENT ? std::nullopt : Error(with_errno("cannot look at " + path));
  }
  // XENSTORED_PATH may name /dev/xen/xenbus: clients use it so.
  if (!S_ISSOCK(status.st_mode)) return path + " is no socket; not touching it";
  const UniqueFd probe = new_socket();
  const int result =
      ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  if (result != 0 && (errno == ECONNREFUSED || errno == ENOENT)) return std::nullopt;
  if (result == 0 || errno == EAGAIN) return "another daemon answers on " + path;
  return with_errno("cannot tell whether somebody serves " + path);
}

Error bind_and_listen(const std::string& path, const sockaddr_un& address, UniqueFd& listener) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return with_errno("cannot remove the stale socket " + path);
  }
  listener = new_socket();
  // The mode must be right from the first moment, so it cannot be a later chmod.
  const mode_t old_mask = ::umask(0177);
  const int bound =
      ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  ::umask(old_mask);
  if (bound != 0) return with_errno("cannot bind " + path);
  if (::listen(listener.get(), kBacklog) != 0) return with_errno("cannot listen on " + path);
  return std::nullopt;
}

}  // namespace

store::Result<SocketClaim, std::string> SocketClaim::take(const std::string& path,
                                                          const std::string& server_pid_file) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return tl::unexpected("the socket's path is too long: " + path);
  }
  path.copy(address.sun_path, path.size());

  SocketClaim claim;
  claim.path_ = path;
  if (auto error = take_lock(path, server_pid_file, claim.lock_)) return tl::unexpected(*error);
  if (auto error = see_nobody_serves(path, address)) return tl::unexpected(*error);
  if (auto error = bind_and_listen(path, address, claim.listen_)) return tl::unexpected(*error);
  return claim;
}

void SocketClaim::remove_socket() { ::unlink(path_.c_str()); }

}  // namespace xenstored
