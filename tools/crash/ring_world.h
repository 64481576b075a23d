// SPDX-License-Identifier: MIT
/// A simxen machine with its guests, dom0's kernel and a toolstack, all of them
/// playing on while servers come and go; and what must be true whenever they rest.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/simxen/guest.h"
#include "tools/crash/publisher.h"
#include "tools/crash/ring_client.h"
#include "tools/crash/server.h"
#include "tools/crash/socket_caller.h"
#include "tools/crash/world.h"

namespace crash {

inline constexpr std::uint16_t kFirstGuestDomid = 3000;

class RingWorld : public World {
 public:
  /// Makes a machine in `<directory>/machine`.
  RingWorld(const std::string& directory, unsigned guests, std::uint64_t seed);

  /// "NAME=value" for a server on this machine; `libraries` are preloaded into it.
  std::vector<std::string> environment(const std::string& libraries) const;

  Status set_up(Connection& connection, const Server& server) override;
  store::Result<bool, std::string> run_until_dead(const Server& server) override;
  void killed(Clock::time_point at) override;
  Status come_to_rest() override;
  Status check(const Walk& found) override;
  std::vector<unsigned> domids() const override;
  const RingStatistics& statistics() const override { return statistics_; }

 protected:
  /// A step of what the toolstack does: true when it is done.
  using Step = std::function<bool()>;

  bool are_clients_finished() const;
  bool is_toolstack_idle() const { return steps_.empty(); }
  /// Nobody sleeps, and the publisher asks for so many changes only.
  void be_predictable(std::uint64_t changes);
  void add(std::string name, Step step) { steps_.push_back({std::move(name), std::move(step)}); }

  // What may happen to domains; each adds its steps.
  void destroy(const std::vector<std::size_t>& slots);
  void reuse(std::size_t slot, bool introduces_first);
  void die_slowly(std::size_t slot);
  void release(std::size_t slot);
  void shut_down(std::size_t slot);
  void introduce_again(std::size_t slot);
  void reconnect(std::size_t slot);

  /// Called when the toolstack has nothing to do.
  virtual void choose_action();
  /// The toolstack will never do anything more.
  virtual bool has_finished() const { return false; }
  virtual std::unique_ptr<RingTraffic> make_traffic(std::size_t slot, const RingIdentity& identity);

 private:
  struct NamedStep {
    std::string name;
    Step step;
  };

  Status pass(const Server* server, bool& is_dead);
  Status fail_if(Verdict wrong) const;
  void run_toolstack();
  /// `also_right`: an error that a repeated request may be answered.
  void add_call(const Request& request, const std::string& also_right = "");
  void add_introduction(std::size_t slot);
  void add_home(std::size_t slot);
  void add_wait_for_release(std::size_t slot);
  void add_begin(std::size_t slot);
  void add_build(std::size_t slot);
  void add_wait_for_feed_only(std::size_t slot);
  void make_domain(std::size_t slot);
  void begin_life(std::size_t slot);
  void begin_kernel();
  std::uint64_t special(const std::string& name, std::uint16_t domid) const;
  bool was_told_of_release(std::uint16_t domid) const;
  std::string home_of(std::size_t slot) const;
  RingIdentity identity_for(std::size_t slot);
  Status rest_until(const std::function<bool()>& is_done);
  std::string who_waits() const;
  Verdict check_specials() const;
  Verdict check_tree(const Walk& found);
  Tree rest_of(const Tree& whole) const;
  std::vector<RingClient*> present();

  simxen::Machine machine_;
  simxen::GuestEvents events_;
  std::mt19937_64 random_;
  const std::uint64_t seed_;
  RingStatistics statistics_;
  Counters counters_;
  Feeds feeds_;
  std::vector<std::shared_ptr<Feed>> all_feeds_;
  std::unique_ptr<RingClient> kernel_;
  std::vector<std::unique_ptr<RingClient>> slots_;
  std::vector<simxen::NewDomain> made_;
  std::vector<bool> introduced_;
  std::unique_ptr<Publisher> publisher_;
  Tree publisher_tree_;
  SocketCaller caller_;
  std::deque<NamedStep> steps_;
  Verdict wrong_step_;
  std::map<std::uint16_t, std::uint64_t> releases_;       ///< that must be told of
  std::map<std::uint16_t, std::uint64_t> introductions_;  ///< likewise
  std::uint64_t lives_ = 0;
  bool is_precise_ = true;  ///< as in RingIdentity
  bool is_predictable_ = false;
  bool is_resting_ = true;
  Clock::time_point progress_;
  std::uint64_t progress_mark_ = 0;
  Tree rest_;
};

}  // namespace crash
