// SPDX-License-Identifier: MIT
/// The keeper: a tiny parent process that owns the listening socket and starts
/// the server again whenever it dies, so that clients who connect meanwhile wait
/// in the backlog. It also holds duplicates of long-lived clients' sockets, which the
/// next server inherits (held_clients.h). It never reads them, serves nothing, holds no
/// state, and allocates nothing once it runs. If the keeper is killed the server goes
/// on, without a keeper.
#pragma once

#include "xenstored/options.h"

namespace xenstored {

/// Keeps a server running until SIGTERM or SIGINT; returns the exit code of the
/// command. With -N the keeper is the calling process; otherwise it is a daemon,
/// and this returns in the caller once the server serves (0) or could not be
/// started (not 0, the reason on stderr).
///
/// The server is this same program (its path now, looked up anew at each start,
/// so a package upgrade is taken up) with the same arguments after an internal
/// --kept. Exit code kExitRefused of the first server ends the keeper; any other end,
/// and that of one after guests were served, is followed by a restart at once, with a growing pause
/// (at most 1 s) only while it dies before serving. SIGHUP is passed on. SIGTERM to the server
/// alone is a restart.
int run_keeper(const Options& options, int argc, char* argv[]);

/// In the server: tells the keeper (and, through it, the starting command) that
/// the server serves.
void tell_keeper_ready(const Inherited& inherited);

/// Points standard input, output and error to /dev/null.
void detach_stdio();

}  // namespace xenstored
