// SPDX-License-Identifier: MIT
#include "tools/crash/counters.h"

#include <charconv>

#include "tools/crash/tree.h"

namespace crash {
namespace {

constexpr std::string_view kTop = "/s/ring";

}  // namespace

std::string ring_counter_path(unsigned index) {
  return std::string(kTop) + "/" + std::to_string(index);
}

bool is_ring_counter(std::string_view path) { return is_within(path, kTop) && path != kTop; }

std::uint64_t count_in(const std::string& value) {
  std::uint64_t count = 0;
  std::from_chars(value.data(), value.data() + value.size(), count);
  return count;
}

Verdict Counters::committed(const std::string& path, const std::string& value) {
  const auto [known, is_first] = counters_[path].certain.emplace(count_in(value), value);
  if (is_first && count_in(value) > counters_[path].settled) return {};
  return "the transaction that set " + path + " to " + value + " was committed, but " +
         (is_first ? "so many had been before" : known->second + " was too");
}

void Counters::maybe_committed(const std::string& path, const std::string& value) {
  counters_[path].possible.emplace(count_in(value), value);
}

Verdict Counters::check(const std::string& path, const std::string& value) {
  Counter& counter = counters_[path];
  const std::uint64_t count = count_in(value);
  for (std::uint64_t n = counter.settled + 1; n <= count; ++n) {
    if (!counter.certain.contains(n) && !counter.possible.contains(n))
      return path + " is at " + value + ", but nobody has committed " + std::to_string(n);
  }
  const auto last = counter.certain.empty() ? counter.certain.end() : --counter.certain.end();
  if (last != counter.certain.end() &&
      (last->first > count || (last->first == count && last->second != value)))
    return path + " is at " + value + "; lost: " + last->second;
  if (count < counter.settled) return path + " is at " + value + "; it was further before";
  counter = {count, {}, {}};
  return {};
}

}  // namespace crash
