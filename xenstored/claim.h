// SPDX-License-Identifier: MIT
/// What a start must own before it may serve: run directory, socket, pid file.
#pragma once

#include <string>

#include "store/result.h"
#include "xenstored/options.h"
#include "xenstored/pidfile.h"
#include "xenstored/socket_claim.h"

namespace xenstored {

struct Claim {
  SocketClaim socket;
  PidFile pid_file;

  /// Takes all of them for the calling process. The socket is first: while
  /// another daemon holds it nothing is changed. Error: a sentence for the
  /// operator; the start is to be refused.
  static store::Result<Claim, std::string> take(const Options& options);
  /// Removes the socket and the pid file; for an orderly end.
  void give_up();
};

}  // namespace xenstored
