// SPDX-License-Identifier: MIT
/// The operations of xenstore on one tree: the live one, or a transaction's.
///
/// Each operation either succeeds whole or leaves the tree as it was (XSA-414,
/// XSA-415). Rules are those of xenstore.txt as C xenstored applies them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "store/effects.h"
#include "store/ids.h"
#include "store/node.h"
#include "store/perms.h"
#include "store/quota.h"
#include "store/result.h"

namespace store {

/// A reply's payload may not be longer (XENSTORE_PAYLOAD_MAX).
inline constexpr std::size_t kReplyMax = 4096;

/// One operation on a node. Paths have passed node_path(); views are borrowed.
struct TreeOp {
  enum class Kind : std::uint8_t {
    kRead,
    kDirectory,
    kDirectoryPart,
    kGetPerms,
    kWrite,
    kMkdir,
    kRm,
    kSetPerms,
  };
  Kind kind;
  std::string_view path;
  std::string_view value{};  ///< kWrite: the bytes
  PermsView perms{};         ///< kSetPerms: the new list, stale entries marked
  std::uint32_t offset = 0;  ///< kDirectoryPart: bytes of the list to skip
};

constexpr bool is_mutation(TreeOp::Kind kind) { return kind >= TreeOp::Kind::kWrite; }

struct Asker {
  const Caller& caller;
  /// Null for those that no quota binds (privileged callers).
  const Limits* limits = nullptr;
  /// Nodes the caller's domain owns, as far as the limit goes.
  std::uint32_t nodes_owned = 0;
};

class View {
 public:
  /// Works on `root`, drawing generations from `counter`. With `effects`, what
  /// happens is recorded there; usage is always recorded in `usage`.
  View(NodeRef& root, std::uint64_t& counter, UsageDelta& usage, Effects* effects)
      : root_(root), counter_(counter), usage_(usage), effects_(effects) {}

  /// Appends the reply's payload ("OK" is the caller's to say). Errors: kNoent
  /// and kAcces by the rules for missing and forbidden nodes, kTooBig, kNospc
  /// for quotas, kInval for RM of the root, kPerm for a change of owner.
  Answer<void> execute(const TreeOp& op, const Asker& asker, std::string& reply);

  /// The node, or null; no permission asked.
  const Node* find(std::string_view path);

  /// RM without asking, for the tree of a dead domain. Missing: nothing happens.
  void remove_tree(std::string_view path);
  /// Takes `domid` out of the permissions of the node and of all below that
  /// inherited them: entries become stale; with `new_owner` the owner is replaced.
  void forget_domain(std::string_view path, Domid domid, Domid new_owner);

 private:
  struct Found;
  Found look_up(std::string_view path);
  Answer<void> read(const TreeOp& op, const Asker& asker, std::string& reply);
  Answer<void> directory(const TreeOp& op, const Asker& asker, std::string& reply);
  Answer<void> directory_part(const TreeOp& op, const Asker& asker, std::string& reply);
  Answer<void> get_perms(const TreeOp& op, const Asker& asker, std::string& reply);
  Answer<void> write(const TreeOp& op, const Asker& asker);
  Answer<void> mkdir(const TreeOp& op, const Asker& asker);
  Answer<void> rm(const TreeOp& op, const Asker& asker);
  Answer<void> set_perms(const TreeOp& op, const Asker& asker);
  Answer<const Node*> readable(std::string_view path, const Asker& asker);
  Answer<void> check_creation(const Found& found, std::string_view value, const Asker& asker) const;
  void create(const Found& found, std::string_view path, std::string_view value,
              const Caller& caller);
  Node* create_child(Node* parent, std::string_view name, std::string_view path,
                     std::string_view value, const Caller& caller);
  void replace_perms(Node* node, std::string_view path, const PermsRef& perms,
                     const PermsRef& parent_perms);
  Node** own_found(NodeId* parent_id, PermsRef* parent_perms);
  void detach(std::string_view path);
  void account_removed(const Node* top, std::string_view path, const PermsRef& parent_perms);
  void account_removed_node(const Node* node, std::string_view path, const PermsRef& parent_perms,
                            bool is_top);
  Generation next_generation() { return Generation{++counter_}; }
  void changed(Node* node, NodeId parent, std::string_view path);
  void fire(std::string_view path, bool exact, const PermsRef& perms, const PermsRef& parent_perms,
            const PermsRef& old_perms);
  void mention(const SharedPerms& perms, std::string_view path, bool begins);

  NodeRef& root_;
  std::uint64_t& counter_;
  UsageDelta& usage_;
  Effects* effects_;
  /// Slot numbers from the root to the nearest existing node of the last look_up().
  std::vector<std::uint32_t> slots_;
};

/// What `Usage` counts for a node.
std::int64_t node_bytes(const Node& node);

}  // namespace store
