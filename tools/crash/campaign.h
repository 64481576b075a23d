// SPDX-License-Identifier: MIT
/// The two ways to kill a server: at random instants, and after (or before) each
/// single effect that it has on its journal or its sockets.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include "tools/crash/client_model.h"
#include "tools/crash/ring_model.h"
#include "tools/crash/server.h"

namespace crash {

struct CampaignOptions {
  ServerOptions server;
  std::uint64_t seed = 1;
  std::uint64_t kills = 300;
  unsigned clients = 6;
  unsigned guests = 0;
  /// Clients on sockets that a keeper continues; no other kind beside them.
  unsigned sockets = 0;
  /// Beside them, such clients as leave and come again, whatever is under way.
  unsigned newcomers = 0;
  /// The daemon's option: beyond so many requests a second a kill may close one that is kept.
  std::uint32_t sure_rate = kNeverHurried;
  static constexpr std::uint32_t kNeverHurried = std::numeric_limits<std::int32_t>::max();
  bool is_hurried() const { return sure_rate != kNeverHurried; }
  /// How long these play before the first kill.
  Milliseconds calm{300};
  /// On a machine with rings: `guests` of them, and dom0's kernel.
  bool has_rings = false;
  std::string simxen_library;
  /// A kill comes at a random instant of this time after the clients connect.
  Microseconds window{4000};
  /// Every effect only: the library that counts effects, and which of them to
  /// try (each `stride`-th).
  std::string counting_library;
  std::uint64_t stride = 1;
};

/// Of clients on sockets that are continued.
struct SocketStatistics {
  std::uint64_t busy_at_kill = 0;  ///< that had something without an answer, summed over kills
  std::uint64_t closed = 0;
  std::uint64_t closed_kept = 0;       ///< that were certainly kept; newcomers included
  std::uint64_t newcomers_closed = 0;  ///< besides `closed`
  std::uint64_t newcomers_left = 0;    ///< ended by the client
};

struct Result {
  std::uint64_t kills = 0;
  std::uint64_t kills_while_starting = 0;
  std::uint64_t effects = 0;  ///< every effect only: how many a run has
  Statistics statistics;
  RingStatistics rings;
  SocketStatistics sockets;
  std::string violation;  ///< empty: none was found
};

Result run_random_kills(const CampaignOptions& options);
Result run_every_effect(const CampaignOptions& options);
/// The same with clients on rings.
Result run_random_ring_kills(const CampaignOptions& options);
Result run_every_ring_effect(const CampaignOptions& options);
/// Random kills under clients on sockets that live on.
Result run_random_socket_kills(const CampaignOptions& options);

}  // namespace crash
