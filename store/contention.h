// SPDX-License-Identifier: MIT
/// Fairness among transactions that keep conflicting.
///
/// Optimistic transactions alone let a busy writer, or luck, starve somebody for
/// ever (XSA-206). So whoever lost a conflict over a node queues for that node's
/// turn before starting again; while somebody has the turn, changes that others
/// would make to what it has touched wait. A turn ends with its transaction, or
/// after kTurnMax: nobody can hold others up by not finishing, and who let a turn
/// run out gets none for kPenalty. Of those who queue the first that can go on takes
/// the turn: one that does not read its answers holds up nobody behind it.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "store/ids.h"

namespace store {

class Contention {
 public:
  /// Microseconds of any steady clock; the caller reads it once a turn.
  using Time = std::uint64_t;
  static constexpr Time kTurnMax = 20'000;
  static constexpr Time kPenalty = 1'000'000;
  /// Whoever lost queues for its node for this long since the last loss there.
  static constexpr Time kMemory = 100'000;

  /// A commit was refused because of what `path` answers.
  void lost(ConnId conn, std::string_view path, Time now);

  /// May this connection's START go ahead now? If not it waits in the queue of
  /// its node; ask again when finished(), gone() or expire() names it. While anyone
  /// waits or has a turn, expire() has to be called at the latest after kTurnMax.
  bool may_start(ConnId conn, Time now);

  /// The transaction of the connection's turn ended, or it is gone. The
  /// connections that may try again now are appended to `wake`.
  void finished(ConnId conn, std::vector<ConnId>& wake);
  void gone(ConnId conn, std::vector<ConnId>& wake);

  /// Has the turn (may_start let it through).
  bool has_turn(ConnId conn) const { return turns_.contains(conn); }
  bool anyone_has_turn() const { return !turns_.empty(); }
  /// Connections that have a turn, for a look at what they touched.
  template <class Visit>
  void each_turn(Visit visit) const {
    for (const auto& [conn, turn] : turns_) visit(conn);
  }
  /// `conn` waits until the turn of `holder` is over.
  void wait_for(ConnId conn, ConnId holder);

  /// Ends the turns that took too long, and calls those again who queue for one that
  /// nobody has taken. Returns when to call again, 0: never.
  Time expire(Time now, std::vector<ConnId>& wake);

 private:
  struct Loser {
    std::string path;
    Time since = 0;
    Time no_turn_before = 0;
    bool queued = false;
  };
  struct Turn {
    std::string path;
    Time until;
    std::vector<ConnId> waiting;  ///< with changes held back
  };
  struct Queue {
    bool taken = false;
    std::deque<ConnId> order;
  };
  void end_turn(ConnId conn, std::vector<ConnId>& wake);
  static void call(const Queue& queue, std::vector<ConnId>& wake);
  void leave_queue(ConnId conn, Loser& loser);

  std::unordered_map<ConnId, Loser> losers_;
  std::unordered_map<ConnId, Turn> turns_;
  std::unordered_map<std::string, Queue> queues_;
};

}  // namespace store
