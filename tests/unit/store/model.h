// SPDX-License-Identifier: MIT
/// A store as plain as can be: one sorted map of paths, every rule written out
/// on it, snapshots by copying. Slow, and for that reason easy to believe.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "store/path.h"
#include "store/store.h"

namespace model {

struct Node {
  std::string value;
  store::Perms perms;
  std::uint64_t born = 0;
};

struct Answer {
  std::optional<store::WireError> error;
  std::string payload;
  friend bool operator==(const Answer&, const Answer&) = default;
};

/// An operation that owns its strings.
struct Op {
  store::TreeOp::Kind kind;
  std::string path;
  std::string value;
  store::Perms perms;

  store::TreeOp view() const { return {kind, path, value, perms, 0}; }
};

class Tree {
 public:
  std::map<std::string, Node> nodes;
  std::uint64_t births = 0;

  Tree() { nodes["/"] = {"", {{store::kDom0, store::Access::kNone}}, 0}; }

  Answer run(const Op& op, const store::Caller& caller, const store::Limits* limits) {
    using Kind = store::TreeOp::Kind;
    const auto node = nodes.find(op.path);
    const bool is_there = node != nodes.end();
    std::string nearest = op.path;
    while (!nodes.contains(nearest)) nearest = std::string(store::parent_path(nearest));
    const store::Perms& perms = nodes[nearest].perms;
    const bool may_read = allows(access_of(caller, perms), store::Access::kRead);
    const bool may_write = allows(access_of(caller, perms), store::Access::kWrite);
    switch (op.kind) {
      case Kind::kRead:
      case Kind::kDirectory:
      case Kind::kGetPerms:
        if (!may_read) return {store::WireError::kAcces, ""};
        if (!is_there) return {store::WireError::kNoent, ""};
        return {std::nullopt, read(op.kind, op.path, node->second)};
      case Kind::kWrite:
      case Kind::kMkdir:
        if (!may_write) return {store::WireError::kAcces, ""};
        if (is_there && op.kind == Kind::kWrite) node->second.value = op.value;
        if (!is_there &&
            !create(op.path, op.kind == Kind::kWrite ? op.value : "", caller, limits)) {
          return {store::WireError::kNospc, ""};
        }
        return {};
      case Kind::kRm:
        if (!may_write) return {store::WireError::kAcces, ""};
        if (!is_there) {
          const bool has_parent = nodes.contains(std::string(store::parent_path(op.path)));
          return has_parent ? Answer{} : Answer{store::WireError::kNoent, ""};
        }
        if (op.path == "/") return {store::WireError::kInval, ""};
        remove(op.path);
        return {};
      case Kind::kSetPerms:
        if (!is_there) return {may_write ? store::WireError::kNoent : store::WireError::kAcces, ""};
        if (!owns(caller, perms)) return {store::WireError::kAcces, ""};
        if (!caller.privileged && op.perms[0].domid != node->second.perms[0].domid) {
          return {store::WireError::kPerm, ""};
        }
        node->second.perms = op.perms;
        return {};
      case Kind::kDirectoryPart:
        break;
    }
    return {store::WireError::kNosys, ""};
  }

  void die(store::Domid domid) {
    std::vector<std::string> owned;
    for (auto& [path, node] : nodes) {
      if (node.perms[0].domid == domid && !node.perms[0].stale) owned.push_back(path);
    }
    for (const std::string& path : owned) {
      if (nodes.contains(path) && path != "/") remove(path);
    }
    store::PermEntry& root_owner = nodes["/"].perms[0];
    if (root_owner.domid == domid) root_owner.domid = store::kDom0;
    for (auto& [path, node] : nodes) {
      for (store::PermEntry& entry : node.perms) entry.stale = entry.stale || entry.domid == domid;
    }
  }

  std::uint32_t owned_by(store::Domid domid) const {
    std::uint32_t count = 0;
    for (const auto& [path, node] : nodes) count += node.perms[0].domid == domid ? 1 : 0;
    return count;
  }

  std::vector<std::string> children(const std::string& path) const {
    std::vector<std::pair<std::uint64_t, std::string>> found;
    for (const auto& [other, node] : nodes) {
      if (other != "/" && store::parent_path(other) == path) {
        found.emplace_back(node.born, other.substr(other.rfind('/') + 1));
      }
    }
    std::sort(found.begin(), found.end());
    std::vector<std::string> names;
    for (auto& [born, name] : found) names.push_back(name);
    return names;
  }

 private:
  std::string read(store::TreeOp::Kind kind, const std::string& path, const Node& node) const {
    if (kind == store::TreeOp::Kind::kRead) return node.value;
    std::string text;
    if (kind == store::TreeOp::Kind::kDirectory) {
      for (const std::string& name : children(path)) text += name + '\0';
      return text;
    }
    for (const store::PermEntry& entry : node.perms) {
      append_perm(entry, text);
      text += '\0';
    }
    return text;
  }

  bool create(const std::string& path, const std::string& value, const store::Caller& caller,
              const store::Limits* limits) {
    std::vector<std::string> missing;
    for (std::string at = path; !nodes.contains(at); at = std::string(store::parent_path(at))) {
      missing.insert(missing.begin(), at);
    }
    if (limits != nullptr &&
        owned_by(caller.domid) + missing.size() > (*limits)[store::Quota::kNodes]) {
      return false;
    }
    for (const std::string& at : missing) {
      store::Perms perms = nodes[std::string(store::parent_path(at))].perms;
      if (!caller.privileged && perms[0].domid != caller.domid) {
        perms[0] = {caller.domid, perms[0].access};
      }
      nodes[at] = {at == path ? value : "", perms, ++births};
    }
    return true;
  }

  void remove(const std::string& path) {
    std::erase_if(nodes, [&](const auto& entry) {
      return entry.first == path || entry.first.starts_with(path + "/");
    });
  }
};

}  // namespace model
