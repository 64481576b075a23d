// SPDX-License-Identifier: MIT
/// The server process: its parts put together, and its life from recovery to end.
#pragma once

#include <functional>

#include "xenstored/domains.h"
#include "xenstored/options.h"

namespace xenstored {

class Daemon;

/// What the surroundings of a server give it.
struct ServerStart {
  int listen_fd;
  /// Called once clients are served.
  std::function<void()> on_ready;
  /// Called with the daemon before it serves; may add sources.
  std::function<void(Daemon&)> prepare = nullptr;
  /// Who knows which domains exist; null without Xen.
  DomainOracle* oracle = nullptr;
};

/// Recovers from the area and serves until SIGTERM or SIGINT. Returns the exit
/// code: 0, kExitFailed, or kExitRefused for a start that must not be retried
/// (another process has the area, or a newer version wrote it).
int run_server(const Options& options, const ServerStart& start);

}  // namespace xenstored
