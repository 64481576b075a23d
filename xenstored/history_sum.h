// SPDX-License-Identifier: MIT
/// Changes for which history has no time one by one: who asked for them, and which nodes
/// they touched. What the nodes have become is read from the tree when the sum is told.
/// Memory is that of the nodes' paths, however often they are touched, and in the end
/// once that of their values.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "journal/history.h"
#include "store/node.h"

namespace xenstored {

class HistorySum {
 public:
  /// The request that follows the one before; its changes only matter for the list in the
  /// message, while lists_more().
  void add_request(const journal::HistoryEntry& entry) { commit_.add_request(entry); }
  bool lists_more() const { return commit_.lists_more(); }
  /// The same once lists_more() is false, as arguments of its own for speed.
  void count_request(std::uint64_t number, std::uint64_t time_us,
                     const journal::HistoryAuthor& author, std::string_view what) {
    commit_.count_request(number, time_us, author, what);
  }
  /// It set the node at this path, or removed it with all below it.
  void touch(std::string_view path, bool is_removal);

  bool empty() const { return commit_.empty(); }
  /// Memory that this takes, about.
  std::size_t bytes() const { return touched_bytes_ + commit_.bytes(); }

  /// Reads what at most so many of the touched nodes have become in the tree of `root`,
  /// which is that after the last request, the same in each call. True: no more to do.
  bool look_up(const store::Node& root, std::size_t count);
  /// All of it, once it is looked up. May be another thread's work; ends this.
  journal::HistoryCommit take_commit();

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view path) const {
      return std::hash<std::string_view>{}(path);
    }
  };

  journal::HistoryCommit commit_;
  std::unordered_map<std::string, bool, Hash, std::equal_to<>> touched_;  ///< removed once?
  std::size_t touched_bytes_ = 0;
  std::vector<journal::HistoryChange> removals_;
  std::vector<journal::HistoryChange> settings_;
};

}  // namespace xenstored
