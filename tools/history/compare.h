// SPDX-License-Identifier: MIT
/// What differs between two trees, node by node.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/common/tree.h"
#include "tools/history/repository.h"

namespace history {

using tools::Change;
using tools::Content;
using tools::perm_entries;
using tools::Tree;

/// A path may have 3072 bytes on the wire (xs_wire.h); so recursion has an end.
inline constexpr std::size_t kPathMax = 4096;

std::string child_path(const std::string& path, std::string_view name);

/// What a node is, apart from its children. The blobs are not read yet.
struct NodeState {
  std::optional<Id> value;
  std::optional<Id> perms;
};

struct NodeChange {
  std::string path;
  std::optional<NodeState> before;  ///< none: the node is new
  std::optional<NodeState> after;   ///< none: it is gone

  bool has_new_value() const { return before && after && before->value != after->value; }
  bool is_same() const { return before && after && !has_new_value() && !has_new_perms(); }
  bool has_new_perms() const { return before && after && before->perms != after->perms; }
};

/// Takes a difference; false: no more of them.
using ChangeSink = std::function<Result<bool>(const NodeChange&)>;

/// kAll: also the nodes that do not differ, at the cost of what there is.
enum class Which { kDifferent, kAll };

/// Shows the nodes at and below `path` that differ, parents first and siblings by
/// name; what is there only once is shown node by node. `before` and `after` are
/// roots of trees; none is an empty one. Costs what differs, not what there is.
Result<void> compare(Repository& repository, const std::optional<Id>& before,
                     const std::optional<Id>& after, std::string_view path, const ChangeSink& sink,
                     Which which = Which::kDifferent);

/// compare() of what a commit did.
Result<void> changes_of(Repository& repository, const Commit& commit, const Commit* before,
                        std::string_view path, const ChangeSink& sink);

Result<Content> read_content(Repository& repository, const NodeState& state);
/// The same of what was before and after.
Result<Change> read_change(Repository& repository, const NodeChange& change);

/// All nodes at and below a path of a tree.
Result<Tree> read_tree(Repository& repository, const Id& tree, std::string_view path);

}  // namespace history
