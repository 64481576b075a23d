// SPDX-License-Identifier: MIT
/// What xs-crash and the counting library (tests/crash/effects.cc) share: a
/// mapped file, named to the library by the environment variable XS_EFFECTS.
#pragma once

#include <atomic>
#include <cstdint>

namespace crash {

inline constexpr const char* kEffectsVariable = "XS_EFFECTS";

/// All zero at first: nothing is counted, nobody is killed.
struct EffectsControl {
  std::atomic<std::uint32_t> is_armed;
  /// Kill the process just before its `kill_at`-th effect instead of after it.
  std::atomic<std::uint32_t> before;
  std::atomic<std::uint64_t> kill_at;  ///< counted from 1; 0: never
  std::atomic<std::uint64_t> count;    ///< effects since it was armed
  char last[32];                       ///< name of the last effect counted
};

}  // namespace crash
