// SPDX-License-Identifier: MIT
/// Clients that are domains of a stand-in machine (tests/simxen), each with a xenstore ring.
///
/// Only the guest's side of a ring is here, played on the shared page itself, with the events that
/// Linux would send. The server introduces the domains, asked through its socket.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/simxen/guest.h"
#include "tools/load/connection.h"

namespace load {

class Guests {
 public:
  /// The server on this machine is asked through its socket, a connection at a time: it may be
  /// killed in between.
  Guests(const std::string& machine_dir, const std::string& socket_path);
  /// Ends the domains that are left.
  ~Guests();
  Guests(const Guests&) = delete;
  Guests& operator=(const Guests&) = delete;

  /// Makes domains 1 to `count` and has them introduced. They must be free.
  void introduce(unsigned count);
  /// The ring of an introduced domain, or of domain 0. One connection for each at a time.
  std::unique_ptr<Connection> connect(std::uint16_t domid);
  /// The connections that were notified, each once; none if there was no event in time.
  const std::vector<Connection*>& wait(std::chrono::milliseconds patience);
  /// Ends all domains at once; the server hears of it as Xen would tell.
  void destroy_all();

 private:
  class Ring;
  /// False: there was none in time.
  bool wait_for_event(std::chrono::steady_clock::time_point until) const;

  simxen::Machine machine_;
  simxen::GuestEvents events_;
  std::string socket_path_;
  std::vector<std::uint16_t> domids_;
  std::map<std::uint16_t, Ring*> rings_;
  std::vector<Connection*> notified_;
};

}  // namespace load
