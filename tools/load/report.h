// SPDX-License-Identifier: MIT
/// Results as JSON, one line each on standard output, with the fields that README.md lists.
#pragma once

#include <sys/types.h>

#include <nlohmann/json.hpp>

#include "tools/load/driver.h"
#include "tools/load/options.h"

namespace load {

using Json = nlohmann::ordered_json;

/// The fields that every measurement has: parameters, rate, latency, the server's time and memory.
Json describe(const Options& options, const Outcome& outcome, pid_t server);

/// Prints one line and remembers whether it tells of an error ("errors" above 0, or "ok" false).
void print(const Json& line);
/// Whether any printed line told of an error.
bool has_failed();

}  // namespace load
