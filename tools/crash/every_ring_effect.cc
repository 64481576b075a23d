// SPDX-License-Identifier: MIT
// One scripted run on rings a kill: the counting library ends the server before or
// after its n-th effect, for each n, and again while it recovers from that. The
// script goes on with the next server until it is done.
#include <filesystem>

#include "tools/crash/each_effect.h"
#include "tools/crash/ring_world.h"

namespace crash {
namespace {

constexpr std::uint32_t kTx = 1;  ///< see ScriptedRingTraffic
constexpr std::size_t kGuests = 2;
constexpr std::uint64_t kPublished = 5;
/// At how many places of the script each effect of the recovery is tried.
constexpr std::uint64_t kRecoveryPlaces = 6;

// What a ring is for: changes, answers and events, a transaction, what is longer
// than the ring both ways, watches on others.
std::vector<Request> script_for(const RingIdentity& identity, const std::string& other) {
  const std::string data = identity.data();
  const std::string top = identity.feed->top();
  const bool is_guest = !identity.creator.empty();
  const std::string owner = is_guest ? identity.creator : "0";
  return {watch_request(Op::kWatch, other, "other"),
          write_request(data + "/a", "one"),
          write_request(top + "/s/n1", "first"),
          write_request(data + "/a/b/c", "two"),
          set_perms_request(data + "/a", {"r" + owner, "b7"}),
          start_request(),
          write_request(data + "/a/e", "three", kTx),
          path_request(Op::kRm, data + "/a/b", kTx),
          write_request(top + "/t/n1", "by a transaction", kTx),
          end_request(kTx, true),
          write_request(data + "/large", std::string(is_guest ? 1900 : 4000, 'x')),
          path_request(Op::kRead, data + "/large"),
          path_request(Op::kRead, "/c/kernel/data/large"),
          watch_request(Op::kWatch, data + "/a", "inner"),
          path_request(Op::kRm, data + "/a"),
          path_request(Op::kDirectory, data),
          path_request(Op::kRm, top + "/s"),
          watch_request(Op::kUnwatch, data + "/a", "inner"),
          write_request(top + "/u/n1", "last"),
          start_request(),
          write_request(data + "/d", "never", kTx)};
}

class ScriptedWorld final : public RingWorld {
 public:
  explicit ScriptedWorld(const std::string& directory) : RingWorld(directory, kGuests, 1) {
    be_predictable(kPublished);
  }

 protected:
  void choose_action() override {
    if (!are_clients_finished()) return;
    switch (++turn_) {
      case 1:
        return introduce_again(0);
      case 2:
        return reconnect(1);
      case 3:
        return shut_down(0);
      case 4:
        return release(1);
      case 5:
        return die_slowly(0);
      case 6:
        return destroy({0, 1});
      case 7:
        return reuse(0, true);
      default:
        return;
    }
  }
  bool has_finished() const override { return turn_ > 7; }

  // Later lives are short: what their traffic is made of was tried already.
  std::unique_ptr<RingTraffic> make_traffic(std::size_t slot,
                                            const RingIdentity& identity) override {
    auto script = script_for(identity, slot == kGuests ? "/c/publisher" : "/c/kernel/p0");
    if (lives_++ > kGuests) script.resize(4);
    return std::make_unique<ScriptedRingTraffic>(identity, script, slot == 0 ? 4 : 1);
  }

 private:
  unsigned turn_ = 0;
  std::size_t lives_ = 0;
};

/// One life of a machine in a fresh directory.
class RingLife {
 public:
  RingLife(const CampaignOptions& options, Effects& effects, Result& total)
      : options_(options),
        effects_(effects),
        total_(total),
        server_options_(fresh_directory()),
        world_(server_options_.directory) {}

  /// Ends the server there, and checks at the script's end.
  store::Result<Counted, std::string> run(const KillAt& at) {
    const Status done = run_all(at);
    add(world_.statistics());
    if (done.has_value()) return counted_;
    return tl::unexpected(at.described(name_) + ": " + done.error());
  }

 private:
  ServerOptions fresh_directory() const {
    ServerOptions server = options_.server;
    server.directory += "/run";
    std::filesystem::remove_all(server.directory);
    std::filesystem::create_directory(server.directory);
    server.environment.push_back("SIMXEN=" + server.directory + "/machine");
    return server;
  }

