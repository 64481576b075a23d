// SPDX-License-Identifier: MIT
/// The daemon's keeper under ptrace: held while its server is dead, so that clients can do
/// something meanwhile, and asked which process is the next server.
#pragma once

#include <sys/types.h>

#include <functional>

namespace step {

class Keeper {
 public:
  /// Of a child that executes the keeper's program once `let_start` was called.
  Keeper(pid_t pid, const std::function<void()>& let_start);
  /// Kills it.
  ~Keeper();
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;

  /// From now on it does nothing.
  void hold();
  /// Lets it go on until it starts a server, and then for good. The new process, which is
  /// traced and stands before it executes the server's program. -1: the keeper has ended, or
  /// a signal has interrupted the caller.
  pid_t start_server();

  pid_t pid() const { return pid_; }  ///< -1: it has ended

 private:
  bool await_stop();
  bool has_child() const;
  pid_t take_child();
  void go_on();

  pid_t pid_;
  bool is_held_ = false;
  int event_ = 0;  ///< why it stands; 0: for the signal
  int signal_ = 0;
};

}  // namespace step
