// SPDX-License-Identifier: MIT
/// The model of one client for whom no crash of the server exists (on a ring, or on
/// a socket that a keeper continues): its stream goes on, so each request is answered once, in
/// order, by what a plain tree says, and each watch event is told once, in its place.
///
/// What only this client changes (its home) is predicted exactly. What others
/// publish (feed.h) is predicted from the events received so far: they tell, at any
/// point of the stream, what had happened when the request there was executed.
/// Transactions that were open when the server was killed are doomed: they go on
/// answering and end with EAGAIN. Others may not fail.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tools/crash/counters.h"
#include "tools/crash/feed.h"
#include "tools/crash/perform.h"
#include "tools/crash/protocol.h"
#include "tools/crash/server.h"
#include "tools/crash/tree.h"
#include "tools/crash/verdict.h"

namespace crash {

struct RingStatistics {
  std::uint64_t requests = 0;
  std::uint64_t replies = 0;
  std::uint64_t large = 0;           ///< requests and replies longer than a ring
  std::uint64_t events = 0;          ///< all watch events
  std::uint64_t foreign_events = 0;  ///< ... caused by somebody else
  std::uint64_t committed = 0;
  std::uint64_t conflicts = 0;
  std::uint64_t aborted = 0;
  std::uint64_t doomed = 0;  ///< ended after a kill
  std::uint64_t deaths = 0;  ///< domains destroyed or released
  std::uint64_t shutdowns = 0;
  std::uint64_t introductions = 0;
  std::uint64_t reintroductions = 0;
  std::uint64_t reconnections = 0;
};

/// By the top of each.
using Feeds = std::map<std::string, std::shared_ptr<Feed>>;

/// Who a client is.
struct RingIdentity {
  std::string name;     ///< for a person
  std::string home;     ///< below which it alone changes things
  std::string creator;  ///< its domid as owner; "" for a privileged one
  std::shared_ptr<Feed> feed;
  /// The server tells with `@releaseDomain` which domain it was, and takes a commit
  /// for a conflict only if an answer would be another (C xenstored does neither).
  bool is_precise = true;
  bool has_watches = true;  ///< otherwise it never sets one

  std::string data() const { return home + "/data"; }
};

class RingModel {
 public:
  struct Watch {
    std::string path;
    std::string token;
    bool is_relative = false;
    std::shared_ptr<Feed> feed;  ///< somebody else's
    Feed::Cursor cursor;

    bool is_special() const { return path.starts_with('@'); }
  };

  /// `tree`: the home as others have made it. Borrows the rest.
  RingModel(RingIdentity identity, Tree tree, const Feeds& feeds, Counters& counters,
            RingStatistics& statistics);

  void sent(std::uint32_t req_id, const Request& request);
  Verdict received(const Frame& frame, Clock::time_point now);

  /// The server was killed at `at`, and is gone.
  void killed(Clock::time_point at);
  /// A server may have been killed at `at`; what is received from now on may come
  /// from the next one.
  void may_be_killed(Clock::time_point at);
  /// The stream has begun again: watches, transactions and all that was not
  /// answered are gone. Only changes of the feed may have been under way.
  void restarted();
  /// The domain is gone, or will be when the server hears of it.
  void ended();
  /// The stream has ended, and what the client had made stays.
  void cut_off();
  /// After cut_off(), when all is quiet: what was asked for without an answer was
  /// executed up to some request. Wrong: `found` is nothing that could come of it.
  Verdict resolve(const Tree& found);

  /// All requests were answered, all that happened elsewhere was waited for.
  Verdict check_complete() const;
  /// All is quiet: takes what happened in the feed into the tree.
  void settle();

  const RingIdentity& identity() const { return identity_; }
  const Tree& tree() const { return tree_; }
  const std::map<std::string, Watch>& watches() const { return watches_; }  ///< by token
  std::size_t unanswered() const { return pending_.size(); }
  bool has_only_feed_unanswered() const;
  /// Whether the transaction was certainly open when a server was killed.
  bool is_doomed(std::uint32_t tx) const;
  /// Special events received, by path, without the initial ones.
  const std::map<std::string, std::uint64_t>& specials() const { return specials_; }
  std::string history() const;

