// SPDX-License-Identifier: MIT
/// The store: the live tree, who owns how much of it, and transactions on it.
///
/// A value: no files, no clocks, no connections. What an operation did stands in
/// effects() until the caller has carried it to the journal and the watchers.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "store/effects.h"
#include "store/ids.h"
#include "store/node.h"
#include "store/quota.h"
#include "store/result.h"
#include "store/transaction.h"
#include "store/view.h"

namespace store {

/// The node at an absolute, valid path below `root` (which may be a snapshot's); null when
/// missing. No permission is asked.
const Node* find(const Node& root, std::string_view path);

class Store {
 public:
  /// An empty store: only the root, readable and writable by domain 0 alone.
  Store();

  /// One operation on the live tree; see View::execute for replies and errors.
  Answer<void> execute(const TreeOp& op, const Caller& caller, const Limits* limits,
                       std::string& reply);

  Transaction begin(bool doomed = false) const { return {root_, generation_, doomed}; }
  /// Takes the transaction's snapshot away: it goes on with a fresh one, and its
  /// commit will be refused.
  void doom(Transaction& transaction) const;
  /// One operation inside a transaction. Errors besides those of execute():
  /// kNospc when the transaction's own limits are reached. Any kNospc fails it.
  /// In a doomed one no change is refused because its node is missing: it may have been
  /// made in the transaction before, and nothing comes of it in any case.
  Answer<void> execute_in(Transaction& transaction, const TreeOp& op, const Caller& caller,
                          const Limits* limits, std::string& reply);
  /// Makes the transaction's changes happen, all or none. Errors: kAgain when an
  /// answer would now differ (`conflict` then is the path asked about) or when it
  /// is doomed; kNospc when a quota would now be hit; kNomem when it had failed.
  Answer<void> commit(Transaction& transaction, const Caller& caller, const Limits* limits,
                      std::string& conflict);

  /// A domain died: its nodes go, with all below them (with `keep_orphans` they
  /// become domain 0's), and permissions that name it name nobody from now on.
  void domain_died(Domid domid, bool keep_orphans);

  /// What has happened since the caller last cleared it.
  Effects& effects() { return effects_; }

  const Node& root() const { return *root_.get(); }
  /// The root of the tree as it is now, and will be for whoever holds it.
  NodeRef snapshot() const { return root_; }
  /// No permission asked; null when missing.
  const Node* find(std::string_view path) const { return store::find(root(), path); }
  const Usage& usage() const { return usage_; }
  Generation generation() const { return Generation{generation_}; }
  /// Nodes in the subtree, itself included; 0 when missing.
  std::size_t subtree_nodes(std::string_view path) const;
  /// At most this many nodes change when that domain dies.
  std::size_t nodes_concerned_by(Domid domid) const;
  /// Recounts everything that is kept by counting. Returns what does not agree.
  std::vector<std::string> check() const;

 private:
  friend class Loader;
  void settle();
  Answer<void> replay(Transaction& transaction, const Caller& caller, const Limits* limits,
                      NodeRef& root, std::string& conflict);
  void order_events(const Transaction& transaction, std::size_t first);
  std::uint32_t nodes_of(Domid domid, const UsageDelta& pending) const;

  NodeRef root_;
  std::uint64_t generation_ = raw(kRootId);
  Usage usage_;
  Effects effects_;
  UsageDelta pending_;  ///< of the operation under way
  /// For each domain the nodes whose own permissions (not inherited ones) name it.
  std::map<Domid, std::set<std::string>> mentions_;
};

/// Builds a store from stored nodes, parents before children.
class Loader {
 public:
  Loader() = default;
  /// Nodes must come by ascending id. False: no such parent, or out of order, or
  /// no permissions, or an impossible name.
  bool add(NodeId id, NodeId parent, Generation generation, PermsView perms, std::string_view name,
           std::string_view value);
  /// The store, once all nodes were added; false when there was no root.
  bool finish(Store& store);

 private:
  struct Loaded {
    NodeId id;
    Node* node;
    std::uint32_t parent;  ///< index of the parent
  };
  void count(const Node& node);
  std::string path_of(std::size_t index) const;
  std::size_t find(NodeId id) const;

  NodeRef root_;
  std::vector<Loaded> nodes_;
  std::size_t last_parent_ = 0;
  std::uint64_t generation_ = 0;
  Usage usage_;
  UsageDelta::Entry counted_{};  ///< of the latest owner, not yet in usage_
  std::map<Domid, std::set<std::string>> mentions_;
};

}  // namespace store
