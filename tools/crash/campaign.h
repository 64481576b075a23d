// SPDX-License-Identifier: MIT
/// The two ways to kill a server: at random instants, and after (or before) each
/// single effect that it has on its journal or its sockets.
#pragma once

#include <cstdint>
#include <string>

#include "tools/crash/client_model.h"
#include "tools/crash/server.h"

namespace crash {

struct CampaignOptions {
  ServerOptions server;
  std::uint64_t seed = 1;
  std::uint64_t kills = 300;
  unsigned clients = 6;
  unsigned guests = 0;
  /// A kill comes at a random instant of this time after the clients connect.
  Microseconds window{4000};
  /// Every effect only: the library that counts effects, and which of them to
  /// try (each `stride`-th).
  std::string counting_library;
  std::uint64_t stride = 1;
};

struct Result {
  std::uint64_t kills = 0;
  std::uint64_t kills_while_starting = 0;
  std::uint64_t effects = 0;  ///< every effect only: how many a run has
  Statistics statistics;
  std::string violation;  ///< empty: none was found
};

Result run_random_kills(const CampaignOptions& options);
Result run_every_effect(const CampaignOptions& options);

}  // namespace crash
