// SPDX-License-Identifier: MIT
#include "tools/crash/ring_model.h"

#include <algorithm>
#include <charconv>

namespace crash {
namespace {

constexpr std::size_t kNotes = 60;
constexpr std::size_t kRingBytes = 1024;
constexpr std::size_t kHeaderBytes = 16;
/// How many a domain may have open (quota "transactions": more than 10 is too many).
constexpr std::size_t kGuestTransactions = 11;
/// A guest's value longer than this cannot fit into its quota "node-size"; traffic
/// sends none between this and what fits for certain.
constexpr std::size_t kGuestValueMax = 2048;

std::optional<std::uint64_t> number_of(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return {};
  return number;
}

Verdict differs(const Answer& expected, const Answer& found) {
  if (expected == found) return {};
  return "answered " + show(found) + ", expected " + show(expected);
}

std::uint64_t count_of_large(std::size_t payload) {
  return payload + kHeaderBytes > kRingBytes ? 1 : 0;
}

}  // namespace

RingModel::RingModel(RingIdentity identity, Tree tree, const Feeds& feeds, Counters& counters,
                     RingStatistics& statistics)
    : identity_(std::move(identity)),
      feeds_(feeds),
      counters_(counters),
      statistics_(statistics),
      tree_(std::move(tree)) {}

std::string RingModel::absolute(const std::string& path) const {
  if (path.starts_with('/') || path.starts_with('@')) return path;
  return path.empty() ? identity_.home : identity_.home + "/" + path;
}

bool RingModel::is_published(std::string_view path) const {
  return path != identity_.feed->top() && is_within(path, identity_.feed->top());
}

void RingModel::sent(std::uint32_t req_id, const Request& request) {
  ++statistics_.requests;
  statistics_.large += count_of_large(request.payload.size());
  Pending pending{request, req_id, receipts_, false, {}, nullptr, {}};
  const std::string path = absolute(path_of(request));
  if (has_path(request.op)) pending.request.payload.replace(0, path_of(request).size(), path);
  Feed& feed = *identity_.feed;
  if (request.op == Op::kWrite && is_published(path)) {
    const std::string value(value_of(request));
    if (request.tx == 0) {
      pending.feed_changes.push_back(feed.write(path, value));
    } else {
      unpublished_[request.tx].emplace_back(path, value);
    }
  }
  if (request.op == Op::kRm && is_published(path))
    pending.feed_changes.push_back(feed.remove(path));
  if (request.op == Op::kTransactionEnd) {
    const auto writes = unpublished_.extract(request.tx);
    for (std::size_t i = 0; is_commit(request) && !writes.empty() && i < writes.mapped().size();
         ++i)
      pending.feed_changes.push_back(
          feed.write(writes.mapped()[i].first, writes.mapped()[i].second));
  }
  if (request.op == Op::kWatch && feeds_.contains(path) && path != feed.top()) {
    pending.feed = feeds_.at(path);
    pending.cursor = pending.feed->begin_watching();
  }
  pending_.push_back(std::move(pending));
}

Verdict RingModel::received(const Frame& frame, Clock::time_point now) {
  statistics_.large += count_of_large(frame.payload.size());
  if (frame.type == Op::kWatchEvent) return event(frame);
  if (initial_) return "no initial event of the watch with token " + *initial_;
  if (pending_.empty()) return "a reply to nothing: " + text(frame);
  const Pending pending = std::move(pending_.front());
  pending_.pop_front();
  ++statistics_.replies;
  note(text(pending.request) + "  ->  " + text(frame));
  if (frame.req_id != pending.req_id || frame.tx != pending.request.tx)
    return "a reply with request id " + std::to_string(frame.req_id) + " and transaction " +
           std::to_string(frame.tx) + ", expected was one to request id " +
           std::to_string(pending.req_id) + ": " + text(pending.request);
  if (frame.type != Op::kError && frame.type != pending.request.op)
    return "a reply of another type to " + text(pending.request) + ": " + text(frame);
  Verdict wrong = reply(pending, frame, now);
  if (!wrong && !slot_.empty()) wrong = check_events(pending, {}, {});
  slot_.clear();
  if (wrong) *wrong += "\n  request: " + text(pending.request);
  return wrong;
}

Verdict RingModel::reply(const Pending& pending, const Frame& frame, Clock::time_point now) {
  const Request& request = pending.request;
  const Answer answer = answer_of(frame);
  if (request.op == Op::kTransactionStart) return start_reply(pending, answer, now);
  if (request.op == Op::kTransactionEnd) return end_reply(pending, answer);
  if (request.op == Op::kWatch || request.op == Op::kUnwatch) return watch_reply(pending, answer);
  if (request.op == Op::kResetWatches) {
    watches_.clear();
    open_.clear();
    unpublished_.clear();
    return differs(ok_answer(), answer);
  }
  if (request.tx != 0) {
    const auto open = open_.find(request.tx);
    if (open == open_.end()) return differs({"ENOENT", ""}, answer);
    return inside_reply(pending, answer, open->second);
  }
  const std::string path = path_of(request);
  if (is_published(path)) return feed_reply(pending, answer);
  if (!is_within(path, identity_.home)) return foreign_reply(request, answer);
  if (request.op == Op::kDirectoryPart) return part_reply(request, frame);
  return private_reply(pending, answer);
}

Verdict RingModel::start_reply(const Pending& pending, const Answer& answer,
                               Clock::time_point now) {
  if (!identity_.creator.empty() && open_.size() >= kGuestTransactions)
    return differs({"ENOSPC", ""}, answer);
  const auto words = split(answer.payload);
  const auto id = words.size() == 1 ? number_of(words.front()) : std::nullopt;
  if (!answer.error.empty() || !id) return "no transaction id: " + show(answer);
  if (*id != last_tx_ + 1)
    return "transaction id " + words.front() + " after " + std::to_string(last_tx_) +
           (*id <= last_tx_ ? ": given twice" : ": a START was executed twice, or one lost");
  last_tx_ = static_cast<std::uint32_t>(*id);
  open_[last_tx_] = {tree_, pending.saw_kill ? Fate::kUnsure : Fate::kAlive, now, {}, {}};
  return {};
}

Verdict RingModel::end_reply(const Pending& pending, const Answer& answer) {
  const auto found = open_.extract(pending.request.tx);
  if (found.empty()) return "END of a transaction that was not open: " + show(answer);
  Open open = found.mapped();
  if (open.fate != Fate::kAlive) ++statistics_.doomed;
  if (!is_commit(pending.request)) {
    ++statistics_.aborted;
    return differs(ok_answer(), answer);
  }
  const bool was_done = answer == ok_answer();
  for (const std::size_t change : pending.feed_changes) {
    if (Verdict wrong = identity_.feed->answered(change, was_done)) return wrong;
  }
  if (was_done) {
    if (open.fate == Fate::kDoomed) return "a transaction that a kill has doomed was committed";
    return commit(pending, open);
  }
  if (answer.error != "EAGAIN") return "a commit answered " + show(answer);
  if (open.fate == Fate::kAlive && open.counters.empty() && identity_.is_precise)
    return "EAGAIN, but nobody else has touched what the transaction asked about";
  ++statistics_.conflicts;
  return {};
}

// Its private nodes are as the transaction left them; of what is published the feed
// takes care.
Verdict RingModel::commit(const Pending& pending, const Open& open) {
  ++statistics_.committed;
  for (const auto& [path, value] : open.counters) {
    if (Verdict wrong = counters_.committed(path, value)) return wrong;
  }
  std::vector<Event> required = required_of(open);
  const std::vector<Event> optional = optional_of(open);
  for (const std::size_t change : pending.feed_changes) {
    const Request write = write_request(identity_.feed->path_of_change(change), "");
    const auto fired = fired_by(write, tree_);
    required.insert(required.end(), fired.begin(), fired.end());
  }
  if (Verdict wrong = check_events(pending, required, optional)) return wrong;
  take_over(tree_, open.work);
  touched_all();
  return {};
}

void RingModel::take_over(Tree& tree, const Tree& work) const {
  const std::string data = identity_.data();
  std::erase_if(tree, [&](const auto& entry) { return is_within(entry.first, data); });
  for (const auto& [path, node] : work) {
    if (is_within(path, data)) tree.insert_or_assign(path, node);
  }
}

Verdict RingModel::inside_reply(const Pending& pending, const Answer& answer, Open& open) {
  const Request& request = pending.request;
  const std::string path = path_of(request);
  if (open.fate != Fate::kDoomed) {
    if (is_ring_counter(path)) {
      if (!answer.error.empty()) return "answered " + show(answer);
      if (request.op == Op::kWrite) open.counters[path] = value_of(request);
      return {};
    }
    const bool is_public = is_published(path);
    const bool is_news = request.op != Op::kMkdir || !open.work.contains(path);
    const Answer expected = is_public ? ok_answer() : perform(open.work, request);
    if (answer == expected) {
      if (!is_public && changes_state(request.op) && expected.error.empty() && is_news)
        open.changes.push_back(request);
      return {};
    }
    if (open.fate == Fate::kAlive) return differs(expected, answer);
    open.fate = Fate::kDoomed;
  }
  // Doomed: alive to all appearances, but what was written before is forgotten.
  const bool must_succeed =
      request.op == Op::kWrite || request.op == Op::kMkdir || is_ring_counter(path);
  if (answer.error.empty() || (!must_succeed && answer.error == "ENOENT")) return {};
  return "inside a transaction that a kill has doomed: " + answer.error;
}

Verdict RingModel::watch_reply(const Pending& pending, const Answer& answer) {
  const auto words = split(pending.request.payload);
  const std::string path = absolute(words.at(0));
  const std::string& token = words.at(1);
  const auto known = watches_.find(token);
  if (pending.request.op == Op::kUnwatch) {
    const bool is_there = known != watches_.end() && known->second.path == path;
    if (is_there) watches_.erase(known);
    return differs(is_there ? ok_answer() : Answer{"ENOENT", ""}, answer);
  }
  if (known != watches_.end()) return differs({"EEXIST", ""}, answer);
  Watch watch{path, token, path != words.at(0), pending.feed, pending.cursor};
  if (watch.feed != nullptr) watch.feed->watching(watch.cursor);
  watches_[token] = watch;
  initial_ = token;
  return differs(ok_answer(), answer);
}

// What somebody else publishes, at the moment to which the events have led.
Verdict RingModel::foreign_reply(const Request& request, const Answer& answer) const {
  const std::string path = path_of(request);
  const auto watch = std::find_if(watches_.begin(), watches_.end(), [&](const auto& entry) {
    return entry.second.feed != nullptr && is_within(path, entry.second.path);
  });
  if (watch == watches_.end() || !watch->second.cursor.next) {
    const bool is_plausible =
        answer.error.empty() || answer.error == "ENOENT" || answer.error == "EACCES";
    return is_plausible ? std::nullopt : Verdict("answered " + answer.error);
  }
  const Feed& feed = *watch->second.feed;
  const Feed::Cursor& cursor = watch->second.cursor;
  const Feed::Seen seen = feed.value_at(cursor, path);
  const bool is_hidden = feed.is_past_end(cursor) && !identity_.creator.empty();
  if (cursor.may_lack_end && (answer.error == "ENOENT" || answer.error == "EACCES")) return {};
  if (seen.value && (seen.is_certain || answer.error != "ENOENT"))
    return differs({"", *seen.value}, answer);
  Verdict wrong = differs({is_hidden ? "EACCES" : "ENOENT", ""}, answer);
  if (wrong) *wrong += " after the events that were received";
  return wrong;
}

Verdict RingModel::feed_reply(const Pending& pending, const Answer& answer) {
  if (Verdict wrong = differs(ok_answer(), answer)) return wrong;
  for (const std::size_t change : pending.feed_changes) {
    if (Verdict wrong = identity_.feed->answered(change, true)) return wrong;
  }
  // The feed is not in the tree yet, and what it removes is there.
  Request fires = pending.request;
  fires.op = Op::kWrite;
  return check_events(pending, fired_by(fires, tree_), {});
}

Verdict RingModel::part_reply(const Request& request, const Frame& frame) {
  const std::string path = path_of(request);
  const auto node = tree_.find(path);
  if (node == tree_.end()) return differs({"ENOENT", ""}, answer_of(frame));
  const std::size_t end = frame.payload.find('\0');
  const auto number = number_of(std::string_view(frame.payload).substr(0, end));
  if (frame.type == Op::kError || end == std::string::npos || !number)
    return "answered " + text(frame);
  const std::string expected = terminated(node->second.children) + '\0';
  if (frame.payload.substr(end + 1) != expected)
    return "answered " + text(frame) + ", expected children \"" + printable(expected) + "\"";
  const auto known = generations_.find(path);
  if (known != generations_.end()) {
    const Generation& last = known->second;
    if (*number < last.number || (*number != last.number && !last.has_changed))
      return "the generation was " + std::to_string(last.number) + " and is now " +
             std::to_string(*number) + ", and the node has " +
             (last.has_changed ? "changed" : "not changed");
  }
  generations_[path] = {*number, false};
  return {};
}

bool RingModel::is_too_large(const Request& request) const {
  return !identity_.creator.empty() && request.op == Op::kWrite &&
         value_of(request).size() > kGuestValueMax;
}

Answer RingModel::perform(Tree& tree, const Request& request) const {
  if (is_too_large(request)) return {"ENOSPC", ""};
  return perform_on(tree, request, identity_.creator);
}

Verdict RingModel::private_reply(const Pending& pending, const Answer& answer) {
  const Request& request = pending.request;
  const std::vector<Event> fired =
      is_too_large(request) ? std::vector<Event>() : fired_by(request, tree_);
  const Answer expected = perform(tree_, request);
  if (Verdict wrong = differs(expected, answer)) return wrong;
  if (!changes_state(request.op) || !expected.error.empty()) return {};
  touched(path_of(request));
  return check_events(pending, fired, {});
}

Verdict RingModel::event(const Frame& frame) {
  ++statistics_.events;
  const auto words = split(frame.payload);
  note("event " + printable(frame.payload));
  if (frame.req_id != 0 || frame.tx != 0 || words.size() != 2)
    return "a malformed watch event: " + text(frame);
  const std::string& token = words[1];
  const auto found = watches_.find(token);
  if (found == watches_.end()) return "an event for no watch: " + text(frame);
  Watch& watch = found->second;
  const std::string path = watch.is_special() ? words[0] : absolute(words[0]);
  if (!watch.is_special() && watch.is_relative == words[0].starts_with('/'))
    return "an event with a path of the wrong kind: " + text(frame);
  last_receipt_[{path, token}] = ++receipts_;
  if (initial_) {
    if (*initial_ != token || path != watch.path)
      return "no initial event of the watch with token " + *initial_ + " but " + text(frame);
    initial_.reset();
    if (watch.feed != nullptr) watch.feed->initial_event_seen(watch.cursor);
    return {};
  }
  if (watch.is_special()) {
    ++statistics_.foreign_events;
    ++specials_[path];
    return {};
  }
  if (!is_within(path, watch.path)) return "an event that the watch cannot see: " + text(frame);
  if (watch.feed == nullptr) return own_event(watch, path);
  ++statistics_.foreign_events;
  return watch.feed->seen(watch.cursor, path);
}

// It stands before the reply to the request that caused it.
Verdict RingModel::own_event(const Watch& watch, const std::string& path) {
  if (pending_.empty()) return "an event without a request: " + path + " " + watch.token;
  slot_.emplace_back(path, watch.token);
  return {};
}

/// The own watches' events when `request` succeeds.
std::vector<RingModel::Event> RingModel::fired_by(const Request& request,
                                                  const Tree& before) const {
  const std::string path = path_of(request);
  std::vector<Event> fired;
  const bool exists = before.contains(path);
  if (request.op == Op::kMkdir && exists) return fired;
  if (request.op == Op::kRm && !exists) return fired;
  for (const auto& [token, watch] : watches_) {
    if (watch.feed != nullptr || watch.is_special()) continue;
    if (is_within(path, watch.path)) {
      fired.emplace_back(path, token);
    } else if (request.op == Op::kRm && is_within(watch.path, path) &&
               before.contains(watch.path)) {
      fired.emplace_back(watch.path, token);
    }
  }
  return fired;
}

// Of what a commit changes: nodes that it removes on the way are told of or not,
// and how it comes to be is the server's affair.
std::vector<RingModel::Event> RingModel::required_of(const Open& open) const {
  std::vector<Event> required;
  for (const Request& change : open.changes) {
    const std::string path = path_of(change);
    const bool is_removed =
        std::any_of(open.changes.begin(), open.changes.end(), [&](const Request& other) {
          return other.op == Op::kRm && is_within(path, path_of(other));
        });
    if (is_removed) continue;
    for (Event& event : fired_by(change, {})) required.push_back(std::move(event));
  }
  std::sort(required.begin(), required.end());
  required.erase(std::unique(required.begin(), required.end()), required.end());
  return required;
}

std::vector<RingModel::Event> RingModel::optional_of(const Open& open) const {
  std::vector<Event> allowed;
  for (const Request& change : open.changes) {
    const std::string path = path_of(change);
    for (const auto& [token, watch] : watches_) {
      if (watch.feed != nullptr || watch.is_special()) continue;
      if (is_within(path, watch.path)) allowed.emplace_back(path, token);
      if (change.op == Op::kRm && is_within(watch.path, path))
        allowed.emplace_back(watch.path, token);
    }
  }
  std::sort(allowed.begin(), allowed.end());
  allowed.erase(std::unique(allowed.begin(), allowed.end()), allowed.end());
  return allowed;
}

// An event that is required and not there was merged with an identical one, if that
// can still have been queued when the request was executed.
Verdict RingModel::check_events(const Pending& pending, const std::vector<Event>& required,
                                const std::vector<Event>& optional) {
  std::vector<Event> found = std::exchange(slot_, {});
  for (const Event& event : required) {
    const auto there = std::find(found.begin(), found.end(), event);
    if (there != found.end()) {
      found.erase(there);
      continue;
    }
    const auto last = last_receipt_.find(event);
    if (last == last_receipt_.end() || last->second <= pending.receipts)
      return "no event for " + event.first + " with token " + event.second;
  }
  for (const Event& event : optional) {
    const auto there = std::find(found.begin(), found.end(), event);
    if (there != found.end()) found.erase(there);
  }
  if (found.empty()) return {};
  return "an event too many: " + found.front().first + " with token " + found.front().second;
}

bool RingModel::is_doomed(std::uint32_t tx) const {
  const auto open = open_.find(tx);
  return open != open_.end() && open->second.fate == Fate::kDoomed;
}

void RingModel::touched(const std::string& path) {
  for (auto& [known, generation] : generations_) {
    if (is_within(path, known) || is_within(known, path)) generation.has_changed = true;
  }
}

void RingModel::touched_all() {
  for (auto& [known, generation] : generations_) generation.has_changed = true;
}

void RingModel::killed(Clock::time_point at) {
  note("-- the server was killed");
  std::set<std::uint32_t> ending;
  for (Pending& pending : pending_) {
    pending.saw_kill = true;
    if (pending.request.op == Op::kTransactionEnd) ending.insert(pending.request.tx);
  }
  for (auto& [tx, open] : open_) {
    if (open.fate == Fate::kDoomed) continue;
    open.fate = ending.contains(tx) || open.since >= at ? Fate::kUnsure : Fate::kDoomed;
  }
}

void RingModel::may_be_killed(Clock::time_point at) {
  if (std::exchange(last_kill_, at) == at) return;
  for (Pending& pending : pending_) pending.saw_kill = true;
  for (auto& [tx, open] : open_) {
    if (open.fate == Fate::kAlive) open.fate = Fate::kUnsure;
  }
}

bool RingModel::has_only_feed_unanswered() const {
  return std::all_of(pending_.begin(), pending_.end(), [](const Pending& pending) {
    return pending.request.op == Op::kWrite && !pending.feed_changes.empty();
  });
}

void RingModel::restarted() {
  note("-- the stream begins again; " + std::to_string(pending_.size()) + " requests unanswered");
  pending_.clear();
  open_.clear();
  unpublished_.clear();
  watches_.clear();
  slot_.clear();
  initial_.reset();
  last_receipt_.clear();
}

// Others raise them too, so the tree will not tell.
void RingModel::note_possible_counts() {
  for (const Pending& pending : pending_) {
    const auto open = open_.find(pending.request.tx);
    if (open == open_.end()) continue;
    const std::string path = path_of(pending.request);
    if (pending.request.op == Op::kWrite && is_ring_counter(path))
      open->second.counters[path] = value_of(pending.request);
    if (!is_commit(pending.request)) continue;
    for (const auto& [counter, value] : open->second.counters)
      counters_.maybe_committed(counter, value);
  }
}

void RingModel::ended() {
  note_possible_counts();
  identity_.feed->end();
}

void RingModel::cut_off() {
  note("-- the stream has ended; " + std::to_string(pending_.size()) + " requests unanswered");
  note_possible_counts();
}

std::vector<RingModel::Leftover> RingModel::leftovers() const {
  std::map<std::uint32_t, Open> open = open_;
  std::vector<Leftover> now = {{tree_, {}}};
  std::vector<Leftover> all = now;
  for (const Pending& pending : pending_) {
    now = after(pending, open, std::move(now));
    all.insert(all.end(), now.begin(), now.end());
  }
  return all;
}

// A commit may have been refused.
std::vector<RingModel::Leftover> RingModel::after(const Pending& pending,
                                                  std::map<std::uint32_t, Open>& open,
                                                  std::vector<Leftover> before) const {
  const Request& request = pending.request;
  const std::string path = path_of(request);
  const bool is_private = is_within(path, identity_.home) && !is_published(path);
  if (!changes_state(request.op)) return before;
  if (request.op != Op::kTransactionEnd && request.tx != 0) {
    const auto inside = open.find(request.tx);
    if (is_private && inside != open.end()) perform(inside->second.work, request);
    return before;
  }
  const auto ending = open.extract(request.tx);
  const bool commits =
      is_commit(request) && !ending.empty() && ending.mapped().fate != Fate::kDoomed;
  if (request.op == Op::kTransactionEnd && !commits) return before;
  std::vector<Leftover> result;
  if (commits) result = before;
  for (Leftover& left : before) {
    if (commits) take_over(left.tree, ending.mapped().work);
    if (is_private) perform(left.tree, request);
    left.done.insert(pending.feed_changes.begin(), pending.feed_changes.end());
    result.push_back(std::move(left));
  }
  return result;
}

// False when a watcher was told otherwise.
bool RingModel::answer_all(Feed& feed, const std::set<std::size_t>& done) const {
  for (const Pending& pending : pending_) {
    for (const std::size_t change : pending.feed_changes) {
      if (feed.answered(change, done.contains(change))) return false;
    }
  }
  return true;
}

// Each change of the feed shows in the tree, so what is there tells which were done.
Verdict RingModel::resolve(const Tree& found) {
  const Tree there = cut_out(found, identity_.home);
  const std::vector<Leftover> all = leftovers();
  std::string lines;
  for (const Leftover& left : all) {
    Feed feed = *identity_.feed;
    Tree whole = left.tree;
    if (!answer_all(feed, left.done)) continue;
    feed.settle(whole);
    lines = difference(cut_out(whole, identity_.home), there);
    if (!lines.empty()) continue;
    answer_all(*identity_.feed, left.done);
    tree_ = left.tree;
    pending_.clear();
    return {};
  }
  return "what " + identity_.name + " left is none of the " + std::to_string(all.size()) +
         " states that its last requests may leave; the last possible one:\n" + lines + history();
}

Verdict RingModel::check_complete() const {
  if (initial_) return "no initial event of the watch with token " + *initial_;
  for (const auto& [token, watch] : watches_) {
    if (watch.feed == nullptr) continue;
    if (Verdict wrong = watch.feed->check_complete(watch.cursor)) return wrong;
  }
  return {};
}

void RingModel::settle() { identity_.feed->settle(tree_); }

std::string RingModel::history() const {
  std::string out = "  Last requests, replies and events of " + identity_.name + ":\n";
  for (const std::string& line : notes_) out += "    " + line + "\n";
  for (const Pending& pending : pending_)
    out += "    " + text(pending.request) + "  ->  no answer\n";
  return out;
}

void RingModel::note(std::string line) {
  notes_.push_back(std::move(line));
  if (notes_.size() > kNotes) notes_.pop_front();
}

}  // namespace crash
