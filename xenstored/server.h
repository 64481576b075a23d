// SPDX-License-Identifier: MIT
/// The server process: its parts put together, and its life from recovery to end.
#pragma once

#include <functional>

#include "rings/hypervisor.h"
#include "xenstored/held_clients.h"
#include "xenstored/options.h"

namespace xenstored {

/// What the surroundings of a server give it.
struct ServerStart {
  int listen_fd;
  /// Called once clients are served.
  std::function<void()> on_ready;
  /// Null: no Xen, sockets only (-D). Outlives the call.
  rings::Hypervisor* hypervisor = nullptr;
  /// Null: socket clients end with this process. Outlives the call.
  HeldClients* clients = nullptr;
};

/// Recovers from the area and serves until SIGTERM or SIGINT. Returns the exit
/// code: 0, kExitFailed, or kExitRefused for a start that must not be retried
/// (another process has the area, or a newer version wrote it).
int run_server(const Options& options, const ServerStart& start);

}  // namespace xenstored
