// SPDX-License-Identifier: MIT
#include "tools/crash/checker.h"

#include <algorithm>
#include <charconv>

namespace crash {
namespace {

bool is_outpost_path(std::string_view path) {
  return path != kOutposts && is_within(path, kOutposts);
}

/// "17.2.345" -> 17, "0" -> 0.
std::uint64_t count_of(const std::string& value) {
  std::uint64_t count = 0;
  std::from_chars(value.data(), value.data() + value.size(), count);
  return count;
}

}  // namespace

Checker::Checker(const std::vector<Region>& regions)
    : sent_count_(regions.size()), outposts_under_way_(regions.size()) {
  clients_.reserve(regions.size());
  for (const Region& region : regions) clients_.emplace_back(region, shared_, statistics_);
}

void Checker::begin(const Walk& initial) {
  for (ClientModel& client : clients_) client.begin(initial.tree);
  for (const auto& [path, node] : initial.tree) {
    if (is_shared(path) && node.children.empty()) shared_.settle(path, node.value);
  }
  rest_ = rest_of(initial.tree);
  last_ = initial;
}

void Checker::sent(unsigned client, std::uint32_t req_id, const Request& request) {
  ++now_;
  const bool makes_node = request.op == Op::kWrite || request.op == Op::kMkdir;
  if (makes_node && is_outpost_path(path_of(request))) {
    outposts_under_way_[client][req_id] = path_of(request);
    outposts_[path_of(request)] = {{client, sent_count_[client]}, now_, kNever};
  }
  ++sent_count_[client];
  clients_[client].sent(req_id, request, now_);
}

Verdict Checker::received(unsigned client, const Frame& frame) {
  ++now_;
  const auto outpost = outposts_under_way_[client].extract(frame.req_id);
  if (!outpost.empty()) outposts_[outpost.mapped()].certain = now_;
  Verdict verdict = clients_[client].received(frame, now_);
  if (verdict)
    *verdict =
        "client " + std::to_string(client) + ": " + *verdict + "\n" + clients_[client].history();
  return verdict;
}

Verdict Checker::check(const Walk& found) {
  ++now_;
  if (Verdict wrong = check_rest(found)) return wrong;
  Candidates candidates(clients_.size());
  if (Verdict wrong = match_regions(found, candidates)) return wrong;
  if (Verdict wrong = check_groups(found)) return wrong;
  if (Verdict wrong = narrow_by_registers(found, candidates)) return wrong;
  if (Verdict wrong = check_registers(found, candidates)) return wrong;
  if (Verdict wrong = check_counters(found, candidates)) return wrong;
  if (Verdict wrong = check_outposts(found)) return wrong;
  if (Verdict wrong = check_generations(found)) return wrong;
  settle(found, candidates);
  return {};
}

bool Checker::is_owned(const std::string& path) const {
  return std::any_of(clients_.begin(), clients_.end(),
                     [&](const ClientModel& client) { return client.region().owns(path); });
}

// Everything that no client may change: the tree without the regions, the values
// of registers, and which outposts there are.
Tree Checker::rest_of(const Tree& whole) const {
  Tree rest;
  for (const auto& [path, node] : whole) {
    if (is_owned(path)) continue;
    Node& kept = rest[path] = node;
    if (is_shared(path)) kept.value.clear();
    if (path == kOutposts) kept.children.clear();
  }
  return rest;
}

Verdict Checker::check_rest(const Walk& found) const {
  const std::string lines = difference(rest_, rest_of(found.tree));
  if (lines.empty()) return {};
  return "outside of what clients write something has changed:\n" + lines;
}

Verdict Checker::match_regions(const Walk& found, Candidates& candidates) const {
  for (std::size_t i = 0; i < clients_.size(); ++i) {
    const Region& region = clients_[i].region();
    const Tree part = region.cut_out(found.tree);
    std::set<unsigned> domains;
    for (const unsigned domid : region.domids()) {
      if (found.introduced.contains(domid)) domains.insert(domid);
    }
    candidates[i] = clients_[i].matching(part, domains);
    if (candidates[i].empty())
      return "a region holds what no prefix of its client's requests leaves:\n" +
             clients_[i].explain(part, domains);
  }
  return {};
}

Verdict Checker::check_groups(const Walk& found) const {
  for (unsigned group = 0; group < kGroups; ++group) {
    for (unsigned member = 1; member < kGroupSize; ++member) {
      const auto first = found.tree.find(group_path(group, 0));
      const auto other = found.tree.find(group_path(group, member));
      if (first == found.tree.end() || other == found.tree.end()) continue;
      if (first->second.value != other->second.value)
        return "half a transaction: " + first->first + " holds \"" +
               printable(first->second.value) + "\", " + other->first + " holds \"" +
               printable(other->second.value) + "\"; they are only written together";
    }
  }
  return {};
}

// Leaves those of the writer's candidates in which it has done request `by`.
Verdict Checker::keep_done(Candidates& candidates, RequestId by, const std::string& why) {
  std::vector<Candidate>& own = candidates[by.client];
  std::erase_if(own, [&](const Candidate& candidate) { return !candidate.has_done(by.index); });
  if (!own.empty()) return {};
  return why + " by client " + std::to_string(by.client) + ", request " + std::to_string(by.index) +
         ", but that client's region shows that this request was not executed";
}

// A value that was found, or that anybody has read, tells that its writer got
// that far.
Verdict Checker::narrow_by_registers(const Walk& found, Candidates& candidates) {
  for (const auto& [path, writes] : shared_.writes()) {
    const std::string& value = found.tree.at(path).value;
    const Shared::Found result = shared_.found(path, value, now_);
    if (!result.wrong.empty()) return result.wrong;
    const std::string holds = path + " holds \"" + printable(value) + "\", written";
    if (result.by) {
      if (Verdict wrong = keep_done(candidates, *result.by, holds)) return wrong;
    }
    for (const SharedWrite& write : writes) {
      if (write.certain == kNever) continue;
      const std::string seen =
          "\"" + printable(write.value) + "\" was read in " + path + ", written";
      if (Verdict wrong = keep_done(candidates, write.by, seen)) return wrong;
    }
  }
  return {};
}

// What all remaining candidates of a client have done is certain, and may not
// have been overwritten by anything earlier.
Verdict Checker::check_registers(const Walk& found, const Candidates& candidates) {
  for (const auto& [path, writes] : std::map(shared_.writes())) {
    for (const SharedWrite& write : writes) {
      if (write.was_refused) continue;
      const auto& own = candidates[write.by.client];
      const bool is_certain = std::all_of(own.begin(), own.end(), [&](const Candidate& match) {
        return match.has_done(write.by.index);
      });
      if (is_certain) shared_.acknowledged(write.by, now_ - 1);
    }
    const Shared::Found result = shared_.found(path, found.tree.at(path).value, now_);
    if (!result.wrong.empty()) return result.wrong;
  }
  return {};
}

// A counter has gone up once for each transaction that committed: no update
// lost, none done twice.
Verdict Checker::check_counters(const Walk& found, const Candidates& candidates) const {
  for (unsigned counter = 0; counter < kCounters; ++counter) {
    const std::string path = counter_path(counter);
    std::uint64_t least = count_of(shared_.settled(path));
    std::uint64_t most = least;
    for (const SharedWrite& write : shared_.writes().at(path)) {
      if (write.was_refused) continue;
      const auto& own = candidates[write.by.client];
      const auto done = std::count_if(own.begin(), own.end(), [&](const Candidate& match) {
        return match.has_done(write.by.index);
      });
      if (write.certain != kNever || static_cast<std::size_t>(done) == own.size()) ++least;
      if (done > 0) ++most;
    }
    const std::uint64_t count = count_of(found.tree.at(path).value);
    if (count < least || count > most)
      return path + " is at " + std::to_string(count) + ", but between " + std::to_string(least) +
             " and " + std::to_string(most) + " increments have been committed";
  }
  return {};
}

Verdict Checker::check_outposts(const Walk& found) const {
  const auto directory = found.tree.find(std::string(kOutposts));
  if (directory == found.tree.end()) return {};
  // Of those before in the list: the one that was asked for last.
  const std::pair<const std::string, Creation>* latest = nullptr;
  std::map<unsigned, std::uint64_t> last_index;
  const std::string above = directory->first + "/";
  for (const std::string& name : directory->second.children) {
    const auto known = outposts_.find(above + name);
    if (known == outposts_.end()) return above + name + " was never created";
    const Creation& creation = known->second;
    if (latest != nullptr && creation.certain < latest->second.sent)
      return "order of creation: " + latest->first + " stands before " + known->first +
             ", which was there before it was asked for";
    const auto [last, is_first] = last_index.try_emplace(creation.by.client, creation.by.index);
    if (!is_first && creation.by.index < last->second)
      return "order of creation: " + known->first + " stands behind a later one of its client";
    last->second = creation.by.index;
    if (latest == nullptr || creation.sent > latest->second.sent) latest = &*known;
  }
  return {};
}

Verdict Checker::check_generations(const Walk& found) const {
  for (const auto& [path, generation] : found.generations) {
    const auto before = last_.generations.find(path);
    if (before == last_.generations.end()) continue;
    const bool has_changed = !(last_.tree.at(path) == found.tree.at(path));
    const bool may_change = is_owned(path) || is_shared(path) || path == kOutposts;
    const bool is_right =
        generation > before->second || (generation == before->second && !has_changed);
    if (!is_right || (!may_change && generation != before->second))
      return "the generation of " + path + " was " + std::to_string(before->second) +
             " and is now " + std::to_string(generation) + ", and the node has " +
             (has_changed ? "changed" : "not changed");
  }
  return {};
}

void Checker::settle(const Walk& found, const Candidates& candidates) {
  for (std::size_t i = 0; i < clients_.size(); ++i) clients_[i].adopt(candidates[i]);
  for (const auto& [path, writes] : std::map(shared_.writes()))
    shared_.settle(path, found.tree.at(path).value);

  // The order found among the outposts is from now on the order.
  std::map<std::string, Creation> kept;
  const auto directory = found.tree.find(std::string(kOutposts));
  if (directory != found.tree.end()) {
    for (const std::string& name : directory->second.children) {
      const std::string path = std::string(kOutposts) + "/" + name;
      now_ += 2;
      kept[path] = {outposts_[path].by, now_ - 1, now_};
    }
  }
  outposts_ = std::move(kept);
  for (auto& under_way : outposts_under_way_) under_way.clear();
  last_ = found;
}

}  // namespace crash
