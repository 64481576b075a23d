// SPDX-License-Identifier: MIT
#include "tools/history/compare.h"

#include <algorithm>
#include <utility>

namespace history {
namespace {

class Comparison {
 public:
  Comparison(Repository& repository, const ChangeSink& sink, Which which)
      : repository_(repository), sink_(sink), is_all_(which == Which::kAll) {}

  /// Directories of one node, of which not both are missing. False: no more.
  Result<bool> node(const std::string& path, const Id* before, const Id* after) {
    const bool is_same = before != nullptr && after != nullptr && *before == *after;
    if (is_same && !is_all_) return true;
    if (path.size() > kPathMax) return tl::unexpected("no store is so deep: " + path.substr(0, 80));
    auto old_node = read(before);
    if (!old_node.has_value()) return tl::unexpected(old_node.error());
    auto new_node = read(after);
    if (!new_node.has_value()) return tl::unexpected(new_node.error());
    auto shown = itself(path, old_node.value(), new_node.value());
    if (!shown.has_value() || !shown.value()) return shown;
    return children(path, old_node.value(), new_node.value());
  }

 private:
  Result<NodePtr> read(const Id* id) {
    if (id == nullptr) return NodePtr();
    return repository_.node(*id);
  }

  static std::optional<NodeState> state_of(const NodePtr& node) {
    if (node == nullptr) return std::nullopt;
    return NodeState{node->value, node->perms};
  }

  Result<bool> itself(const std::string& path, const NodePtr& before, const NodePtr& after) {
    const NodeChange change{path, state_of(before), state_of(after)};
    return change.is_same() && !is_all_ ? Result<bool>(true) : sink_(change);
  }

  /// Goes through both lists of names at once.
  Result<bool> children(const std::string& path, const NodePtr& before, const NodePtr& after) {
    static const std::vector<Node::Child> kNone;
    const auto& old_list = before != nullptr ? before->children : kNone;
    const auto& new_list = after != nullptr ? after->children : kNone;
    auto old_child = old_list.begin();
    auto new_child = new_list.begin();
    while (old_child != old_list.end() || new_child != new_list.end()) {
      const int order = new_child == new_list.end()   ? -1
                        : old_child == old_list.end() ? 1
                                                      : old_child->name.compare(new_child->name);
      const bool has_old = order <= 0;
      const bool has_new = order >= 0;
      // Most children of a wide node are the same: they are not worth a path.
      if (order != 0 || is_all_ || old_child->id != new_child->id) {
        const std::string& name = has_old ? old_child->name : new_child->name;
        auto shown = node(child_path(path, name), has_old ? &old_child->id : nullptr,
                          has_new ? &new_child->id : nullptr);
        if (!shown.has_value() || !shown.value()) return shown;
      }
      if (has_old) ++old_child;
      if (has_new) ++new_child;
    }
    return true;
  }

  Repository& repository_;
  const ChangeSink& sink_;
  bool is_all_;
};

Result<std::optional<Id>> find_in(Repository& repository, const std::optional<Id>& tree,
                                  std::string_view path) {
  if (!tree) return std::optional<Id>();
  return repository.find(*tree, path);
}

}  // namespace

Result<void> compare(Repository& repository, const std::optional<Id>& before,
                     const std::optional<Id>& after, std::string_view path, const ChangeSink& sink,
                     Which which) {
  const auto old_id = find_in(repository, before, path);
  if (!old_id.has_value()) return tl::unexpected(old_id.error());
  const auto new_id = find_in(repository, after, path);
  if (!new_id.has_value()) return tl::unexpected(new_id.error());
  if (!old_id.value() && !new_id.value()) return {};
  Comparison comparison(repository, sink, which);
  const auto shown = comparison.node(std::string(path), old_id.value() ? &*old_id.value() : nullptr,
                                     new_id.value() ? &*new_id.value() : nullptr);
  if (!shown.has_value()) return tl::unexpected(shown.error());
  return {};
}

Result<void> changes_of(Repository& repository, const Commit& commit, const Commit* before,
                        std::string_view path, const ChangeSink& sink) {
  const std::optional<Id> old_tree = before != nullptr ? std::optional(before->tree) : std::nullopt;
  return compare(repository, old_tree, commit.tree, path, sink);
}

std::string child_path(const std::string& path, std::string_view name) {
  std::string child = path;
  if (path != "/") child += '/';
  child += name;
  return child;
}

Result<Content> read_content(Repository& repository, const NodeState& state) {
  auto value = repository.blob(state.value);
  if (!value.has_value()) return tl::unexpected(value.error());
  auto perms = repository.blob(state.perms);
  if (!perms.has_value()) return tl::unexpected(perms.error());
  return Content{std::move(value.value()), std::move(perms.value())};
}

Result<Change> read_change(Repository& repository, const NodeChange& change) {
  Change read{change.path, std::nullopt, std::nullopt};
  for (const auto& [state, content] :
       {std::pair(&change.before, &read.before), std::pair(&change.after, &read.after)}) {
    if (!*state) continue;
    auto found = read_content(repository, **state);
    if (!found.has_value()) return tl::unexpected(found.error());
    *content = std::move(found.value());
  }
  return read;
}

Result<Tree> read_tree(Repository& repository, const Id& tree, std::string_view path) {
  Tree read;
  const auto listed =
      compare(repository, std::nullopt, tree, path, [&](const NodeChange& change) -> Result<bool> {
        auto content = read_content(repository, *change.after);
        if (!content.has_value()) return tl::unexpected(content.error());
        read[change.path] = std::move(content.value());
        return true;
      });
  if (!listed.has_value()) return tl::unexpected(listed.error());
  return read;
}

}  // namespace history
