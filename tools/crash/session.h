// SPDX-License-Identifier: MIT
/// Moves requests and frames between traffic, server and checker.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tools/crash/checker.h"
#include "tools/crash/connection.h"
#include "tools/crash/server.h"
#include "tools/crash/traffic.h"

namespace crash {

struct Client {
  Region region;
  std::unique_ptr<Traffic> traffic;
  Connection connection;
  std::deque<Request> unanswered;
  bool is_done = false;  ///< its connection has ended and been read to its end
};

enum class Outcome {
  kCut,       ///< every connection has ended
  kSurvived,  ///< the server has died, but not every connection: some were still
              ///< waiting to be accepted and are now served by the next one
  kFinished,  ///< no client has anything more to send and all is answered
  kWrong,     ///< `wrong` of Round says what
};

struct Round {
  Outcome outcome = Outcome::kCut;
  std::string wrong;
  Clock::time_point first_end;  ///< when the first connection had ended
};

/// Writes what layout.h needs to be there: regions, registers, outposts. Returns the whole tree
/// then. Error: what the server would not do.
store::Result<Walk, std::string> set_up(Connection& connection, const std::vector<Client>& clients);

/// Connects every client. Error: a connect failed.
Status connect(std::vector<Client>& clients, const Server& server, const Tree& found);

/// Runs all clients that are not done until the process that `server` found last
/// dies or they have nothing more to do.
Round run_clients(std::vector<Client>& clients, Checker& checker, const Server& server);

/// The domain ids whose state a walk must ask for.
std::vector<unsigned> domids_of(const std::vector<Client>& clients);

}  // namespace crash
