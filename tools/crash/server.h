// SPDX-License-Identifier: MIT
/// The daemon under test on a private directory: started, killed at an instant,
/// found again. Only processes that this object or its keeper started are ever
/// signalled: each signal goes through a pidfd taken while the process lived.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "store/result.h"
#include "tools/crash/connection.h"

namespace crash {

using Clock = std::chrono::steady_clock;
/// Done, or why not.
using Status = store::Result<void, std::string>;
inline tl::unexpected<std::string> failure(std::string why) {
  return tl::unexpected<std::string>(std::move(why));
}

using Milliseconds = std::chrono::milliseconds;
using Microseconds = std::chrono::microseconds;

/// A file descriptor that is closed with its owner.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();
  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

struct ServerOptions {
  std::string binary;
  /// Serves `<directory>/socket`; its output is appended to `server.log` there.
  std::string directory;
  /// With a keeper process (`--supervise`), which restarts the server itself;
  /// without one, start() is called after each death.
  bool has_keeper = true;
  /// On a machine with rings; otherwise the server is started with -D.
  bool has_rings = false;
  /// The daemon is told to let the connections of sockets end with it (`--close-clients`).
  bool closes_clients = true;
  std::vector<std::string> arguments;
  /// "NAME=value", added to our own environment.
  std::vector<std::string> environment;
};

class Server {
 public:
  explicit Server(ServerOptions options) : options_(std::move(options)) {}
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server();

  /// Starts the program, with `environment` besides that of the options. Error:
  /// why it could not be started.
  Status start(const std::vector<std::string>& environment = {});

  /// Waits until a connection to the socket can be made and a request on it is
  /// answered. Error: the program ended, or nobody answered for ten seconds.
  store::Result<Connection, std::string> wait_served();

  /// Finds the process that serves now (not the one that was killed last).
  /// Error: none appeared in ten seconds.
  Status find_server();

  /// Sends SIGKILL to the process found last, `delay` from now, in a thread of
  /// its own, so that what the caller is doing does not choose the instant.
  std::jthread kill_after(Microseconds delay);

  /// When the last kill_after() struck (its thread must have been joined): not before
  /// killed_at(), and not after killed_by().
  Clock::time_point killed_at() const { return killed_at_.load(); }
  Clock::time_point killed_by() const { return killed_by_.load(); }

  /// Its pidfd: readable once it is dead.
  int serving_fd() const { return serving_fd_.get(); }

  /// Waits until the process found last is gone; false after `limit`.
  bool wait_dead(Milliseconds limit) const;

  /// After wait_dead(), without a keeper: whether it was SIGKILL that ended it.
  bool was_killed();

  /// That the program ended by itself, how, and the end of what it has written.
  std::string obituary();

  /// SIGTERM to what was started, SIGKILL if that does not end it in five seconds.
  void stop();

  std::string socket_path() const { return options_.directory + "/socket"; }
  const ServerOptions& options() const { return options_; }

 private:
  [[noreturn]] void run_child(const std::vector<std::string>& environment) const;
  bool has_ended();
  void reap();
  std::string log() const;
  std::optional<pid_t> read_pid_file() const;

  ServerOptions options_;
  pid_t child_ = -1;       ///< the keeper, or the server itself
  int status_ = 0;         ///< how it ended, once reaped
  Descriptor child_fd_;    ///< pidfd of child_
  pid_t serving_ = -1;     ///< the server found last
  Descriptor serving_fd_;  ///< pidfd of serving_
  std::atomic<Clock::time_point> killed_at_{};
  std::atomic<Clock::time_point> killed_by_{};
};

}  // namespace crash
