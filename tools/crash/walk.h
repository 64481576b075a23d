// SPDX-License-Identifier: MIT
/// Reads everything that a server holds: each node by DIRECTORY and
/// DIRECTORY_PART, READ and GET_PERMS, and which domains are introduced.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "store/result.h"
#include "tools/crash/connection.h"
#include "tools/crash/tree.h"

namespace crash {

struct Walk {
  Tree tree;
  std::map<std::string, std::uint64_t> generations;  ///< by DIRECTORY_PART
  std::set<unsigned> introduced;
};

/// Walks the whole tree and asks for each of `domids`. Nobody may change
/// anything meanwhile. Error: an answer that cannot be right, or the connection
/// ended.
store::Result<Walk, std::string> walk(Connection& connection, const std::vector<unsigned>& domids);

/// Sends `requests` in order and gives their replies. Error: the connection
/// ended, or ten seconds passed.
store::Result<std::vector<Frame>, std::string> ask(Connection& connection,
                                                   const std::vector<Request>& requests);

}  // namespace crash
