// SPDX-License-Identifier: MIT
/// Runs any number of clients in one thread and measures them.
///
/// A client is a lane: a connection and a Session that says what to send next. With one socket the
/// driver blocks in recv(); with several it waits in epoll; with guests for their events. Requests
/// that become due together on a lane leave with one send(), or one notification.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "tools/load/connection.h"
#include "tools/load/guests.h"
#include "tools/load/histogram.h"
#include "tools/load/options.h"

namespace load {

enum class Step {
  kMore,   ///< the operation goes on
  kDone,   ///< it ended well
  kWrong,  ///< it ended with a reply that was not expected
};

/// What one client does. An operation is one or more requests; each request gets one reply, in the
/// order sent.
class Session {
 public:
  virtual ~Session() = default;
  /// Appends the first request of a new operation.
  virtual void begin(Outbox& out) = 0;
  /// Takes the next reply; appends what the operation sends next, if it goes on.
  virtual Step on_reply(const Frame& reply, Outbox& out) = 0;
};

struct Lane {
  Lane(std::unique_ptr<Connection> way, std::unique_ptr<Session> behaviour)
      : connection(std::move(way)), session(std::move(behaviour)) {}

  std::unique_ptr<Connection> connection;
  std::unique_ptr<Session> session;
  Outbox out;
  std::deque<std::uint64_t> begun_ns;  ///< when each operation on its way was begun
  std::uint32_t next_reply_id = 0;
  Histogram latency_ns;   ///< of operations that ended while measured or draining
  std::uint64_t ops = 0;  ///< ended well while measured
};

struct Outcome {
  std::uint64_t ops = 0;  ///< operations that ended well while measured
  double seconds = 0;
  std::uint64_t server_cpu_ns = 0;
  std::uint64_t client_cpu_ns = 0;
  std::uint64_t events = 0;  ///< watch events received, in all phases
  std::uint64_t errors = 0;  ///< unexpected replies, in all phases
  std::map<std::string, std::uint64_t> error_names;
  Histogram latency_ns;  ///< of all lanes
};

class Driver {
 public:
  /// `server` is the process whose time is counted; 0 for none. `guests`: the lanes are connections
  /// of theirs; null: all are sockets.
  Driver(std::vector<Lane>& lanes, pid_t server, Guests* guests);
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;
  ~Driver();

  /// Warms up, measures for the options' seconds (or operations, then without warm-up), and lets
  /// every operation that was begun come to its end. May be called again.
  Outcome run(const Options& options);

 private:
  enum class Phase { kWarmup, kMeasure, kDrain };

  void start();
  void advance(std::uint64_t now_ns);
  void begin_measuring(std::uint64_t now_ns);
  void end_measuring(std::uint64_t now_ns);
  /// The lanes with something to read, filled.
  const std::vector<Lane*>& wait();
  void wait_for_sockets();
  void wait_for_guests();
  void serve(Lane& lane, std::uint64_t now_ns);
  void begin(Lane& lane, std::uint64_t now_ns);
  void note_end(Lane& lane, Step step, const Frame& reply, std::uint64_t now_ns);
  void note_error(const std::string& name);
  bool may_begin() const;

  std::vector<Lane>& lanes_;
  pid_t server_;
  Guests* guests_;
  int epoll_;
  std::unordered_map<const Connection*, Lane*> by_connection_;
  std::vector<Lane*> ready_;

  Options options_;
  Phase phase_ = Phase::kWarmup;
  Outcome outcome_;
  std::uint64_t begun_ = 0;
  std::uint64_t on_their_way_ = 0;
  std::uint64_t started_ns_ = 0;
  std::uint64_t measured_from_ns_ = 0;
};

/// The steady clock, in ns.
std::uint64_t now_ns();

}  // namespace load
