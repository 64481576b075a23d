// SPDX-License-Identifier: MIT
/// Ends a server at each of its effects in turn, whatever it serves.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "store/result.h"
#include "tools/crash/campaign.h"
#include "tools/crash/effects_file.h"

namespace crash {

/// At which effect a server is ended, and at which of the recovery the next one.
struct KillAt {
  std::uint64_t effect;    ///< from 1
  bool before;             ///< or right after it
  std::uint64_t recovery;  ///< from 1; 0: not

  /// "killed after effect 3 (...)", for people; `name` is that of the effect.
  std::string described(const std::string& name) const;
};

struct Counted {
  std::uint64_t effects = 0;   ///< until the first kill
  std::uint64_t recovery = 0;  ///< when `recovery` was larger than all of them
};

/// One life of a server on a fresh directory and what follows, checked; kills are
/// added to the result. Error: what is wrong.
using EffectRun = std::function<store::Result<Counted, std::string>(
    const CampaignOptions&, Effects&, Result&, const KillAt&)>;

/// Runs with a kill before and after each `stride`-th effect, every second time with
/// one in the recovery too; then with one at each effect of the recovery from a kill
/// at each of `places`, spread evenly.
Result run_each_effect(const CampaignOptions& options, std::uint64_t places, const EffectRun& run);

}  // namespace crash
