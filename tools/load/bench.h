// SPDX-License-Identifier: MIT
/// What scenarios have in common: setting up, the clients to be measured and those beside them,
/// looking at what the server holds, and killing it. What cannot be set up ends the program.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tools/load/driver.h"
#include "tools/load/guests.h"
#include "tools/load/options.h"

namespace load {

inline constexpr unsigned kSetupInflight = 64;

/// Connections that only exist while something else is measured.
struct Background {
  std::vector<std::unique_ptr<Connection>> silent;
  std::vector<Lane> watchers;
};

/// A privileged connection, the server's pid, and the guests if there is a machine: one for each
/// client and each silent one. Made before all connections and lanes, and gone after them.
class Bench {
 public:
  explicit Bench(const Options& options);

  pid_t server() const { return server_; }
  /// Null: the clients are sockets.
  Guests* guests() const { return guests_.get(); }

  std::unique_ptr<Connection> connect(unsigned client);
  /// A lane for each client, with the session that `make(client)` gives.
  template <class Make>
  std::vector<Lane> make_lanes(Make make) {
    std::vector<Lane> lanes;
    lanes.reserve(options_.clients);
    for (unsigned client = 0; client < options_.clients; ++client) {
      lanes.emplace_back(connect(client), make(client));
    }
    return lanes;
  }
  /// Measures these lanes.
  Outcome run(std::vector<Lane>& lanes) {
    return Driver(lanes, server_, guests_.get()).run(options_);
  }

  void write(const std::string& path, std::string_view value);
  /// Permissions that guests need; nothing where there are none.
  void let(const std::string& path, const std::string& perms);
  /// Empty if there is no such node.
  std::string read(const std::string& path);
  void remove(const std::string& path);
  /// How many children a node has, by as many DIRECTORY_PART as it takes.
  std::uint64_t count_children(const std::string& path);
  /// Gives every client a directory of its own, holding the nodes 0 to `nodes` - 1.
  void make_directories();
  /// What the options say, already connected.
  Background make_background();

 private:
  Options options_;
  SocketConnection control_;
  pid_t server_;
  std::unique_ptr<Guests> guests_;
};

/// The domain that a client is, on a machine.
inline std::uint16_t domid_of(unsigned client) { return static_cast<std::uint16_t>(client + 1); }

/// Where a scenario writes, and where one client of it does.
std::string root_of(const Options& options);
std::string directory_of(const Options& options, unsigned client);

void sleep_for(double seconds);
/// Kills the process and waits until it is gone, all its descriptors closed.
void kill_and_wait(pid_t pid);
/// The pid in the pid file, once it is not `dead`.
pid_t wait_for_successor(const std::string& socket_path, pid_t dead);

}  // namespace load
