// SPDX-License-Identifier: MIT
/// Kills the server at one instruction after another of a case.
#pragma once

#include <cstddef>
#include <limits>
#include <string>

#include "tools/step/cases.h"

namespace step {

struct CampaignOptions {
  World::Options world;
  std::size_t dense_stride = 1;  ///< from each commit to the last notify after it, and alike
  std::size_t stride = 16;       ///< elsewhere
  std::size_t recovery_stride = 1009;
  /// Only these, of turn 0: to see a violation again.
  std::size_t first = 0;
  std::size_t last = std::numeric_limits<std::size_t>::max();
  std::size_t violations_max = 5;  ///< then a case is left
};

struct CaseResult {
  std::size_t turns = 0;               ///< of the server's loop
  std::size_t instructions = 0;        ///< in them
  std::size_t dense_instructions = 0;  ///< of those, the ones that matter most
  std::size_t kill_points = 0;
  std::size_t dense_kill_points = 0;
  std::size_t double_kills = 0;  ///< kill points with a second kill, in the recovery from the first
  std::size_t dense_missed = 0;  ///< of those, never met exactly where the record has them
  std::size_t strayed = 0;  ///< kill points that were met not exactly where the record has them
  std::size_t violations = 0;
  double seconds = 0;
};

/// Violations are printed as they are found.
CaseResult run_requests(const CampaignOptions& options, Case& tried);
/// The server is killed in the midst of the case's request, and then while it recovers.
CaseResult run_recoveries(const CampaignOptions& options, Case& tried);

}  // namespace step
