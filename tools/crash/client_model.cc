// SPDX-License-Identifier: MIT
#include "tools/crash/client_model.h"

#include <algorithm>
#include <charconv>

namespace crash {
namespace {

constexpr std::size_t kNotes = 40;
std::optional<unsigned> number_of(std::string_view text) {
  unsigned number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return {};
  return number;
}

}  // namespace

void ClientModel::sent(std::uint32_t req_id, const Request& request, Moment now) {
  ++statistics_.requests;
  const RequestId id{region_.client, next_index_};
  if (request.op == Op::kWrite && is_shared(path_of(request))) {
    if (request.tx == 0) {
      shared_.sent(path_of(request), std::string(value_of(request)), id, now);
    } else {
      unsent_shared_[request.tx].emplace_back(path_of(request), value_of(request));
    }
  }
  if (request.op == Op::kTransactionEnd) {
    const auto writes = unsent_shared_.extract(request.tx);
    if (!writes.empty() && is_commit(request)) {
      for (const auto& [path, value] : writes.mapped()) shared_.sent(path, value, id, now);
    }
  }
  if (pending_.empty()) events_since_sent_.clear();
  pending_.push_back({request, req_id, next_index_, now, pending_.empty()});
  ++next_index_;
}

std::optional<std::string> ClientModel::received(const Frame& frame, Moment now) {
  if (frame.type == Op::kWatchEvent) return event(frame);
  if (pending_.empty()) return "a reply to nothing: " + text(frame);
  const Pending pending = pending_.front();
  if (frame.req_id != pending.req_id || frame.tx != pending.request.tx)
    return "a reply with request id " + std::to_string(frame.req_id) + " and transaction " +
           std::to_string(frame.tx) + " to request id " + std::to_string(pending.req_id) + ": " +
           text(pending.request);
  if (frame.type != Op::kError && frame.type != pending.request.op)
    return "a reply of another type to " + text(pending.request) + ": " + text(frame);

  pending_.pop_front();
  note("#" + std::to_string(pending.index) + " " + text(pending.request) + "  ->  " + text(frame));
  std::optional<std::string> wrong = reply(pending, frame, now);
  if (wrong)
    *wrong += "\n  request #" + std::to_string(pending.index) + ": " + text(pending.request);
  return wrong;
}

std::optional<std::string> ClientModel::reply(const Pending& pending, const Frame& frame,
                                              Moment now) {
  const Request& request = pending.request;
  if (error_of(frame) == "EIO") {
    // The daemon met this request at two deaths and will not run it again.
    ++statistics_.poisoned;
    shared_.refused({region_.client, pending.index});
    if (request.op == Op::kTransactionEnd) state_.open.erase(request.tx);
    return {};
  }
  if (request.op == Op::kTransactionStart) return start_reply(pending, frame);
  if (request.op == Op::kTransactionEnd) return end_reply(pending, frame, now);
  if (request.op == Op::kWatch || request.op == Op::kUnwatch) return watch_reply(pending, frame);
  if (has_path(request.op) && is_shared(path_of(request))) return shared_reply(pending, frame, now);

  const Answer expected = perform(state_, request);
  if (!(answer_of(frame) == expected))
    return "answered " + show(answer_of(frame)) + ", expected " + show(expected);
  if (request.tx == 0 && changes_state(request.op) && expected.error.empty())
    ++statistics_.acknowledged;
  return missing_event(pending);
}

std::optional<std::string> ClientModel::start_reply(const Pending& pending, const Frame& frame) {
  const auto words = split(frame.payload);
  const std::optional<unsigned> id = words.empty() ? std::nullopt : number_of(words.front());
  if (frame.type == Op::kError || !id || *id == 0) return "no transaction id: " + text(frame);
  if (!used_ids_.insert(*id).second) return "transaction id " + words.front() + " was given twice";
  state_.open[*id] = {state_.tree, pending.sent, pending.index, {}, {}, {}};
  return {};
}

std::optional<std::string> ClientModel::end_reply(const Pending& pending, const Frame& frame,
                                                  Moment now) {
  const std::uint32_t tx = pending.request.tx;
  const Answer answer = answer_of(frame);
  if (!state_.open.contains(tx)) return "END of a transaction that was not open: " + text(frame);
  if (!is_commit(pending.request)) {
    ++statistics_.aborted;
    finish(state_, tx, false);
    return answer == ok_answer() ? std::nullopt
                                 : std::optional("an abort answered " + show(answer));
  }
  const RequestId id{region_.client, pending.index};
  if (answer.error == "EAGAIN") {
    ++statistics_.conflicts;
    shared_.refused(id);
    finish(state_, tx, false);
    if (told_commit_ == pending.index) return "EAGAIN, but a watch event told of the commit";
    return {};
  }
  if (!(answer == ok_answer())) return "answered " + show(answer);
  if (conflicts(state_, tx)) return "committed, although an answer given inside has changed since";
  ++statistics_.committed;
  ++statistics_.acknowledged;
  shared_.acknowledged(id, now);
  finish(state_, tx, true);
  return {};
}

std::optional<std::string> ClientModel::shared_reply(const Pending& pending, const Frame& frame,
                                                     Moment now) {
  const Request& request = pending.request;
  const std::string path = path_of(request);
  const RequestId id{region_.client, pending.index};
  if (frame.type == Op::kError) return "answered " + text(frame);
  if (request.op == Op::kWrite) {
    if (frame.payload != ok_answer().payload) return "answered " + text(frame);
    if (request.tx == 0) {
      ++statistics_.acknowledged;
      shared_.acknowledged(id, now);
    } else {
      state_.open.at(request.tx).shared_writes[path] = value_of(request);
    }
    return {};
  }
  if (request.tx == 0) return shared_.read(path, frame.payload, id, pending.sent, now);

  OpenTransaction& open = state_.open.at(request.tx);
  const auto own = open.shared_writes.find(path);
  if (own != open.shared_writes.end()) {
    if (own->second == frame.payload) return {};
    return "a transaction does not see its own write: " + show(answer_of(frame));
  }
  if (const std::string group = group_of(path); !group.empty()) {
    const auto [seen, is_first] = open.group_values.try_emplace(group, frame.payload);
    if (!is_first && seen->second != frame.payload)
      return "a transaction saw \"" + printable(seen->second) + "\" and \"" +
             printable(frame.payload) + "\" in " + group + ", which are never there together";
  }
  return shared_.read(path, frame.payload, {region_.client, open.index}, open.sent, now);
}

std::optional<std::string> ClientModel::watch_reply(const Pending& pending, const Frame& frame) {
  const auto words = split(pending.request.payload);
  const Watch watch{words.at(0), words.at(1)};
  const Answer answer = answer_of(frame);
  const bool is_there = watches_.contains(watch);
  if (pending.request.op == Op::kUnwatch) {
    watches_.erase(watch);
    const bool right = is_there ? answer == ok_answer() : answer.error == "ENOENT";
    return right ? std::nullopt : std::optional("UNWATCH answered " + show(answer));
  }
  const bool right = is_there ? answer.error == "EEXIST" : answer == ok_answer();
  if (!right) return "WATCH answered " + show(answer);
  if (watches_.insert(watch).second) initial_events_.push_back(watch);
  return {};
}

// An event stands in the stream before the reply of the request that caused it
// and after the reply before that, so the oldest unanswered request caused it.
std::optional<std::string> ClientModel::event(const Frame& frame) {
  ++statistics_.events;
  const auto words = split(frame.payload);
  if (words.size() != 2) return "a malformed watch event: " + text(frame);
  const std::string& path = words[0];
  note("  event " + printable(frame.payload));
  events_since_sent_.emplace_back(path, words[1]);

  const Watch as_watch{path, words[1]};
  const auto initial = std::find(initial_events_.begin(), initial_events_.end(), as_watch);
  if (initial != initial_events_.end()) {
    initial_events_.erase(initial);
    return {};
  }
  const bool is_watched = std::any_of(watches_.begin(), watches_.end(), [&](const auto& entry) {
    return entry.second == words[1] && is_within(path, entry.first);
  });
  if (!is_watched) return "an event for no watch: " + text(frame);

  if (pending_.empty()) return "an event without a request: " + text(frame);
  const Pending& cause = pending_.front();
  if (cause.request.op == Op::kTransactionEnd || cause.request.op == Op::kRelease) {
    if (!region_.owns(path)) return "an event from elsewhere: " + text(frame);
    if (is_commit(cause.request)) told_commit_ = cause.index;
  } else {
    const std::string changed = path_of(cause.request);
    const bool fits = cause.request.op == Op::kRm ? is_within(path, changed) : path == changed;
    if (!fits || cause.request.tx != 0 || !changes_state(cause.request.op))
      return "an event that the request under way cannot have caused: " + text(frame) +
             "\n  request #" + std::to_string(cause.index) + ": " + text(cause.request);
  }
  least_length_ = cause.index + 1;
  return {};
}

// A WRITE fires each watch above it. With more requests under way an identical
// event may still have been queued and stands for both; alone there was none.
std::optional<std::string> ClientModel::missing_event(const Pending& pending) const {
  if (!pending.was_alone || pending.request.op != Op::kWrite || pending.request.tx != 0) return {};
  const std::string path = path_of(pending.request);
  for (const Watch& watch : watches_) {
    if (!is_within(path, watch.first)) continue;
    const Watch expected{path, watch.second};
    if (std::find(events_since_sent_.begin(), events_since_sent_.end(), expected) ==
        events_since_sent_.end())
      return "no event for the watch on " + watch.first + " with token " + watch.second;
  }
  return {};
}

Answer ClientModel::perform(State& state, const Request& request) const {
  if (!has_path(request.op)) return perform_domain(state, request);
  if (request.tx == 0) return perform_in(state.tree, request);
  const auto open = state.open.find(request.tx);
  if (open == state.open.end()) return {"ENOENT", ""};
  Answer answer = perform_in(open->second.work, request);
  if (!changes_state(request.op) && region_.is_free(path_of(request)))
    open->second.loose_reads.emplace_back(request, answer);
  return answer;
}

Answer ClientModel::perform_in(Tree& tree, const Request& request) const {
  return perform_on(tree, request, "");
}

Answer ClientModel::perform_domain(State& state, const Request& request) const {
  const auto words = split(request.payload);
  const unsigned domid = words.empty() ? 0 : number_of(words.front()).value_or(0);
  if (request.op == Op::kIsDomainIntroduced)
    return {"", std::string(state.domains.contains(domid) ? "T\0" : "F\0", 2)};
  if (request.op == Op::kIntroduce) state.domains.insert(domid);
  if (request.op == Op::kRelease) {
    if (state.domains.erase(domid) == 0) return {"ENOENT", ""};
    remove_owned(state.tree, domid);
  }
  return ok_answer();
}

bool ClientModel::conflicts(const State& state, std::uint32_t tx) const {
  Tree tree = state.tree;
  const auto& reads = state.open.at(tx).loose_reads;
  return std::any_of(reads.begin(), reads.end(), [&](const auto& read) {
    return !(perform_in(tree, read.first) == read.second);
  });
}

// Only free paths can have changed since the snapshot, and the transaction wrote
// none of them: its work with today's free paths is what a commit leaves.
void ClientModel::finish(State& state, std::uint32_t tx, bool is_granted) const {
  const auto open = state.open.find(tx);
  if (open == state.open.end()) return;
  if (is_granted) {
    Tree merged = std::move(open->second.work);
    std::erase_if(merged, [&](const auto& entry) { return region_.is_free(entry.first); });
    for (const auto& [path, node] : state.tree) {
      if (region_.is_free(path)) merged.emplace(path, node);
    }
    state.tree = std::move(merged);
  }
  state.open.erase(open);
}

// Visits every state that requests executed in order, a prefix of those sent,
// can have left. An unanswered commit may have been refused by somebody else's
// write, so it is tried both ways.
void ClientModel::explore(const std::function<void(const Candidate&)>& visit) const {
  const std::uint64_t answered = pending_.empty() ? next_index_ : pending_.front().index;
  std::vector<Candidate> front(1);
  front[0].state = state_;
  front[0].length = answered;
  if (answered >= least_length_) visit(front[0]);

  for (const Pending& pending : pending_) {
    const Request& request = pending.request;
    const std::size_t count = front.size();
    for (std::size_t i = 0; i < count; ++i) {
      front[i].length = pending.index + 1;
      if (request.op == Op::kTransactionEnd) {
        const bool may_commit = is_commit(request) && front[i].state.open.contains(request.tx) &&
                                !conflicts(front[i].state, request.tx);
        if (may_commit && told_commit_ != pending.index) {
          front.push_back(front[i]);
          front.back().refused.insert(pending.index);
          finish(front.back().state, request.tx, false);
        }
        if (!may_commit) front[i].refused.insert(pending.index);
        finish(front[i].state, request.tx, may_commit);
      } else if ((has_path(request.op) && !is_shared(path_of(request))) ||
                 request.op == Op::kIntroduce || request.op == Op::kRelease) {
        perform(front[i].state, request);
      }
    }
    if (pending.index + 1 < least_length_) continue;
    for (const Candidate& candidate : front) visit(candidate);
  }
}

std::vector<Candidate> ClientModel::matching(const Tree& found,
                                             const std::set<unsigned>& domains) const {
  std::vector<Candidate> matches;
  explore([&](const Candidate& candidate) {
    if (candidate.state.tree == found && candidate.state.domains == domains)
      matches.push_back(candidate);
  });
  return matches;
}

std::string ClientModel::explain(const Tree& found, const std::set<unsigned>& domains) const {
  std::string closest;
  std::uint64_t length = 0;
  bool same_domains = true;
  std::size_t candidates = 0;
  explore([&](const Candidate& candidate) {
    const std::string lines = difference(candidate.state.tree, found);
    if (candidates++ == 0 || lines.size() < closest.size()) {
      closest = lines;
      length = candidate.length;
      same_domains = candidate.state.domains == domains;
    }
  });
  const std::uint64_t answered = pending_.empty() ? next_index_ : pending_.front().index;
  std::string out = "  client " + std::to_string(region_.client) + " (" + region_.root +
                    "): " + std::to_string(answered) + " requests answered, " +
                    std::to_string(pending_.size()) + " sent without an answer; none of the " +
                    std::to_string(candidates) + " states this allows was found.\n" +
                    "  Closest is the state after the first " + std::to_string(length) +
                    " requests" + (same_domains ? "" : " (but other domains are introduced)") +
                    ":\n" + closest + history();
  return out;
}

std::string ClientModel::history() const {
  std::string out = "  Last requests with their answers:\n";
  for (const std::string& line : notes_) out += "    " + line + "\n";
  for (const Pending& pending : pending_)
    out +=
        "    #" + std::to_string(pending.index) + " " + text(pending.request) + "  ->  no answer\n";
  return out;
}

void ClientModel::count_unanswered(const std::vector<Candidate>& matching) {
  for (const Pending& pending : pending_) {
    const Request& request = pending.request;
    const bool is_change = request.tx == 0 || is_commit(request);
    if (!is_change || !changes_state(request.op)) continue;
    const auto done = std::count_if(matching.begin(), matching.end(), [&](const Candidate& match) {
      return match.has_done(pending.index);
    });
    if (done == 0) {
      ++statistics_.absent;
    } else if (static_cast<std::size_t>(done) == matching.size()) {
      ++statistics_.applied;
    } else {
      ++statistics_.unclear;
    }
  }
}

void ClientModel::adopt(const std::vector<Candidate>& matching) {
  count_unanswered(matching);
  note("-- the server was killed; " + std::to_string(pending_.size()) + " requests unanswered");
  state_.tree = matching.front().state.tree;
  state_.domains = matching.front().state.domains;
  unsent_shared_.clear();
  initial_events_.clear();
  events_since_sent_.clear();
  told_commit_.reset();
  state_.open.clear();
  watches_.clear();
  used_ids_.clear();
  pending_.clear();
}

void ClientModel::note(std::string line) {
  notes_.push_back(std::move(line));
  if (notes_.size() > kNotes) notes_.pop_front();
}

}  // namespace crash
