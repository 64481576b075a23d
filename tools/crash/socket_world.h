// SPDX-License-Identifier: MIT
/// Clients on unix sockets of a server with a keeper, which go on while servers come
/// and go. Each has a home `/c/<i>/l<life>`; a life ends when a newcomer leaves, or when
/// the server closes the connection, which a crash may do to a client that was busy.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tools/crash/campaign.h"
#include "tools/crash/socket_client.h"
#include "tools/crash/world.h"

namespace crash {

class SocketWorld final : public World {
 public:
  explicit SocketWorld(const CampaignOptions& options);

  /// Returns when all are kept and have played for `calm`.
  Status set_up(Connection& connection, const Server& server) override;
  store::Result<bool, std::string> run_until_dead(const Server& server) override;
  void killed(Clock::time_point at) override;
  Status come_to_rest() override;
  Status check(const Walk& found) override;
  std::vector<unsigned> domids() const override { return {}; }
  const RingStatistics& statistics() const override { return statistics_; }
  const SocketStatistics& sockets() const { return sockets_; }

 private:
  /// A connection that was closed.
  struct End {
    std::string who;
    TimeSpan life;
    BusyTimes busy;
  };

  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }
  bool one_in(std::uint64_t n) { return below(n) == 0; }
  Status make_shared_nodes(Connection& connection);
  bool is_newcomer(std::size_t i) const { return i >= lasting_; }
  Verdict begin_life(std::size_t i);
  /// Ends the client's life and begins the next.
  Verdict end_life(std::size_t i);
  /// The server has done so.
  Verdict closed(std::size_t i);
  Verdict let_nap(SocketClient& client);
  void let_rest(std::size_t i);
  Verdict act_up(std::size_t i);
  Status pass(const Server* server, bool& is_dead);
  Status go_on_until(const std::function<bool()>& is_done);
  Verdict judge_ends();
  std::string against_kills(const TimeSpan& span) const;
  Verdict check_streams(const Tree& found);
  Verdict check_tree(const Walk& found);
  Status remove_past();
  std::string who_waits() const;

  const std::string socket_path_;
  const std::uint64_t seed_;
  const Milliseconds calm_;
  const bool is_hurried_;
  const std::size_t lasting_;  ///< so many never leave; the others are newcomers
  std::mt19937_64 random_;
  const Server* server_ = nullptr;
  RingStatistics statistics_;
  SocketStatistics sockets_;
  Counters counters_;
  Feeds feeds_;
  std::vector<std::unique_ptr<SocketClient>> clients_;
  std::vector<std::unique_ptr<RingModel>> past_;  ///< of lives that ended since the last rest
  std::vector<End> ends_;                         ///< that nobody has judged
  std::deque<TimeSpan> kills_;                    ///< the last ones
  Verdict wrong_;
  std::uint64_t lives_ = 0;
  bool is_resting_ = true;
  Clock::time_point progress_;
  std::uint64_t progress_mark_ = 0;
  Tree shared_;  ///< what is nobody's home
};

}  // namespace crash
