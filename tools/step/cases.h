// SPDX-License-Identifier: MIT
/// What is asked of the server while it is stepped, and what must have come of it
/// wherever it was killed.
#pragma once

#include <cstddef>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tools/step/world.h"

namespace step {

/// When the server was killed, as far as the undisturbed run tells.
enum class Killed { kNever, kPerhapsBeforeCommit, kAfterCommit };

class Case {
 public:
  virtual ~Case() = default;
  virtual std::string_view name() const = 0;
  /// Whether it is about clients of the socket whom a keeper lets live on.
  virtual bool has_kept_sockets() const { return false; }
  /// Whether these are served by plain calls: one that the server dies in closes the client.
  virtual bool is_hurried() const { return false; }
  /// After so many turns of the server only time has anything to do.
  virtual std::size_t turns_max() const { return std::numeric_limits<std::size_t>::max(); }
  /// Once in each new world, before anything else.
  virtual void set_up(World& world) = 0;
  /// Before each run, all being quiet.
  virtual void prepare(World& world) = 0;
  /// Hands in the request; the server is held, or dead.
  virtual void request(World& world) = 0;
  /// Lets the guests do while the server is dead what it allows them to do.
  virtual void act_while_dead(World& world) = 0;
  /// The server runs again: sees the request through to its end and compares what
  /// everybody received with what they had to.
  virtual void check(World& world, Killed killed) = 0;
};

/// Clients are guests on rings, and sockets that end with the server.
std::vector<std::unique_ptr<Case>> ring_cases();
/// Clients are sockets that live on, behind a keeper.
std::vector<std::unique_ptr<Case>> socket_cases();

/// "v00000042", repeated to that size: always as long, so that runs are alike.
std::string numbered_value(unsigned number, std::size_t size);

}  // namespace step
