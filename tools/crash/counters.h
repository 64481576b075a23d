// SPDX-License-Identifier: MIT
/// Counters that any ring client may raise, each time in a transaction that reads
/// "<n>..." and writes "<n+1>.<tag>" with a tag used once: whatever is committed
/// twice, lost, or overwritten shows in the numbers.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "tools/crash/verdict.h"

namespace crash {

inline constexpr unsigned kRingCounters = 2;
std::string ring_counter_path(unsigned index);
bool is_ring_counter(std::string_view path);
/// "17.k.345" -> 17.
std::uint64_t count_in(const std::string& value);

class Counters {
 public:
  /// A transaction that wrote `value` was committed.
  Verdict committed(const std::string& path, const std::string& value);
  /// One may have been: who asked for it is gone.
  void maybe_committed(const std::string& path, const std::string& value);
  /// Nobody changes anything now; the counter holds `value`.
  Verdict check(const std::string& path, const std::string& value);

 private:
  struct Counter {
    std::uint64_t settled = 0;
    std::map<std::uint64_t, std::string> certain;
    std::map<std::uint64_t, std::string> possible;
  };
  std::map<std::string, Counter> counters_;
};

}  // namespace crash
