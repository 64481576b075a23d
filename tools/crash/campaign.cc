// SPDX-License-Identifier: MIT
#include "tools/crash/campaign.h"

#include <cstdio>
#include <random>

#include "tools/crash/session.h"

namespace crash {
namespace {

/// How often a second kill follows, while the server is still coming back.
constexpr std::uint64_t kSecondKillOneIn = 8;
constexpr Microseconds kSecondKillWindow{3000};

class RandomKills {
 public:
  explicit RandomKills(const CampaignOptions& options);
  Result run();

 private:
  Status begin();
  store::Result<bool, std::string> strike();
  Status cycle();
  Status kill_while_starting();
  Status restart();
  Status look();

  Microseconds below(Microseconds limit) {
    return Microseconds(
        static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(limit.count() + 1)));
  }

  const CampaignOptions& options_;
  std::mt19937_64 random_;
  Server server_;
  std::vector<Client> clients_;
  Checker checker_;
  Walk found_;
  Result result_;
};

std::vector<Client> make_clients(const CampaignOptions& options) {
  std::vector<Client> clients;
  for (unsigned i = 0; i < options.clients; ++i) {
    Client client;
    client.region = client_region(i);
    client.traffic = std::make_unique<RandomTraffic>(client.region, options.seed);
    clients.push_back(std::move(client));
  }
  return clients;
}

std::vector<Region> regions_of(const std::vector<Client>& clients) {
  std::vector<Region> regions;
  regions.reserve(clients.size());
  for (const Client& client : clients) regions.push_back(client.region);
  return regions;
}

RandomKills::RandomKills(const CampaignOptions& options)
    : options_(options),
      random_(options.seed),
      server_(options.server),
      clients_(make_clients(options)),
      checker_(regions_of(clients_)) {}

Status RandomKills::begin() {
  auto started = server_.start();
  if (!started.has_value()) return started;
  auto connection = server_.wait_served();
  if (!connection.has_value()) return failure(connection.error());
  auto walked = set_up(connection.value(), clients_);
  if (!walked.has_value()) return failure(walked.error());
  found_ = std::move(walked.value());
  checker_.begin(found_);
  return server_.find_server();
}

Status RandomKills::restart() { return options_.server.has_keeper ? Status() : server_.start(); }

Status RandomKills::kill_while_starting() {
  auto found = server_.find_server();
  if (!found.has_value()) return found;
  server_.kill_after(below(kSecondKillWindow)).join();
  if (!server_.wait_dead(Milliseconds{10'000})) return failure("SIGKILL was not enough");
  ++result_.kills_while_starting;
  return restart();
}

Status RandomKills::look() {
  auto connection = server_.wait_served();
  if (!connection.has_value()) return failure(connection.error());
  auto walked = walk(connection.value(), domids_of(clients_));
  if (!walked.has_value()) return failure(walked.error());
  found_ = std::move(walked.value());
  if (Verdict wrong = checker_.check(found_)) return failure(*wrong);
  return {};
}

// One kill under load. True when some connections live on with the next server.
store::Result<bool, std::string> RandomKills::strike() {
  std::jthread killer = server_.kill_after(below(options_.window));
  const Round round = run_clients(clients_, checker_, server_);
  killer.join();
  if (round.outcome == Outcome::kWrong) return failure(round.wrong);
  if (round.first_end < server_.killed_at())
    return failure("the server ended a connection, or itself, before it was killed");
  if (!server_.wait_dead(Milliseconds{10'000})) return failure("SIGKILL was not enough");
  if (!options_.server.has_keeper && !server_.was_killed()) return failure(server_.obituary());
  ++result_.kills;
  return round.outcome == Outcome::kSurvived;
}

Status RandomKills::cycle() {
  if (Status connected = connect(clients_, server_, found_.tree); !connected.has_value())
    return connected;
  while (true) {
    const auto survived = strike();
    if (!survived.has_value()) return failure(survived.error());
    if (Status again = restart(); !again.has_value()) return again;
    if (!survived.value()) break;
    if (Status next = server_.find_server(); !next.has_value()) return next;
  }
  if (random_() % kSecondKillOneIn == 0) {
    if (Status again = kill_while_starting(); !again.has_value()) return again;
  }
  const Status looked = look();
  return looked.has_value() ? server_.find_server() : looked;
}

Result RandomKills::run() {
  auto done = begin();
  while (done.has_value() && result_.kills < options_.kills) {
    done = cycle();
    if (result_.kills % 1000 == 0)
      std::fprintf(stderr, "xs-crash: %llu of %llu kills\n",
                   static_cast<unsigned long long>(result_.kills),
                   static_cast<unsigned long long>(options_.kills));
  }
  if (!done.has_value())
    result_.violation = "after kill " + std::to_string(result_.kills) + ": " + done.error();
  result_.statistics = checker_.statistics();
  return result_;
}

}  // namespace

Result run_random_kills(const CampaignOptions& options) { return RandomKills(options).run(); }

}  // namespace crash
