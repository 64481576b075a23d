// SPDX-License-Identifier: MIT
#include "store/view.h"

#include <algorithm>

#include "store/path.h"

namespace store {

std::int64_t node_bytes(const Node& node) {
  return static_cast<std::int64_t>(24 + 8 * node.perms()->view().size() + node.name().size() + 1 +
                                   node.value().size());
}

/// Where a path leads: to a node, or to the last existing one on the way.
struct View::Found {
  Node* node;                ///< null when missing
  Node* nearest;             ///< the node, or its nearest existing ancestor
  std::string_view missing;  ///< names still to go after `nearest`
  std::size_t levels;        ///< how many names `missing` holds

  /// Forbidden is told from missing only by who may access the nearest ancestor.
  WireError error(Access want, const Caller& caller) const {
    return allows(access_of(caller, nearest->perms()->view()), want) && node == nullptr
               ? WireError::kNoent
               : WireError::kAcces;
  }
};

View::Found View::look_up(std::string_view path) {
  slots_.clear();
  Node* node = root_.get();
  PathNames names(path);
  while (!names.done()) {
    const std::string_view rest = names.rest();
    const Children* children = node->children();
    const std::uint32_t slot = children == nullptr ? Children::kNone : children->find(names.next());
    if (slot == Children::kNone) {
      const auto slashes = std::count(rest.begin(), rest.end(), '/');
      return {nullptr, node, rest, static_cast<std::size_t>(slashes) + 1};
    }
    slots_.push_back(slot);
    node = children->at(slot);
  }
  return {node, node, {}, 0};
}

const Node* View::find(std::string_view path) { return look_up(path).node; }

Answer<void> View::execute(const TreeOp& op, const Asker& asker, std::string& reply) {
  switch (op.kind) {
    case TreeOp::Kind::kRead:
      return read(op, asker, reply);
    case TreeOp::Kind::kDirectory:
      return directory(op, asker, reply);
    case TreeOp::Kind::kDirectoryPart:
      return directory_part(op, asker, reply);
    case TreeOp::Kind::kGetPerms:
      return get_perms(op, asker, reply);
    case TreeOp::Kind::kWrite:
      return write(op, asker);
    case TreeOp::Kind::kMkdir:
      return mkdir(op, asker);
    case TreeOp::Kind::kRm:
      return rm(op, asker);
    case TreeOp::Kind::kSetPerms:
      return set_perms(op, asker);
  }
  __builtin_unreachable();
}

Answer<const Node*> View::readable(std::string_view path, const Asker& asker) {
  const Found found = look_up(path);
  if (found.node == nullptr ||
      !allows(access_of(asker.caller, found.node->perms()->view()), Access::kRead)) {
    return tl::unexpected(found.error(Access::kRead, asker.caller));
  }
  return found.node;
}

Answer<void> View::read(const TreeOp& op, const Asker& asker, std::string& reply) {
  const auto node = readable(op.path, asker);
  if (!node.has_value()) return tl::unexpected(node.error());
  reply += node.value()->value();
  return {};
}

Answer<void> View::directory(const TreeOp& op, const Asker& asker, std::string& reply) {
  const auto node = readable(op.path, asker);
  if (!node.has_value()) return tl::unexpected(node.error());
  const Children* children = node.value()->children();
  if (children == nullptr) return {};
  if (children->name_bytes() > kReplyMax) return tl::unexpected(WireError::kTooBig);
  for (std::uint32_t slot = 0; slot < children->slot_count(); ++slot) {
    if (const Node* child = children->at(slot)) {
      reply += child->name();
      reply += '\0';
    }
  }
  return {};
}

/// The generation, then as many whole names as fit; an empty name says that the
/// list ends here. A client starts again when the generation differs.
Answer<void> View::directory_part(const TreeOp& op, const Asker& asker, std::string& reply) {
  const auto node = readable(op.path, asker);
  if (!node.has_value()) return tl::unexpected(node.error());
  const std::size_t start = reply.size();
  reply += std::to_string(raw(node.value()->generation()));
  reply += '\0';
  const Children* children = node.value()->children();
  std::size_t skip = op.offset;
  for (std::uint32_t slot = 0; children != nullptr && slot < children->slot_count(); ++slot) {
    const Node* child = children->at(slot);
    if (child == nullptr) continue;
    const std::size_t bytes = child->name().size() + 1;
    if (skip >= bytes) {
      skip -= bytes;
      continue;
    }
    // One byte stays free for the mark of the end.
    if (reply.size() - start + bytes - skip + 1 > kReplyMax) return {};
    reply += child->name().substr(std::min(skip, bytes - 1));
    reply += '\0';
    skip = 0;
  }
  reply += '\0';
  return {};
}

Answer<void> View::get_perms(const TreeOp& op, const Asker& asker, std::string& reply) {
  const auto node = readable(op.path, asker);
  if (!node.has_value()) return tl::unexpected(node.error());
  for (const PermEntry& entry : node.value()->perms()->view()) {
    append_perm(entry, reply);
    reply += '\0';
  }
  return {};
}

Answer<void> View::write(const TreeOp& op, const Asker& asker) {
  const Found found = look_up(op.path);
  if (!allows(access_of(asker.caller, found.nearest->perms()->view()), Access::kWrite)) {
    return tl::unexpected(WireError::kAcces);
  }
  if (found.node == nullptr) {
    if (auto ok = check_creation(found, op.value, asker); !ok.has_value()) return ok;
    create(found, op.path, op.value, asker.caller);
    return {};
  }
  if (asker.limits != nullptr &&
      found.node->record_bytes() - found.node->value().size() + op.value.size() >=
          (*asker.limits)[Quota::kNodeSize]) {
    return tl::unexpected(WireError::kNospc);
  }
  NodeId parent_id{};
  PermsRef parent_perms;
  Node** slot = own_found(&parent_id, &parent_perms);
  usage_.add((*slot)->perms()->owner(), 0,
             static_cast<std::int64_t>(op.value.size()) -
                 static_cast<std::int64_t>((*slot)->value().size()));
  Node* node = Node::set_value(*slot, op.value);
  node->set_generation(next_generation());
  changed(node, parent_id, op.path);
  fire(op.path, false, node->perms(), parent_perms, {});
  return {};
}

Answer<void> View::mkdir(const TreeOp& op, const Asker& asker) {
  const Found found = look_up(op.path);
  if (!allows(access_of(asker.caller, found.nearest->perms()->view()), Access::kWrite)) {
    return tl::unexpected(WireError::kAcces);
  }
  if (found.node != nullptr) return {};
  if (auto ok = check_creation(found, {}, asker); !ok.has_value()) return ok;
  create(found, op.path, {}, asker.caller);
  return {};
}

/// The limits on every node that a creation makes or lengthens, before any of
/// them is touched. The count is the creator's, though the owner is charged.
Answer<void> View::check_creation(const Found& found, std::string_view value,
                                  const Asker& asker) const {
  if (asker.limits == nullptr) return {};
  const Limits& limits = *asker.limits;
  if (asker.nodes_owned + found.levels > limits[Quota::kNodes]) {
    return tl::unexpected(WireError::kNospc);
  }
  PathNames names = PathNames::of_rest(found.missing);
  std::size_t bytes = found.nearest->record_bytes();
  const std::size_t fresh = 24 + 8 * found.nearest->perms()->view().size();
  while (!names.done()) {
    if (bytes + names.next().size() + 1 >= limits[Quota::kNodeSize]) {
      return tl::unexpected(WireError::kNospc);
    }
    bytes = fresh;
  }
  if (fresh + value.size() >= limits[Quota::kNodeSize]) return tl::unexpected(WireError::kNospc);
  return {};
}

/// Makes all missing levels; only the last one has the value and is fired.
void View::create(const Found& found, std::string_view path, std::string_view value,
                  const Caller& caller) {
  Node** slot = own_found(nullptr, nullptr);
  Node* parent = *slot;
  PathNames names = PathNames::of_rest(found.missing);
  while (!names.done()) {
    const std::string_view name = names.next();
    const auto end = static_cast<std::size_t>(name.data() + name.size() - path.data());
    const PermsRef parent_perms = parent->perms();
    Node* child =
        create_child(parent, name, path.substr(0, end), names.done() ? value : "", caller);
    if (names.done()) fire(path, false, child->perms(), parent_perms, {});
    parent = child;
  }
}

/// A new node inherits its parent's permissions; one made by an unprivileged
/// domain becomes that domain's.
Node* View::create_child(Node* parent, std::string_view name, std::string_view path,
                         std::string_view value, const Caller& caller) {
  PermsRef perms = parent->perms();
  if (!caller.privileged && perms->owner() != caller.domid) {
    Perms entries(perms->view().begin(), perms->view().end());
    entries.front().domid = caller.domid;
    entries.front().stale = false;
    perms = SharedPerms::make(std::move(entries));
    mention(*perms, path, true);
  }
  const Generation generation = next_generation();
  Node* child = Node::make(NodeId{raw(generation)}, generation, perms, name, value);
  parent->own_children().add(child);
  parent->set_generation(generation);
  usage_.add(perms->owner(), 1, node_bytes(*child));
  changed(child, parent->id(), path);
  return child;
}

Answer<void> View::rm(const TreeOp& op, const Asker& asker) {
  const Found found = look_up(op.path);
  if (!allows(access_of(asker.caller, found.nearest->perms()->view()), Access::kWrite)) {
    return tl::unexpected(WireError::kAcces);
  }
  if (found.node == nullptr) {
    // Gone already is as good as removed, if the place for it exists.
    if (found.levels == 1) return {};
    return tl::unexpected(WireError::kNoent);
  }
  if (op.path == "/") return tl::unexpected(WireError::kInval);
  detach(op.path);
  return {};
}

void View::remove_tree(std::string_view path) {
  if (look_up(path).node != nullptr && path != "/") detach(path);
}

/// Removes the node of the last look_up() with all below it.
void View::detach(std::string_view path) {
  const std::uint32_t slot = slots_.back();
  slots_.pop_back();
  NodeId grandparent{};
  Node* parent = *own_found(&grandparent, nullptr);
  Children& children = parent->own_children();
  account_removed(children.at(slot), path, parent->perms());
  children.remove(slot);
  parent->drop_empty_children();
  parent->set_generation(next_generation());
  changed(parent, grandparent, {});
}

/// Children before parents, without recursion.
void View::account_removed(const Node* top, std::string_view path, const PermsRef& parent_perms) {
  struct Level {
    const Node* node;
    std::uint32_t next_slot;
    std::size_t path_bytes;
  };
  std::string at(path);
  std::vector<Level> levels{{top, 0, at.size()}};
  while (!levels.empty()) {
    Level& level = levels.back();
    at.resize(level.path_bytes);
    const Children* children = level.node->children();
    const Node* child = nullptr;
    while (children != nullptr && level.next_slot < children->slot_count() && child == nullptr) {
      child = children->at(level.next_slot++);
    }
    if (child != nullptr) {
      at += '/';
      at += child->name();
      levels.push_back({child, 0, at.size()});
      continue;
    }
    const Node* done = level.node;
    levels.pop_back();
    account_removed_node(done, at, levels.empty() ? parent_perms : levels.back().node->perms(),
                         levels.empty());
  }
}

void View::account_removed_node(const Node* node, std::string_view path,
                                const PermsRef& parent_perms, bool is_top) {
  usage_.add(node->perms()->owner(), -1, -node_bytes(*node));
  if (effects_ == nullptr) return;
  if (node->perms().get() != parent_perms.get()) mention(*node->perms(), path, false);
  effects_->changes.push_back({NodeRef(), node->id(), kNoNode, std::string(is_top ? path : "")});
  fire(path, !is_top, node->perms(), parent_perms, {});
}

Answer<void> View::set_perms(const TreeOp& op, const Asker& asker) {
  const Found found = look_up(op.path);
  if (found.node == nullptr) {
    // Also who may make the node learns that it is missing.
    return tl::unexpected(found.error(Access::kWrite, asker.caller));
  }
  if (!owns(asker.caller, found.node->perms()->view())) return tl::unexpected(WireError::kAcces);
  if (!asker.caller.privileged && op.perms.front().domid != found.node->perms()->owner()) {
    return tl::unexpected(WireError::kPerm);
  }
  const std::size_t perms_before = found.node->perms()->view().size();
  if (asker.limits != nullptr &&
      found.node->record_bytes() + 8 * op.perms.size() - 8 * perms_before >=
          (*asker.limits)[Quota::kNodeSize]) {
    return tl::unexpected(WireError::kNospc);
  }
  NodeId parent_id{};
  PermsRef parent_perms;
  Node* node = *own_found(&parent_id, &parent_perms);
  const PermsRef old_perms = node->perms();
  replace_perms(node, op.path, SharedPerms::make(Perms(op.perms.begin(), op.perms.end())),
                parent_perms);
  node->set_generation(next_generation());
  changed(node, parent_id, op.path);
  fire(op.path, false, node->perms(), parent_perms, old_perms);
  return {};
}

/// Keeps the record of who is named where: children that shared the node's old
/// permissions now stand alone with them.
void View::replace_perms(Node* node, std::string_view path, const PermsRef& perms,
                         const PermsRef& parent_perms) {
  const PermsRef old_perms = node->perms();
  usage_.add(old_perms->owner(), -1, -node_bytes(*node));
  node->set_perms(perms);
  usage_.add(perms->owner(), 1, node_bytes(*node));
  if (effects_ == nullptr) return;
  if (old_perms.get() != parent_perms.get()) mention(*old_perms, path, false);
  mention(*perms, path, true);
  const Children* children = node->children();
  for (std::uint32_t slot = 0; children != nullptr && slot < children->slot_count(); ++slot) {
    const Node* child = children->at(slot);
    if (child == nullptr || child->perms().get() != old_perms.get()) continue;
    mention(*old_perms, child_path(path, child->name()), true);
  }
}

void View::forget_domain(std::string_view path, Domid domid, Domid new_owner) {
  if (look_up(path).node == nullptr) return;
  NodeId parent_id{};
  Node* top = *own_found(&parent_id, nullptr);
  const PermsRef old_perms = top->perms();
  if (!old_perms->names(domid)) return;
  Perms entries(old_perms->view().begin(), old_perms->view().end());
  if (entries.front().domid == domid) entries.front().domid = new_owner;
  for (PermEntry& entry : entries) entry.stale = entry.stale || entry.domid == domid;
  const PermsRef perms = SharedPerms::make(std::move(entries));

  struct Heir {
    Node* node;
    NodeId parent;
    std::string path;
  };
  std::vector<Heir> heirs{{top, parent_id, std::string(path)}};
  while (!heirs.empty()) {
    const Heir heir = std::move(heirs.back());
    heirs.pop_back();
    usage_.add(old_perms->owner(), -1, -node_bytes(*heir.node));
    heir.node->set_perms(perms);
    usage_.add(perms->owner(), 1, node_bytes(*heir.node));
    if (heir.node->child_count() != 0) {
      Children& children = heir.node->own_children();
      for (std::uint32_t slot = 0; slot < children.slot_count(); ++slot) {
        if (children.at(slot) == nullptr || children.at(slot)->perms().get() != old_perms.get()) {
          continue;
        }
        Node* child = Node::own(children.own(slot));
        heirs.push_back({child, heir.node->id(), child_path(heir.path, child->name())});
      }
    }
    changed(heir.node, heir.parent, heir.path);
  }
}

/// Makes the nodes from the root to the last look_up()'s nearest node unshared.
/// Returns where that node is kept; gives its parent's id and permissions.
Node** View::own_found(NodeId* parent_id, PermsRef* parent_perms) {
  Node** slot = &root_.slot();
  Node* node = Node::own(*slot);
  if (parent_id != nullptr) *parent_id = kNoNode;
  for (std::size_t depth = 0; depth < slots_.size(); ++depth) {
    if (depth + 1 == slots_.size()) {
      if (parent_id != nullptr) *parent_id = node->id();
      if (parent_perms != nullptr) *parent_perms = node->perms();
    }
    slot = &node->own_children().own(slots_[depth]);
    node = Node::own(*slot);
  }
  return slot;
}

void View::changed(Node* node, NodeId parent, std::string_view path) {
  if (effects_ != nullptr) {
    effects_->changes.push_back({NodeRef::share(node), node->id(), parent, std::string(path)});
  }
}

void View::fire(std::string_view path, bool exact, const PermsRef& perms,
                const PermsRef& parent_perms, const PermsRef& old_perms) {
  if (effects_ != nullptr) {
    effects_->fired.push_back({std::string(path), exact, perms, parent_perms, old_perms});
  }
}

void View::mention(const SharedPerms& perms, std::string_view path, bool begins) {
  if (effects_ == nullptr) return;
  for (const PermEntry& entry : perms.view()) {
    if (entry.stale || entry.domid == kDom0 || entry.domid == kDomidAny) continue;
    effects_->mentions.push_back({entry.domid, std::string(path), begins});
  }
}

}  // namespace store
