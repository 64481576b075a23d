// SPDX-License-Identifier: MIT
/// Counts of durations in buckets whose width grows with the value, so that a fixed 30 KB holds
/// nanoseconds to centuries with an error below 1.6 % (the idea of HdrHistogram).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace load {

class Histogram {
 public:
  void add(std::uint64_t value);
  void merge(const Histogram& other);

  std::uint64_t count() const { return count_; }
  std::uint64_t max() const { return max_; }
  /// The value that `quantile` (0..1) of all are not above, to a bucket's width; 0 when empty.
  std::uint64_t at(double quantile) const;

 private:
  static constexpr unsigned kSubBits = 6;
  static constexpr std::size_t kBuckets = ((64 - kSubBits - 1) << kSubBits) + (2u << kSubBits);

  static std::size_t bucket_of(std::uint64_t value);
  static std::uint64_t top_of(std::size_t bucket);

  std::array<std::uint64_t, kBuckets> buckets_{};
  std::uint64_t count_ = 0;
  std::uint64_t max_ = 0;
};

}  // namespace load
