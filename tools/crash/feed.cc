// SPDX-License-Identifier: MIT
#include "tools/crash/feed.h"

#include <algorithm>

namespace crash {

std::size_t Feed::add(Change change) {
  by_path_[change.path] = end_number();
  changes_.push_back(std::move(change));
  return end_number() - 1;
}

std::size_t Feed::write(std::string path, std::string value) {
  return add({Kind::kWrite, std::move(path), std::move(value)});
}

std::size_t Feed::remove(std::string path) { return add({Kind::kRemoval, std::move(path), ""}); }

void Feed::end() {
  if (has_ended_) return;
  has_ended_ = true;
  add({Kind::kEnd, top_, ""});
}

void Feed::ended() {
  if (has_ended_) changes_.back().fate = Fate::kDone;
}

Verdict Feed::answered(std::size_t number, bool was_done) {
  Change& change = at(number);
  const Fate fate = was_done ? Fate::kDone : Fate::kNot;
  if (change.fate != Fate::kOpen && change.fate != fate)
    return was_done ? "a watcher was told of later changes, but not of " + change.path
                    : "a watch event told of " + change.path + ", which was refused";
  change.fate = fate;
  return {};
}

Feed::Cursor Feed::begin_watching() const {
  const auto open = std::find_if(changes_.begin(), changes_.end(),
                                 [](const Change& change) { return change.fate == Fate::kOpen; });
  return {{}, first_ + static_cast<std::size_t>(open - changes_.begin()), 0};
}

Verdict Feed::seen(Cursor& cursor, const std::string& path) {
  const auto known = by_path_.find(path);
  if (known == by_path_.end()) return "an event for " + path + ", which nobody has changed";
  const std::size_t number = known->second;
  if (number < cursor.next.value_or(cursor.lower))
    return cursor.next ? "a second event for " + path
                       : "an event for " + path + ", which changed before the watch was set";
  for (std::size_t i = from(cursor); i < number; ++i) {
    Change& skipped = at(i);
    if (skipped.fate == Fate::kDone)
      return "no event for " + skipped.path + ", but one for " + path + ", which came later";
    skipped.fate = Fate::kNot;
  }
  Change& change = at(number);
  if (change.fate == Fate::kNot)
    return "an event for " + path + ", which did not happen (or another watcher missed it)";
  change.fate = Fate::kDone;
  cursor.next = number + 1;
  return {};
}

Verdict Feed::check_complete(const Cursor& cursor) const {
  for (std::size_t i = from(cursor); i < end_number(); ++i) {
    if (at(i).kind == Kind::kEnd && cursor.may_lack_end) continue;
    if (at(i).fate == Fate::kDone) return "no event for " + at(i).path;
  }
  return {};
}

Feed::Seen Feed::value_at(const Cursor& cursor, const std::string& path) const {
  Seen seen;
  if (const auto settled = settled_.find(path); settled != settled_.end())
    seen.value = settled->second;
  const std::size_t now = cursor.next.value_or(first_);
  for (std::size_t i = first_; i < now; ++i) {
    const Change& change = at(i);
    if (change.fate == Fate::kNot || !is_within(path, change.path)) continue;
    seen.is_certain = change.fate == Fate::kDone;
    seen.value.reset();
    if (change.kind == Kind::kWrite && change.path == path) seen.value = change.value;
  }
  return seen;
}

bool Feed::is_past_end(const Cursor& cursor) const {
  return has_ended_ && (cursor.next == end_number() || cursor.may_lack_end);
}

std::string Feed::recent(std::size_t back) const {
  if (back >= changes_.size()) return "";
  const Change& change = changes_[changes_.size() - 1 - back];
  return change.kind == Kind::kWrite ? change.path : "";
}

// A removal is open only when nothing beneath it is.
void Feed::decide(const Tree& found) {
  for (Change& change : changes_) {
    if (change.fate != Fate::kOpen) continue;
    const bool is_there = found.contains(change.path);
    change.fate = is_there == (change.kind == Kind::kWrite) ? Fate::kDone : Fate::kNot;
  }
}

void Feed::settle(Tree& tree) {
  for (const Change& change : changes_) {
    if (change.fate != Fate::kDone) continue;
    if (change.kind == Kind::kWrite) {
      make_node(tree, change.path, creator_);
      settled_[change.path] = tree.at(change.path).value = change.value;
      continue;
    }
    remove_node(tree, change.path);
    std::erase_if(settled_, [&](const auto& entry) { return is_within(entry.first, change.path); });
  }
  if (has_ended_) return;
  first_ = end_number();
  changes_.clear();
  by_path_.clear();
}

}  // namespace crash
