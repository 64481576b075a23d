// SPDX-License-Identifier: MIT
/// What one client publishes for others to watch: nodes in a directory of its own,
/// made and removed under names that are never used twice, so that no two of the
/// events may be merged. Every watcher must be told of each change exactly once, in
/// order, and of nothing that has not happened.
#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>

#include "tools/crash/tree.h"
#include "tools/crash/verdict.h"

namespace crash {

class Feed {
 public:
  /// How far one watch is.
  struct Cursor {
    /// The next change expected; none before the first event.
    std::optional<std::size_t> next;
    /// What had surely happened before the watch was set: from here on it may tell.
    std::size_t lower = 0;
    /// What was asked for after the watch was set must be told, from here on.
    std::size_t upper = 0;
    /// The publisher ended before the watch's initial event, which has the same path,
    /// was received: both may be one.
    bool may_lack_end = false;
  };

  /// `top` holds what is published; `creator` as make_node() takes it.
  Feed(std::string top, std::string creator) : top_(std::move(top)), creator_(std::move(creator)) {}

  const std::string& top() const { return top_; }

  /// A change is asked for (in a transaction: its end is). Returns its number.
  std::size_t write(std::string path, std::string value);
  std::size_t remove(std::string path);
  /// The publisher is about to be removed with all it owns.
  void end();
  bool has_ended() const { return has_ended_; }
  /// It certainly has been.
  void ended();

  /// The change was answered. Wrong: a watcher knew better.
  Verdict answered(std::size_t number, bool was_done);

  const std::string& path_of_change(std::size_t number) const { return at(number).path; }

  Cursor begin_watching() const;
  void watching(Cursor& cursor) const { cursor.upper = end_number(); }
  void initial_event_seen(Cursor& cursor) const { cursor.may_lack_end = has_ended_; }
  /// An event told of `path`.
  Verdict seen(Cursor& cursor, const std::string& path);
  /// All that has happened has been told.
  Verdict check_complete(const Cursor& cursor) const;

  /// What READ of `path` gives to a client whose events have come to `cursor`.
  struct Seen {
    std::optional<std::string> value;  ///< none: there is no such node
    bool is_certain = true;            ///< otherwise it may as well not be there
  };
  Seen value_at(const Cursor& cursor, const std::string& path) const;
  /// Whether the publisher's end has been told, or may have been.
  bool is_past_end(const Cursor& cursor) const;
  /// A name asked for lately, for readers; empty when there is none.
  std::string recent(std::size_t back) const;

  /// Nobody changes anything now: decides what is still open by what is there.
  void decide(const Tree& found);
  /// All changes are decided and all watchers told: brings `tree` up to date with
  /// them, and forgets them.
  void settle(Tree& tree);

 private:
  enum class Kind { kWrite, kRemoval, kEnd };
  enum class Fate { kOpen, kDone, kNot };
  struct Change {
    Kind kind;
    std::string path;
    std::string value;
    Fate fate = Fate::kOpen;
  };

  std::size_t end_number() const { return first_ + changes_.size(); }
  std::size_t add(Change change);
  Change& at(std::size_t number) { return changes_.at(number - first_); }
  const Change& at(std::size_t number) const { return changes_.at(number - first_); }
  /// Where to look first for what a cursor has not been told.
  std::size_t from(const Cursor& cursor) const {
    return std::max(first_, cursor.next.value_or(cursor.upper));
  }

  const std::string top_;
  const std::string creator_;
  std::size_t first_ = 0;  ///< number of the first that is not forgotten
  std::deque<Change> changes_;
  std::unordered_map<std::string, std::size_t> by_path_;
  std::map<std::string, std::string> settled_;  ///< values written by forgotten changes
  bool has_ended_ = false;
};

}  // namespace crash
