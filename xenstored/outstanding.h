// SPDX-License-Identifier: MIT
/// A domain's requests of which something has not arrived yet: their own reply,
/// or a watch event that they caused on any connection (4.17's "outstanding").
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

#include "store/ids.h"

namespace xenstored {

/// Which request of which connection a queued message belongs to. Connection 0:
/// nobody counts it.
struct Cause {
  store::ConnId conn{};
  std::uint64_t request = 0;
};

class Outstanding {
 public:
  /// The next request; `hold` and `release` know it by the number given here.
  std::uint64_t begin() {
    pending_.push_back(0);
    return first_ + pending_.size() - 1;
  }
  /// One more message of this request waits for somebody.
  void hold(std::uint64_t request) {
    if (pending_[request - first_]++ == 0) ++count_;
  }
  /// One of them has arrived, or never will.
  void release(std::uint64_t request) {
    if (--pending_[request - first_] != 0) return;
    --count_;
    while (!pending_.empty() && pending_.front() == 0) {
      pending_.pop_front();
      ++first_;
    }
  }
  /// Requests with something waiting.
  std::size_t size() const { return count_; }

 private:
  std::uint64_t first_ = 0;            ///< number of the first in pending_
  std::deque<std::uint32_t> pending_;  ///< messages waiting, by request
  std::size_t count_ = 0;
};

}  // namespace xenstored
