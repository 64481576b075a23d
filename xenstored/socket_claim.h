// SPDX-License-Identifier: MIT
/// The right to serve on a socket path, and the listening socket itself.
///
/// `<path>.lock` is held with flock by an open file that keeper and server share:
/// the claim lasts as long as either lives. So a second start, whatever kind, is
/// refused before it touches a living daemon's socket.
#pragma once

#include <string>

#include "store/result.h"
#include "xenstored/unique_fd.h"

namespace xenstored {

class SocketClaim {
 public:
  /// Takes the lock, sees that nobody else (a daemon of another make) answers on
  /// `path`, removes a stale socket, binds with mode 0600 and listens. Anything but a
  /// socket at `path` is left alone. Error: a sentence for the operator, with the
  /// pid from `server_pid_file` when another server holds the lock.
  static store::Result<SocketClaim, std::string> take(const std::string& path,
                                                      const std::string& server_pid_file);

  int listen_fd() const { return listen_.get(); }
  int lock_fd() const { return lock_.get(); }
  /// Removes the socket from the file system; for an orderly end.
  void remove_socket();

 private:
  std::string path_;
  UniqueFd lock_;
  UniqueFd listen_;
};

}  // namespace xenstored
