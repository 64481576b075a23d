// SPDX-License-Identifier: MIT
/// Counts the deaths of those who read the state at start, so that a state that
/// kills its reader is not served to it for ever.
///
/// The count lives in a mapped file of the area. Only signals that are the
/// reader's own doing are counted (a fault, an abort, too long a time), never a
/// SIGKILL, which says nothing about the state.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "journal/system.h"
#include "store/result.h"

namespace journal {

class LoadingCount {
 public:
  /// Maps the count of `file`, beginning with 0 if there is none.
  static store::Result<LoadingCount, std::string> open(const std::filesystem::path& file);

  std::uint32_t deaths() const { return *count(); }
  void clear() { *count() = 0; }

 private:
  friend class LoadingGuard;
  explicit LoadingCount(Mapping mapping) : mapping_(std::move(mapping)) {}
  volatile std::uint32_t* count() const {
    return static_cast<volatile std::uint32_t*>(mapping_.begin());
  }

  Mapping mapping_;
};

/// While it lives, a fatal signal raises the count before it kills, and the
/// process has `seconds` to live. One at a time; the alarm clock is its own.
class LoadingGuard {
 public:
  LoadingGuard(const LoadingCount& count, unsigned seconds);
  ~LoadingGuard();
  LoadingGuard(const LoadingGuard&) = delete;
  LoadingGuard& operator=(const LoadingGuard&) = delete;
};

}  // namespace journal
