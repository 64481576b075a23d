// SPDX-License-Identifier: MIT
/// Where requests come from: at random from a seed, or from a script. Both keep
/// to the discipline of layout.h.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tools/crash/layout.h"
#include "tools/crash/protocol.h"

namespace crash {

/// One client's side of one connection after another.
class Traffic {
 public:
  virtual ~Traffic() = default;
  /// A new connection; `found` is the tree it starts with.
  virtual void connected(const Tree& found) = 0;
  /// The next request; none while a reply must come first, or at the end.
  virtual std::optional<Request> next() = 0;
  /// The reply (or error) to `request`, in order.
  virtual void replied(const Request& request, const Frame& frame) = 0;
  /// How many requests may be without an answer at once.
  virtual std::size_t window() const = 0;
};

/// Random traffic of one client for ever.
class RandomTraffic final : public Traffic {
 public:
  RandomTraffic(Region region, std::uint64_t seed);

  void connected(const Tree& found) override;
  std::optional<Request> next() override;
  void replied(const Request& request, const Frame& frame) override;
  std::size_t window() const override { return window_; }

 private:
  enum class Plan { kOwn, kOwnAndGroup, kReadGroup, kCount };
  enum class Phase { kIdle, kStarting, kInside, kCounting };

  Request idle_request();
  std::optional<Request> free_request();
  Request shared_request();
  Request outpost_request();
  Request perms_request();
  Request inside_request();
  Request end();
  void plan_transaction();
  std::optional<Request> take_planned();

  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }
  bool one_in(std::uint64_t n) { return below(n) == 0; }
  std::string some_path();
  std::string some_side_path();
  std::string fresh_value();
  std::vector<std::string> some_perms();

  Region region_;
  std::mt19937_64 random_;
  std::size_t window_ = 1;
  std::uint64_t values_ = 0;
  std::uint64_t outposts_made_ = 0;
  std::vector<std::string> outposts_;

  Phase phase_ = Phase::kIdle;
  Plan plan_ = Plan::kOwn;
  std::uint32_t tx_ = 0;
  std::deque<Request> planned_;  ///< the rest of the transaction under way
  unsigned abandoned_ = 0;       ///< transactions left open on this connection
  unsigned free_while_starting_ = 0;
};

/// A fixed list of requests. In it a `tx` other than 0 stands for the id that
/// the last START of this client was given.
class ScriptTraffic final : public Traffic {
 public:
  ScriptTraffic(std::vector<Request> script, std::size_t window)
      : script_(std::move(script)), window_(window) {}

  void connected(const Tree&) override {}
  std::optional<Request> next() override;
  void replied(const Request& request, const Frame& frame) override;
  std::size_t window() const override { return window_; }

 private:
  std::vector<Request> script_;
  std::size_t window_;
  std::size_t position_ = 0;
  std::optional<std::uint32_t> tx_;
};

}  // namespace crash
