// SPDX-License-Identifier: MIT
/// What can be measured. Each scenario prepares its nodes, measures, checks what the server holds,
/// prints its lines, and removes its nodes again (insert and restart leave theirs).
#pragma once

#include <span>
#include <string_view>

#include "tools/load/options.h"

namespace load {

/// Whose connections a scenario can have.
enum class Clients { kAny, kSockets, kGuests };

struct Scenario {
  std::string_view name;
  std::string_view summary;
  Clients whose;
  unsigned clients;     ///< when the command line does not say
  std::uint64_t nodes;  ///< likewise; for insert and restart the leaves of the tree
  void (*run)(const Options& options);
};

std::span<const Scenario> scenarios();

}  // namespace load