 private:
  enum class Fate { kAlive, kUnsure, kDoomed };
  struct Open {
    Tree work;
    Fate fate = Fate::kAlive;
    Clock::time_point since;
    std::vector<Request> changes;  ///< of private nodes, as they succeeded
    std::map<std::string, std::string> counters;
  };
  struct Pending {
    Request request;  ///< with its path made absolute
    std::uint32_t req_id = 0;
    std::uint64_t receipts = 0;  ///< events received when it was sent
    bool saw_kill = false;
    std::vector<std::size_t> feed_changes;
    std::shared_ptr<Feed> feed;  ///< that it is to watch, from `cursor` on
    Feed::Cursor cursor;
  };
  using Event = std::pair<std::string, std::string>;  ///< path, token
  /// What may be there after the stream has ended.
  struct Leftover {
    Tree tree;
    std::set<std::size_t> done;  ///< changes of the feed that had no answer
  };

  std::string absolute(const std::string& path) const;
  bool is_published(std::string_view path) const;
  Verdict event(const Frame& frame);
  Verdict own_event(const Watch& watch, const std::string& path);
  Verdict reply(const Pending& pending, const Frame& frame, Clock::time_point now);
  Verdict start_reply(const Pending& pending, const Answer& answer, Clock::time_point now);
  Verdict end_reply(const Pending& pending, const Answer& answer);
  Verdict commit(const Pending& pending, const Open& open);
  Verdict inside_reply(const Pending& pending, const Answer& answer, Open& open);
  Verdict watch_reply(const Pending& pending, const Answer& answer);
  Verdict foreign_reply(const Request& request, const Answer& answer) const;
  Verdict part_reply(const Request& request, const Frame& frame);
  Verdict feed_reply(const Pending& pending, const Answer& answer);
  Verdict private_reply(const Pending& pending, const Answer& answer);
  Answer perform(Tree& tree, const Request& request) const;
  bool is_too_large(const Request& request) const;

  void take_over(Tree& tree, const Tree& work) const;
  void note_possible_counts();
  std::vector<Leftover> leftovers() const;
  std::vector<Leftover> after(const Pending& pending, std::map<std::uint32_t, Open>& open,
                              std::vector<Leftover> before) const;
  bool answer_all(Feed& feed, const std::set<std::size_t>& done) const;

  std::vector<Event> fired_by(const Request& request, const Tree& before) const;
  Verdict check_events(const Pending& pending, const std::vector<Event>& required,
                       const std::vector<Event>& optional);
  std::vector<Event> required_of(const Open& open) const;
  std::vector<Event> optional_of(const Open& open) const;
  void touched(const std::string& path);
  void touched_all();
  void note(std::string line);

  RingIdentity identity_;
  const Feeds& feeds_;
  Counters& counters_;
  RingStatistics& statistics_;

  Tree tree_;
  std::deque<Pending> pending_;
  std::map<std::uint32_t, Open> open_;
  std::uint32_t last_tx_ = 0;
  std::map<std::uint32_t, std::vector<Event>> unpublished_;  ///< path, value; by transaction

  std::map<std::string, Watch> watches_;  ///< by token, none used twice
  std::optional<std::string> initial_;    ///< whose initial event must come next
  std::vector<Event> slot_;               ///< own events since the last reply
  std::map<Event, std::uint64_t> last_receipt_;
  std::uint64_t receipts_ = 0;
  Clock::time_point last_kill_;
  std::map<std::string, std::uint64_t> specials_;
  struct Generation {
    std::uint64_t number = 0;
    bool has_changed = false;
  };
  std::map<std::string, Generation> generations_;
  std::deque<std::string> notes_;
};

}  // namespace crash
