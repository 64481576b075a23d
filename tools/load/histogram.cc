// SPDX-License-Identifier: MIT
#include "tools/load/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace load {

// A value keeps its top kSubBits + 1 bits; the bits dropped choose the row. Below 2^(kSubBits + 1)
// nothing is dropped and the bucket is the value itself, so rows join without a gap.
std::size_t Histogram::bucket_of(std::uint64_t value) {
  const auto width = static_cast<unsigned>(std::bit_width(value));
  const unsigned dropped = width > kSubBits + 1 ? width - (kSubBits + 1) : 0;
  return (std::size_t{dropped} << kSubBits) + static_cast<std::size_t>(value >> dropped);
}

std::uint64_t Histogram::top_of(std::size_t bucket) {
  const std::size_t row = bucket >> kSubBits;
  if (row <= 1) return bucket;
  const std::size_t dropped = row - 1;
  const std::uint64_t kept = bucket - (dropped << kSubBits);
  return ((kept + 1) << dropped) - 1;
}

void Histogram::add(std::uint64_t value) {
  ++buckets_[bucket_of(value)];
  ++count_;
  max_ = std::max(max_, value);
}

void Histogram::merge(const Histogram& other) {
  for (std::size_t i = 0; i < kBuckets; ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  max_ = std::max(max_, other.max_);
}

std::uint64_t Histogram::at(double quantile) const {
  if (count_ == 0) return 0;
  const auto wanted = static_cast<std::uint64_t>(std::ceil(quantile * static_cast<double>(count_)));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    seen += buckets_[i];
    if (seen >= std::max<std::uint64_t>(wanted, 1)) return std::min(top_of(i), max_);
  }
  return max_;
}

}  // namespace load
