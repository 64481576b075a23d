// SPDX-License-Identifier: MIT
/// A transaction: a snapshot, what it changed on it, and what it was told.
///
/// It commits by asking again: every request it made is executed on the live
/// tree, in order, and each must get the answer it was given. So it is refused
/// only if an answer would now differ, and a committed one is as if it had run
/// alone at the instant of its END.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "store/ids.h"
#include "store/node.h"
#include "store/quota.h"
#include "store/view.h"

namespace store {

class Transaction {
 public:
  /// `root` is a snapshot's, `base` the latest generation in it. A doomed one
  /// was open when the daemon died: it is served as if alive, but cannot commit.
  Transaction(NodeRef root, std::uint64_t base, bool doomed)
      : root_(std::move(root)), base_(base), doomed_(doomed) {}

  bool doomed() const { return doomed_; }
  /// The owner's note of how much had been written at its START.
  std::uint64_t written_before = 0;
  /// A quota was hit inside: the commit will answer ENOMEM.
  bool failed() const { return failed_; }
  /// Memory that its record of requests takes, for the domain's account.
  std::size_t bytes() const { return bytes_; }
  /// Distinct nodes named so far.
  std::size_t touched() const { return touched_.size(); }
  /// Whether a change of `path` could change an answer it was given; for a
  /// removal also that of a node below. May say yes too often, never too seldom.
  bool concerned_by(std::string_view path, bool is_removal) const;
  /// Shows each change that it asked for, in order, as a TreeOp.
  template <class Visit>
  void each_change(Visit visit) const {
    for (const Asked& asked : asked_) {
      if (is_mutation(asked.kind)) visit(asked.op());
    }
  }

 private:
  friend class Store;
  struct Asked {
    TreeOp::Kind kind;
    std::uint32_t offset;
    std::string path;
    std::string value;
    Perms perms;
    std::uint64_t answer;  ///< digest of error or payload

    TreeOp op() const { return {kind, path, value, perms, offset}; }
  };

  /// False: the limits of an unprivileged domain do not allow one more request.
  bool may_ask(const TreeOp& op, const Limits* limits) const;
  void asked(const TreeOp& op, std::uint64_t answer);
  bool has_touched(std::string_view path) const { return touched_.contains(std::string(path)); }

  NodeRef root_;
  std::uint64_t base_;
  bool doomed_;
  bool failed_ = false;
  UsageDelta usage_;
  std::vector<Asked> asked_;
  /// Reads since the last change of its own: asking again tells nothing new.
  std::unordered_set<std::uint64_t> reads_;
  /// Nodes named, with their place in the order of first access.
  std::unordered_map<std::string, std::size_t> touched_;
  std::size_t bytes_ = 0;
};

}  // namespace store
