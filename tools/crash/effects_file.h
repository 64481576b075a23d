// SPDX-License-Identifier: MIT
/// What tells the counting library (tests/crash/effects.cc) when to end the server.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/crash/effects_control.h"

namespace crash {

/// A number of an effect that no run reaches.
inline constexpr std::uint64_t kBeyondAllEffects = 1'000'000;

class Effects {
 public:
  /// Maps the file at `path`, which is made.
  explicit Effects(std::string path);
  Effects(const Effects&) = delete;
  Effects& operator=(const Effects&) = delete;
  ~Effects();

  bool is_open() const { return control_ != nullptr; }
  void disarm() { control_->is_armed = 0; }
  /// From now on effects are counted, from 1, and the server ends at `kill_at`.
  void arm(std::uint64_t kill_at, bool before);
  std::uint64_t count() const { return control_->count; }
  std::string last() const { return control_->last; }
  /// For a server with `libraries` preloaded, the counting one among them.
  std::vector<std::string> environment(const std::string& libraries) const;

 private:
  std::string path_;
  EffectsControl* control_ = nullptr;
};

}  // namespace crash
