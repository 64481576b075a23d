// SPDX-License-Identifier: MIT
/// Clients for whom no crash of the server exists, all of them playing on while
/// servers come and go; and what must be true whenever they rest.
#pragma once

#include <string>
#include <vector>

#include "tools/crash/ring_model.h"
#include "tools/crash/server.h"
#include "tools/crash/walk.h"

namespace crash {

class World {
 public:
  World() = default;
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  virtual ~World() = default;

  /// A first `server` serves `connection`: makes what is shared, and begins all clients.
  virtual Status set_up(Connection& connection, const Server& server) = 0;
  /// Everybody goes on until the process behind `server` is gone (true), or nobody
  /// has anything more to do.
  virtual store::Result<bool, std::string> run_until_dead(const Server& server) = 0;
  /// It was killed at that moment.
  virtual void killed(Clock::time_point at) = 0;
  /// Everybody comes to rest, with a server that nobody kills.
  virtual Status come_to_rest() = 0;
  /// What the server holds then, which must be what everybody was told. All go on.
  virtual Status check(const Walk& found) = 0;
  /// Whom a walk must ask about.
  virtual std::vector<unsigned> domids() const = 0;
  virtual const RingStatistics& statistics() const = 0;
};

}  // namespace crash
