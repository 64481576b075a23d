// SPDX-License-Identifier: MIT
// One scripted run a kill: the counting library ends the server before or after
// its n-th effect, for each n; and once more while it recovers from that.
#include <filesystem>

#include "tools/crash/each_effect.h"
#include "tools/crash/session.h"

namespace crash {
namespace {

/// Stands for the id of the client's latest transaction, see ScriptTraffic.
constexpr std::uint32_t kTx = 1;

// Everything that a region knows: creating, parents, overwriting, permissions,
// a transaction that removes and makes nodes, domains, a large value.
std::vector<Request> changes_script(const Region& region) {
  const std::string& top = region.root;
  const unsigned domid = region.first_domid;
  const std::string owner = std::to_string(domid);
  return {watch_request(Op::kWatch, top, "t"),
          write_request(top + "/a", "one"),
          write_request(top + "/a/b/c", "two"),
          path_request(Op::kMkdir, top + "/d"),
          set_perms_request(top + "/a", {"r0", "b7"}),
          write_request(top + "/a/e", "three"),
          start_request(),
          write_request(top + "/a/e", "four", kTx),
          path_request(Op::kRead, top + "/side/x", kTx),
          path_request(Op::kRm, top + "/a/b", kTx),
          write_request(top + "/f/g", "five", kTx),
          end_request(kTx, true),
          path_request(Op::kGetPerms, top + "/a/e"),
          introduce_request(domid),
          set_perms_request(top + "/f", {"n" + owner}),
          write_request(top + "/f/h", "six"),
          domain_request(Op::kRelease, domid),
          path_request(Op::kRead, top + "/f/h"),
          write_request(top + "/big", std::string(4000, 'x')),
          path_request(Op::kRm, top + "/a"),
          path_request(Op::kDirectory, top),
          start_request(),
          write_request(top + "/d/i", "never", kTx),
          end_request(kTx, false)};
}

// Registers, a group and outposts, several requests under way at once.
std::vector<Request> shared_script(const Region& region) {
  const std::string tag = "group." + std::to_string(region.client);
  std::vector<Request> script = {write_request(register_path(0), "r0"),
                                 write_request(region.outpost_prefix + "1", "out"),
                                 path_request(Op::kMkdir, region.outpost_prefix + "2"),
                                 write_request(register_path(0), "r1"),
                                 path_request(Op::kRm, region.outpost_prefix + "1"),
                                 start_request()};
  for (unsigned member = 0; member < kGroupSize; ++member)
    script.push_back(write_request(group_path(0, member), tag, kTx));
  script.push_back(write_request(region.root + "/with/group", tag, kTx));
  script.push_back(end_request(kTx, true));
  script.push_back(write_request(region.root + "/p/q/r", "deep"));
  script.push_back(write_request(region.root + "/p/s", "deep too"));
  script.push_back(path_request(Op::kRm, region.root + "/p"));
  script.push_back(write_request(register_path(1), "r2"));
  return script;
}

// Reads what the others write, so that an answer may tell of their changes.
std::vector<Request> reader_script(const Region& region) {
  std::vector<Request> script;
  for (unsigned round = 0; round < 4; ++round) {
    script.push_back(path_request(Op::kRead, register_path(0)));
    script.push_back(start_request());
    for (unsigned member = 0; member < kGroupSize; ++member)
      script.push_back(path_request(Op::kRead, group_path(0, member), kTx));
    script.push_back(write_request(region.root + "/seen", std::to_string(round), kTx));
    script.push_back(end_request(kTx, true));
    script.push_back(write_request(region.side + "/x", std::to_string(round)));
  }
  return script;
}

std::vector<Client> scripted_clients() {
  std::vector<Client> clients(3);
  for (unsigned i = 0; i < clients.size(); ++i) clients[i].region = client_region(i);
  clients[0].traffic = std::make_unique<ScriptTraffic>(changes_script(clients[0].region), 1);
  clients[1].traffic = std::make_unique<ScriptTraffic>(shared_script(clients[1].region), 4);
  clients[2].traffic = std::make_unique<ScriptTraffic>(reader_script(clients[2].region), 2);
  return clients;
}

/// One life of a server on a fresh directory, and what follows.
class Life {
 public:
  Life(const CampaignOptions& options, Effects& effects, Result& total)
      : options_(options),
        effects_(effects),
        total_(total),
        clients_(scripted_clients()),
        checker_({clients_[0].region, clients_[1].region, clients_[2].region}) {}

