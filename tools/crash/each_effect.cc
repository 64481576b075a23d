// SPDX-License-Identifier: MIT
#include "tools/crash/each_effect.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>

namespace crash {
namespace {

class EachEffect {
 public:
  EachEffect(const CampaignOptions& options, Effects& effects, const EffectRun& run)
      : options_(options), effects_(effects), run_(run) {}

  Result run(std::uint64_t places) {
    // A first run without a kill tells how many effects there are to try.
    const Counted all = one({kBeyondAllEffects, false, kBeyondAllEffects});
    result_.effects = all.effects;
    if (result_.violation.empty() && (all.effects == 0 || all.recovery == 0))
      result_.violation = "no effect was counted: is the counting library loaded?";
    if (is_clean()) kill_at_each(all.recovery);
    for (std::uint64_t place = 1; place <= places; ++place) {
      const std::uint64_t n = result_.effects * place / (places + 1);
      for (std::uint64_t m = place % options_.stride + 1; is_clean() && m <= all.recovery;
           m += options_.stride)
        one({n, false, m});
    }
    return result_;
  }

 private:
  bool is_clean() const { return result_.violation.empty(); }

  Counted one(const KillAt& at) {
    const auto counted = run_(options_, effects_, result_, at);
    if (counted.has_value()) return counted.value();
    result_.violation = counted.error();
    return {};
  }

  // The recovery's effects come in turn.
  void kill_at_each(std::uint64_t recovery) {
    std::uint64_t turn = 0;
    bool was_reached = true;
    for (std::uint64_t n = 1; was_reached && is_clean(); n += options_.stride) {
      was_reached = false;
      for (const bool before : {true, false}) {
        const std::uint64_t m = ++turn % 2 == 0 ? 1 + (turn / 2) % recovery : 0;
        const Counted counted = one({n, before, m});
        if (!is_clean()) return;
        was_reached = was_reached || counted.effects >= n;
        result_.effects = std::max(result_.effects, counted.effects);
      }
      if (n / options_.stride % 100 == 0)
        std::fprintf(stderr, "xs-crash: effect %llu of about %llu\n",
                     static_cast<unsigned long long>(n),
                     static_cast<unsigned long long>(result_.effects));
    }
  }

  const CampaignOptions& options_;
  Effects& effects_;
  const EffectRun& run_;
  Result result_;
};

}  // namespace

std::string KillAt::described(const std::string& name) const {
  return std::string("killed ") + (before ? "before" : "after") + " effect " +
         std::to_string(effect) + " (" + name + ")" +
         (recovery == 0 ? "" : ", then at effect " + std::to_string(recovery) + " of recovery");
}

Result run_each_effect(const CampaignOptions& options, std::uint64_t places, const EffectRun& run) {
  CampaignOptions chosen = options;
  chosen.counting_library = std::filesystem::absolute(options.counting_library).string();
  Effects effects(options.server.directory + "/effects");
  if (effects.is_open()) return EachEffect(chosen, effects, run).run(places);
  Result result;
  result.violation = "cannot map " + options.server.directory + "/effects";
  return result;
}

}  // namespace crash
