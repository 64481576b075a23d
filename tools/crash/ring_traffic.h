// SPDX-License-Identifier: MIT
/// What a client on a ring asks for: at random from a seed, or from a script. Both
/// keep to the discipline that makes RingModel's predictions possible: no private
/// node is changed outside of a transaction that will commit.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tools/crash/protocol.h"
#include "tools/crash/ring_model.h"

namespace crash {

enum class RingMode {
  kAll,
  kFeedOnly,  ///< before the stream is begun again: what can be found out afterwards
  kSilent,
};

class RingTraffic {
 public:
  virtual ~RingTraffic() = default;
  /// The next request; none while a reply must come first, or at the end.
  virtual std::optional<Request> next(const RingModel& model, RingMode mode) = 0;
  virtual void replied(const Request& request, const Frame& frame) = 0;
  /// The stream has begun again.
  virtual void restarted() = 0;
  /// All is quiet; `tree` is what the client's home holds.
  virtual void settled(const Tree& tree) = 0;
  /// Has nothing more to ask for, ever.
  virtual bool is_finished() const { return false; }
  virtual std::size_t window() const = 0;
};

/// The first requests of a client: its two directories, and watches on them.
std::vector<Request> opening_requests(const RingIdentity& identity);
/// Once these were answered: one whose answer is as long as may be.
Request large_question(const RingIdentity& identity);

class RandomRingTraffic final : public RingTraffic {
 public:
  /// `tag` is no other client's.
  RandomRingTraffic(RingIdentity identity, const Feeds& feeds, std::uint64_t seed, std::string tag);

  std::optional<Request> next(const RingModel& model, RingMode mode) override;
  void replied(const Request& request, const Frame& frame) override;
  void restarted() override;
  void settled(const Tree& tree) override;
  std::size_t window() const override { return window_; }

 private:
  enum class Phase { kIdle, kStarting, kInside, kCounting };

  std::optional<Request> free_request(const RingModel& model);
  std::optional<Request> idle_request(const RingModel& model);
  Request private_request(std::uint32_t tx);
  Request question();
  Request publish();
  Request watch_something();
  Request foreign_read(const RingModel& model);
  Request abandoned_request(const RingModel& model);
  Request start_over();
  void plan_transaction();
  void plan_counting_end(const Frame& frame);
  void add_watches();

  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }
  bool one_in(std::uint64_t n) { return below(n) == 0; }
  bool is_guest() const { return !identity_.creator.empty(); }
  std::string some_path();
  std::string shown(const std::string& path);
  std::string fresh_value(bool may_be_refused);
  std::vector<std::string> some_perms();
  std::string fresh_token();

  RingIdentity identity_;
  const Feeds& feeds_;
  std::mt19937_64 random_;
  const std::string tag_;
  std::size_t window_ = 4;
  std::uint64_t values_ = 0;
  std::uint64_t tokens_ = 0;

  Phase phase_ = Phase::kIdle;
  bool is_counting_ = false;
  std::uint32_t tx_ = 0;
  std::deque<Request> planned_;
  std::deque<Request> script_;
  std::vector<std::uint32_t> abandoned_;
  bool will_abandon_ = false;
  std::string counter_;  ///< payload of the READ of the counter that is being raised

  unsigned burst_ = 0;
  std::uint64_t epoch_ = 0;
  std::uint64_t in_epoch_ = 0;
  std::deque<std::string> old_epochs_;
  std::map<std::string, std::string> watched_;              ///< feeds, with the token
  std::vector<std::pair<std::string, std::string>> inner_;  ///< own watches
};

/// A fixed list of requests, after the opening ones and watches on the client's own
/// directories. In it a `tx` other than 0 stands for the id that the last START was
/// given.
class ScriptedRingTraffic final : public RingTraffic {
 public:
  ScriptedRingTraffic(RingIdentity identity, std::vector<Request> script, std::size_t window);

  std::optional<Request> next(const RingModel& model, RingMode mode) override;
  void replied(const Request& request, const Frame& frame) override;
  /// Of the script only the watches are done again, and a little is published.
  void restarted() override;
  void settled(const Tree&) override {}
  bool is_finished() const override { return script_.empty(); }
  std::size_t window() const override { return window_; }

 private:
  void add_watches();
  Request publish();

  RingIdentity identity_;
  std::deque<Request> script_;
  std::size_t window_;
  std::optional<std::uint32_t> tx_;
  unsigned published_ = 0;
  unsigned watches_ = 0;
};

}  // namespace crash