  /// Ends the server there (or, where it does not get so far, after the script), and
  /// checks.
  store::Result<Counted, std::string> run(const KillAt& at) {
    const Status done = run_all(at);
    add(checker_.statistics());
    if (done.has_value()) return counted_;
    return tl::unexpected(at.described(name_) + ": " + done.error());
  }

 private:
  Status run_all(const KillAt& at) {
    Server server(fresh_directory());
    const std::vector<std::string> environment = effects_.environment(options_.counting_library);
    effects_.disarm();
    if (Status started = server.start(environment); !started.has_value()) return started;
    auto connection = server.wait_served();
    if (!connection.has_value()) return failure(connection.error());
    auto walked = set_up(connection.value(), clients_);
    if (!walked.has_value()) return failure(walked.error());
    checker_.begin(walked.value());
    connection.value().close();
    if (Status found = server.find_server(); !found.has_value()) return found;

    effects_.arm(at.effect, at.before);
    if (Status told = talk(server, walked.value().tree); !told.has_value()) return told;
    if (at.recovery != 0) {
      if (Status hurt = interrupt_recovery(server, at.recovery); !hurt.has_value()) return hurt;
    }
    return look(server);
  }

  ServerOptions fresh_directory() const {
    ServerOptions server = options_.server;
    server.directory += "/run";
    std::filesystem::remove_all(server.directory);
    std::filesystem::create_directory(server.directory);
    return server;
  }

  // The script until it is cut, or to its end and then a kill of ours. The first
  // effects may end the server before anybody has connected.
  Status talk(Server& server, const Tree& found) {
    Round round;
    if (connect(clients_, server, found).has_value())
      round = run_clients(clients_, checker_, server);
    counted_.effects = effects_.count();
    name_ = effects_.last();
    effects_.disarm();
    if (round.outcome == Outcome::kWrong) return failure(round.wrong);
    return end(server, round.outcome == Outcome::kFinished);
  }

  Status end(Server& server, bool is_alive) {
    if (is_alive) server.kill_after(Microseconds{0}).join();
    if (!server.wait_dead(Milliseconds{10'000})) return failure("the server did not end");
    if (!server.was_killed()) return failure(server.obituary());
    ++total_.kills;
    return {};
  }

  Status interrupt_recovery(Server& server, std::uint64_t m) {
    effects_.arm(m, m % 2 == 0);
    if (Status started = server.start(effects_.environment(options_.counting_library));
        !started.has_value())
      return started;
    if (Status found = server.find_server(); !found.has_value()) return found;
    const auto connection = server.wait_served();
    counted_.recovery = effects_.count();
    effects_.disarm();
    if (connection.has_value()) return end(server, true);
    ++total_.kills_while_starting;
    return end(server, false);
  }

  Status look(Server& server) {
    if (Status started = server.start(); !started.has_value()) return started;
    auto connection = server.wait_served();
    if (!connection.has_value()) return failure(connection.error());
    const auto walked = walk(connection.value(), domids_of(clients_));
    if (!walked.has_value()) return failure(walked.error());
    if (Verdict wrong = checker_.check(walked.value())) return failure(*wrong);
    server.stop();
    return {};
  }

  void add(const Statistics& s) {
    Statistics& t = total_.statistics;
    t.requests += s.requests;
    t.acknowledged += s.acknowledged;
    t.applied += s.applied;
    t.absent += s.absent;
    t.unclear += s.unclear;
    t.committed += s.committed;
    t.conflicts += s.conflicts;
    t.aborted += s.aborted;
    t.events += s.events;
    t.poisoned += s.poisoned;
  }

  const CampaignOptions& options_;
  Effects& effects_;
  Result& total_;
  std::vector<Client> clients_;
  Checker checker_;
  Counted counted_;
  std::string name_;
};

}  // namespace

Result run_every_effect(const CampaignOptions& options) {
  return run_each_effect(options, 1,
                         [](const CampaignOptions& chosen, Effects& effects, Result& total,
                            const KillAt& at) { return Life(chosen, effects, total).run(at); });
}

}  // namespace crash
