// SPDX-License-Identifier: MIT
/// The daemon under test on a machine of simxen, one process or one behind a keeper:
/// started, found idle, killed, started again. Its addresses are the same each time.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "tools/step/keeper.h"
#include "tools/step/tracee.h"

namespace step {

using Clock = std::chrono::steady_clock;
/// For poll(2); 0 when it has passed.
int milliseconds_until(Clock::time_point deadline);

struct ServerOptions {
  std::string binary;
  std::string preload;    ///< LD_PRELOAD: libsimxen.so, and what else is wanted
  std::string directory;  ///< has `machine`; gets `run`, `pid` and `server.log`
  bool has_keeper;        ///< who starts it whenever it was killed
  bool is_hurried;        ///< serves kept sockets by plain calls
};

class Server {
 public:
  explicit Server(ServerOptions options) : options_(std::move(options)) {}
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  void start();
  /// Starts it held before its program's first instruction.
  Tracee start_held(std::uint64_t wait_address);
  /// Waits until it sleeps in its waiting call; the call's address. None: it does not,
  /// or has ended.
  std::optional<std::uint64_t> wait_idle(Clock::time_point deadline) const;
  /// The same, and it waits for nothing that comes with time alone; its keeper waits too.
  std::optional<std::uint64_t> wait_quiet(Clock::time_point deadline) const;
  /// SIGKILL, here and now, also while it is held.
  void kill();
  bool has_ended() const;
  /// How many files its keeper has open; 0 without one.
  std::size_t files_of_keeper() const;

  /// The end of what it and those before it have logged.
  std::string last_words() const;

  pid_t pid() const { return pid_; }
  std::string socket_path() const { return options_.directory + "/run/socket"; }

 private:
  [[noreturn]] void run_child(int gate) const;
  int fork_gated();
  void start_by_keeper();

  ServerOptions options_;
  std::unique_ptr<Keeper> keeper_;
  pid_t pid_ = -1;
  int pid_fd_ = -1;
};

}  // namespace step