  std::vector<std::string> counting() const {
    return effects_.environment(options_.counting_library + ":" + options_.simxen_library);
  }

  Status run_all(const KillAt& at) {
    Server server(server_options_);
    effects_.disarm();
    if (Status started = server.start(counting()); !started.has_value()) return started;
    auto connection = server.wait_served();
    if (!connection.has_value()) return failure(connection.error());
    if (Status made = world_.set_up(connection.value(), server); !made.has_value()) return made;
    if (Status found = server.find_server(); !found.has_value()) return found;

    effects_.arm(at.effect, at.before);
    if (Status played = play(server, at.recovery); !played.has_value()) return played;
    const Status right = look(server);
    server.stop();
    return right;
  }

  // The script to its end, with as many servers as it takes.
  Status play(Server& server, std::uint64_t m) {
    const auto first = world_.run_until_dead(server);
    counted_.effects = effects_.count();
    name_ = effects_.last();
    effects_.disarm();
    if (!first.has_value()) return failure(first.error());
    if (!first.value()) server.kill_after(Microseconds{0}).join();
    if (Status ended = bury(server); !ended.has_value()) return ended;
    if (m != 0) {
      const auto survived = recover_until(server, m);
      if (!survived.has_value()) return failure(survived.error());
      if (survived.value()) return {};
    }
    if (Status again = start(server, {"LD_PRELOAD=" + options_.simxen_library}); !again.has_value())
      return again;
    const auto last = world_.run_until_dead(server);
    if (!last.has_value()) return failure(last.error());
    return last.value() ? failure(server.obituary()) : Status();
  }

  // The next server, to its effect `m`. True: it has not so many, and the script is done.
  store::Result<bool, std::string> recover_until(Server& server, std::uint64_t m) {
    effects_.arm(m, m % 2 == 0);
    if (Status again = start(server, counting()); !again.has_value()) return failure(again.error());
    const bool is_served = server.wait_served().has_value();
    counted_.recovery = effects_.count();
    const auto is_dead = is_served ? world_.run_until_dead(server) : true;
    effects_.disarm();
    if (!is_dead.has_value()) return failure(is_dead.error());
    if (!is_dead.value()) return true;
    ++total_.kills_while_starting;
    const Status ended = bury(server);
    return ended.has_value() ? store::Result<bool, std::string>(false) : failure(ended.error());
  }

  static Status start(Server& server, const std::vector<std::string>& environment) {
    if (Status started = server.start(environment); !started.has_value()) return started;
    return server.find_server();
  }

  Status bury(Server& server) {
    if (!server.wait_dead(Milliseconds{10'000})) return failure("the server did not end");
    if (!server.was_killed()) return failure(server.obituary());
    world_.killed(Clock::now());
    ++total_.kills;
    return {};
  }

  Status look(Server& server) {
    if (Status rested = world_.come_to_rest(); !rested.has_value()) return rested;
    auto connection = server.wait_served();
    if (!connection.has_value()) return failure(connection.error());
    const auto walked = walk(connection.value(), world_.domids());
    if (!walked.has_value()) return failure(walked.error());
    return world_.check(walked.value());
  }

  void add(const RingStatistics& s) {
    RingStatistics& t = total_.rings;
    t.requests += s.requests;
    t.replies += s.replies;
    t.large += s.large;
    t.events += s.events;
    t.foreign_events += s.foreign_events;
    t.committed += s.committed;
    t.conflicts += s.conflicts;
    t.aborted += s.aborted;
    t.doomed += s.doomed;
    t.deaths += s.deaths;
    t.shutdowns += s.shutdowns;
    t.introductions += s.introductions;
    t.reintroductions += s.reintroductions;
    t.reconnections += s.reconnections;
  }

  const CampaignOptions& options_;
  Effects& effects_;
  Result& total_;
  const ServerOptions server_options_;
  ScriptedWorld world_;
  Counted counted_;
  std::string name_;
};

}  // namespace

Result run_every_ring_effect(const CampaignOptions& options) {
  return run_each_effect(options, kRecoveryPlaces,
                         [](const CampaignOptions& chosen, Effects& effects, Result& total,
                            const KillAt& at) { return RingLife(chosen, effects, total).run(at); });
}

}  // namespace crash
