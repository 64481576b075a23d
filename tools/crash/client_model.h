// SPDX-License-Identifier: MIT
/// The model of one client: what each of its requests must answer, and what its
/// region may hold after the server was cut down. It believes nothing that the
/// server says; what a request means it works out from the payload.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tools/crash/layout.h"
#include "tools/crash/perform.h"
#include "tools/crash/protocol.h"
#include "tools/crash/shared.h"
#include "tools/crash/tree.h"

namespace crash {

struct Statistics {
  std::uint64_t requests = 0;      ///< sent
  std::uint64_t acknowledged = 0;  ///< changes answered with OK
  std::uint64_t applied = 0;       ///< changes without an answer, found done
  std::uint64_t absent = 0;        ///< ... found not done
  std::uint64_t unclear = 0;       ///< ... that left nothing to tell by
  std::uint64_t committed = 0;     ///< transactions ended with OK
  std::uint64_t conflicts = 0;     ///< ... with EAGAIN
  std::uint64_t aborted = 0;       ///< ... by the client
  std::uint64_t events = 0;        ///< watch events
  std::uint64_t poisoned = 0;      ///< requests answered EIO
};

struct OpenTransaction {
  Tree work;  ///< the snapshot with the transaction's own writes
  Moment sent = 0;
  std::uint64_t index = 0;  ///< of its START
  /// Answers that another request of the same client may have made untrue.
  std::vector<std::pair<Request, Answer>> loose_reads;
  std::map<std::string, std::string> shared_writes;
  std::map<std::string, std::string> group_values;
};

struct State {
  Tree tree;
  std::set<unsigned> domains;  ///< introduced ones of the region
  std::map<std::uint32_t, OpenTransaction> open;
};

/// A state that is right after a cut: all requests before `length` have been
/// executed, none from it on; of their ENDs, those in `refused` with EAGAIN.
struct Candidate {
  State state;
  std::uint64_t length = 0;
  std::set<std::uint64_t> refused;

  bool has_done(std::uint64_t index) const { return index < length && !refused.contains(index); }
};

class ClientModel {
 public:
  /// Borrows `shared` and `statistics`.
  ClientModel(Region region, Shared& shared, Statistics& statistics)
      : region_(std::move(region)), shared_(shared), statistics_(statistics) {}

  const Region& region() const { return region_; }
  const State& state() const { return state_; }
  void begin(const Tree& whole) { state_.tree = region_.cut_out(whole); }

  void sent(std::uint32_t req_id, const Request& request, Moment now);

  /// Takes the next frame of the connection. Says what is wrong with it.
  std::optional<std::string> received(const Frame& frame, Moment now);

  /// After the connection was cut: every candidate whose region and domains are
  /// the ones found. Empty when there is none.
  std::vector<Candidate> matching(const Tree& found, const std::set<unsigned>& domains) const;

  /// What was expected instead, for a person: the closest candidate's difference
  /// and the last requests with their answers.
  std::string explain(const Tree& found, const std::set<unsigned>& domains) const;

  /// The last requests with their answers, for a person.
  std::string history() const;

  /// Goes on from one of `matching` (not empty); the connection is gone.
  void adopt(const std::vector<Candidate>& matching);

 private:
  struct Pending {
    Request request;
    std::uint32_t req_id = 0;
    std::uint64_t index = 0;
    Moment sent = 0;
    bool was_alone = false;  ///< nothing else was under way when it was sent
  };
  using Watch = std::pair<std::string, std::string>;  ///< path, token

  std::optional<std::string> event(const Frame& frame);
  std::optional<std::string> reply(const Pending& pending, const Frame& frame, Moment now);
  std::optional<std::string> start_reply(const Pending& pending, const Frame& frame);
  std::optional<std::string> end_reply(const Pending& pending, const Frame& frame, Moment now);
  std::optional<std::string> shared_reply(const Pending& pending, const Frame& frame, Moment now);
  std::optional<std::string> watch_reply(const Pending& pending, const Frame& frame);
  std::optional<std::string> missing_event(const Pending& pending) const;

  Answer perform(State& state, const Request& request) const;
  Answer perform_in(Tree& tree, const Request& request) const;
  Answer perform_domain(State& state, const Request& request) const;
  bool conflicts(const State& state, std::uint32_t tx) const;
  void finish(State& state, std::uint32_t tx, bool is_granted) const;
  void explore(const std::function<void(const Candidate&)>& visit) const;
  void count_unanswered(const std::vector<Candidate>& matching);
  void note(std::string line);

  Region region_;
  Shared& shared_;
  Statistics& statistics_;

  State state_;  ///< after the last request that was answered
  std::uint64_t next_index_ = 0;
  std::deque<Pending> pending_;
  std::set<std::uint32_t> used_ids_;  ///< transaction ids given to this connection
  /// Values that open transactions will write to registers, as sent.
  std::map<std::uint32_t, std::vector<std::pair<std::string, std::string>>> unsent_shared_;

  std::set<Watch> watches_;
  std::vector<Watch> initial_events_;
  std::vector<Watch> events_since_sent_;
  /// A watch event told that the requests before this one were executed.
  std::uint64_t least_length_ = 0;
  std::optional<std::uint64_t> told_commit_;
  std::deque<std::string> notes_;
};

}  // namespace crash
