// SPDX-License-Identifier: MIT
#include <cstdio>
#include <random>
#include <utility>

#include "tools/crash/campaign.h"
#include "tools/crash/ring_world.h"
#include "tools/crash/socket_world.h"

namespace crash {
namespace {

/// How often a second kill follows, while the server is still coming back.
constexpr std::uint64_t kSecondKillOneIn = 4;
constexpr Microseconds kSecondKillWindow{3000};
/// How often everybody comes to rest after a kill, and everything is looked at.
constexpr std::uint64_t kRestOneIn = 2;
/// Of the sockets that a kill finds busy, one in so many may be closed.
constexpr std::uint64_t kClosedOneIn = 16;

class StreamKills {
 public:
  StreamKills(const CampaignOptions& options, ServerOptions server, World& world)
      : options_(options), random_(options.seed), world_(world), server_(std::move(server)) {}
  Result run();

 private:
  Status begin();
  Status strike(Microseconds window);
  Status cycle();
  Status look();

  const CampaignOptions& options_;
  std::mt19937_64 random_;
  World& world_;
  Server server_;
  Result result_;
};

Status StreamKills::begin() {
  if (Status started = server_.start(); !started.has_value()) return started;
  auto connection = server_.wait_served();
  if (!connection.has_value()) return failure(connection.error());
  if (Status done = world_.set_up(connection.value(), server_); !done.has_value()) return done;
  return server_.find_server();
}

// One kill, with everybody playing on until the server is gone.
Status StreamKills::strike(Microseconds window) {
  const auto limit = static_cast<std::uint64_t>(window.count() + 1);
  std::jthread killer =
      server_.kill_after(Microseconds(static_cast<std::int64_t>(random_() % limit)));
  const auto status = world_.run_until_dead(server_);
  const auto seen = Clock::now();
  killer.join();
  if (!status.has_value()) return failure(status.error());
  if (seen < server_.killed_at()) return failure(server_.obituary());
  if (!options_.server.has_keeper && !server_.was_killed()) return failure(server_.obituary());
  world_.killed(server_.killed_at());
  if (options_.server.has_keeper) return {};
  return server_.start();
}

Status StreamKills::look() {
  if (Status rested = world_.come_to_rest(); !rested.has_value()) return rested;
  auto connection = server_.wait_served();
  if (!connection.has_value()) return failure(connection.error());
  const auto walked = walk(connection.value(), world_.domids());
  if (!walked.has_value()) return failure(walked.error());
  return world_.check(walked.value());
}

Status StreamKills::cycle() {
  if (Status struck = strike(options_.window); !struck.has_value()) return struck;
  ++result_.kills;
  while (random_() % kSecondKillOneIn == 0) {
    if (Status found = server_.find_server(); !found.has_value()) return found;
    if (Status again = strike(kSecondKillWindow); !again.has_value()) return again;
    ++result_.kills_while_starting;
  }
  if (random_() % kRestOneIn == 0) {
    if (Status right = look(); !right.has_value()) return right;
  }
  return server_.find_server();
}

Result StreamKills::run() {
  Status done = begin();
  while (done.has_value() && result_.kills + result_.kills_while_starting < options_.kills) {
    done = cycle();
    if (result_.kills % 1000 == 0)
      std::fprintf(stderr, "xs-crash: %llu kills\n",
                   static_cast<unsigned long long>(result_.kills));
  }
  if (done.has_value()) done = look();
  if (!done.has_value())
    result_.violation = "after kill " + std::to_string(result_.kills) + " and " +
                        std::to_string(result_.kills_while_starting) +
                        " while starting: " + done.error();
  result_.rings = world_.statistics();
  return result_;
}

}  // namespace

Result run_random_ring_kills(const CampaignOptions& options) {
  RingWorld world(options.server.directory, options.guests, options.seed);
  ServerOptions server = options.server;
  for (std::string& variable : world.environment(options.simxen_library))
    server.environment.push_back(std::move(variable));
  return StreamKills(options, std::move(server), world).run();
}

Result run_random_socket_kills(const CampaignOptions& options) {
  SocketWorld world(options);
  ServerOptions server = options.server;
  server.arguments.push_back("--sure-rate=" + std::to_string(options.sure_rate));
  Result result = StreamKills(options, std::move(server), world).run();
  const SocketStatistics& sockets = result.sockets = world.sockets();
  if (result.violation.empty() && sockets.closed > sockets.busy_at_kill / kClosedOneIn)
    result.violation = std::to_string(sockets.closed) + " connections were closed, of " +
                       std::to_string(sockets.busy_at_kill) + " that a kill found busy";
  const std::uint64_t closed_max =
      options.is_hurried() ? result.kills + result.kills_while_starting : 0;
  if (result.violation.empty() && sockets.closed_kept > closed_max)
    result.violation = std::to_string(sockets.closed_kept) + " kept connections were closed";
  return result;
}

}  // namespace crash
