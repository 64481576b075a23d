// SPDX-License-Identifier: MIT
#include "store/store.h"

#include <algorithm>
#include <charconv>

#include "store/path.h"

namespace store {
namespace {

constexpr std::uint64_t kGoodAnswer = 0x100;  ///< digests below it are errors

/// A digest of an answer, to see later whether it would be the same. The
/// generation that DIRECTORY_PART shows is left out where the transaction's own
/// change made it.
std::uint64_t answer_digest(const TreeOp& op, const Answer<void>& answer, std::string_view payload,
                            std::uint64_t base) {
  if (!answer.has_value()) return static_cast<std::uint64_t>(answer.error()) + 1;
  if (op.kind == TreeOp::Kind::kDirectoryPart) {
    std::uint64_t generation = 0;
    const auto number =
        std::from_chars(payload.data(), payload.data() + payload.size(), generation);
    if (generation > base) {
      payload.remove_prefix(static_cast<std::size_t>(number.ptr - payload.data()));
    }
  }
  return std::hash<std::string_view>{}(payload) | kGoodAnswer;
}

/// Paths of the root's children that share its permissions.
std::vector<std::string> heirs_of_root(const Node& root) {
  std::vector<std::string> heirs;
  const Children* children = root.children();
  for (std::uint32_t slot = 0; children != nullptr && slot < children->slot_count(); ++slot) {
    const Node* child = children->at(slot);
    if (child == nullptr || child->perms().get() != root.perms().get()) continue;
    heirs.push_back("/" + std::string(child->name()));
  }
  return heirs;
}

std::size_t count_nodes(const Node& top) {
  std::size_t count = 0;
  std::vector<const Node*> open{&top};
  while (!open.empty()) {
    const Node* node = open.back();
    open.pop_back();
    ++count;
    const Children* children = node->children();
    for (std::uint32_t slot = 0; children != nullptr && slot < children->slot_count(); ++slot) {
      if (children->at(slot) != nullptr) open.push_back(children->at(slot));
    }
  }
  return count;
}

}  // namespace

Store::Store()
    : root_(NodeRef::adopt(Node::make(kRootId, Generation{raw(kRootId)},
                                      SharedPerms::make({{kDom0, Access::kNone}}), "", ""))) {
  usage_.add({kDom0, 1, node_bytes(*root_)});
  effects_.changes.push_back({root_, kRootId, kNoNode, "/"});
}

std::uint32_t Store::nodes_of(Domid domid, const UsageDelta& pending) const {
  const auto count = static_cast<std::int64_t>(usage_.of(domid).nodes) + pending.nodes_of(domid);
  return count < 0 ? 0 : static_cast<std::uint32_t>(count);
}

Answer<void> Store::execute(const TreeOp& op, const Caller& caller, const Limits* limits,
                            std::string& reply) {
  pending_.clear();
  View view(root_, generation_, pending_, &effects_);
  const Asker asker{caller, limits, limits == nullptr ? 0 : usage_.of(caller.domid).nodes};
  auto answer = view.execute(op, asker, reply);
  if (answer.has_value() && is_mutation(op.kind)) settle();
  return answer;
}

/// Takes over what an operation that succeeded did to the counts.
void Store::settle() {
  usage_.apply(pending_);
  for (MentionEdit& edit : effects_.mentions) {
    if (edit.begins) {
      mentions_[edit.domid].insert(std::move(edit.path));
    } else if (const auto found = mentions_.find(edit.domid); found != mentions_.end()) {
      found->second.erase(edit.path);
      if (found->second.empty()) mentions_.erase(found);
    }
  }
  effects_.mentions.clear();
}

void Store::doom(Transaction& transaction) const { transaction = begin(true); }

Answer<void> Store::execute_in(Transaction& transaction, const TreeOp& op, const Caller& caller,
                               const Limits* limits, std::string& reply) {
  if (!transaction.may_ask(op, limits)) {
    transaction.failed_ = true;
    return tl::unexpected(WireError::kNospc);
  }
  View view(transaction.root_, generation_, transaction.usage_, nullptr);
  const Asker asker{caller, limits, nodes_of(caller.domid, transaction.usage_)};
  const std::size_t start = reply.size();
  auto answer = view.execute(op, asker, reply);
  if (!answer.has_value() && answer.error() == WireError::kNospc) transaction.failed_ = true;
  // The node may be one that was made in here before it was doomed.
  if (transaction.doomed() && is_mutation(op.kind) && answer == tl::unexpected(WireError::kNoent)) {
    return {};
  }
  transaction.asked(
      op, answer_digest(op, answer, std::string_view(reply).substr(start), transaction.base_));
  return answer;
}

Answer<void> Store::commit(Transaction& transaction, const Caller& caller, const Limits* limits,
                           std::string& conflict) {
  if (transaction.failed()) return tl::unexpected(WireError::kNomem);
  if (transaction.doomed()) return tl::unexpected(WireError::kAgain);
  // Lets go of the snapshot, so that what only it shared can change in place.
  transaction.root_ = NodeRef();

  NodeRef root = root_;
  pending_.clear();
  const std::size_t first_event = effects_.fired.size();
  const std::size_t first_change = effects_.changes.size();
  auto answer = replay(transaction, caller, limits, root, conflict);
  if (!answer.has_value()) {
    effects_.changes.resize(first_change);
    effects_.fired.resize(first_event);
    effects_.mentions.clear();
    return answer;
  }
  root_ = std::move(root);
  settle();
  order_events(transaction, first_event);
  return {};
}

Answer<void> Store::replay(Transaction& transaction, const Caller& caller, const Limits* limits,
                           NodeRef& root, std::string& conflict) {
  View view(root, generation_, pending_, &effects_);
  std::string reply;
  for (const Transaction::Asked& asked : transaction.asked_) {
    reply.clear();
    const Asker asker{caller, limits, nodes_of(caller.domid, pending_)};
    const auto answer = view.execute(asked.op(), asker, reply);
    if (answer_digest(asked.op(), answer, reply, transaction.base_) == asked.answer) continue;
    // What was done inside no longer fits: trying again would not help.
    const bool was_good = asked.answer >= kGoodAnswer;
    if (was_good && !answer.has_value() && answer.error() == WireError::kNospc) return answer;
    conflict = asked.path;
    return tl::unexpected(WireError::kAgain);
  }
  return {};
}

/// The events of a commit: in the order in which the transaction first named the
/// nodes, one a node, where one that tells ancestors too goes before an exact one.
/// Nodes that went with a removed ancestor come right after it.
void Store::order_events(const Transaction& transaction, std::size_t first) {
  struct Placed {
    std::size_t place;
    bool below;
    Fired fired;
  };
  std::vector<Placed> placed;
  std::unordered_map<std::string, std::size_t> seen;
  for (std::size_t i = first; i < effects_.fired.size(); ++i) {
    Fired& fired = effects_.fired[i];
    if (const auto [at, fresh] = seen.try_emplace(fired.path, placed.size()); !fresh) {
      Fired& earlier = placed[at->second].fired;
      earlier.exact = earlier.exact && fired.exact;
      earlier.perms = fired.perms;
      if (fired.old_perms && !earlier.old_perms) earlier.old_perms = fired.old_perms;
      continue;
    }
    std::string_view named = fired.path;
    auto place = transaction.touched_.find(std::string(named));
    while (place == transaction.touched_.end() && !named.empty()) {
      named = parent_path(named);
      place = transaction.touched_.find(std::string(named));
    }
    const std::size_t order = place == transaction.touched_.end() ? 0 : place->second;
    placed.push_back({order, named.size() != fired.path.size(), std::move(fired)});
  }
  std::stable_sort(placed.begin(), placed.end(), [](const Placed& a, const Placed& b) {
    return a.place != b.place ? a.place < b.place : a.below < b.below;
  });
  effects_.fired.resize(first);
  for (Placed& event : placed) effects_.fired.push_back(std::move(event.fired));
}

void Store::domain_died(Domid domid, bool keep_orphans) {
  const auto found = mentions_.find(domid);
  if (found == mentions_.end()) return;
  const std::set<std::string> paths = std::move(found->second);
  mentions_.erase(found);
  pending_.clear();
  View view(root_, generation_, pending_, &effects_);
  for (const std::string& path : paths) {  // in this order ancestors come first
    const Node* node = view.find(path);
    if (node == nullptr) continue;
    const PermEntry& owner = node->perms()->view().front();
    if (owner.domid == domid && !owner.stale && !keep_orphans) {
      if (path != "/") {
        view.remove_tree(path);
        continue;
      }
      // The root stays, and is dom0's again; what has its permissions from it goes.
      for (const std::string& heir : heirs_of_root(*node)) view.remove_tree(heir);
    }
    view.forget_domain(path, domid, kDom0);
  }
  settle();
}

const Node* find(const Node& root, std::string_view path) {
  const Node* node = &root;
  for (PathNames names(path); node != nullptr && !names.done();) node = node->find(names.next());
  return node;
}

std::size_t Store::subtree_nodes(std::string_view path) const {
  const Node* top = find(path);
  return top == nullptr ? 0 : count_nodes(*top);
}

std::size_t Store::nodes_concerned_by(Domid domid) const {
  std::size_t nodes = 0;
  const auto found = mentions_.find(domid);
  if (found == mentions_.end()) return nodes;
  for (const std::string& path : found->second) nodes += subtree_nodes(path);
  return nodes;
}

std::vector<std::string> Store::check() const {
  std::vector<std::string> wrong;
  Usage usage;
  std::map<Domid, std::set<std::string>> mentions;
  struct Open {
    const Node* node;
    const SharedPerms* parent_perms;
    std::string path;
  };
  std::vector<Open> open{{root_.get(), nullptr, ""}};
  while (!open.empty()) {
    const Open at = std::move(open.back());
    open.pop_back();
    const Node& node = *at.node;
    usage.add({node.perms()->owner(), 1, node_bytes(node)});
    if (raw(node.generation()) > generation_) wrong.push_back(at.path + ": generation too high");
    if (node.perms().get() != at.parent_perms) {
      for (const PermEntry& entry : node.perms()->view()) {
        if (entry.stale || entry.domid == kDom0 || entry.domid == kDomidAny) continue;
        mentions[entry.domid].insert(at.path.empty() ? "/" : at.path);
      }
    }
    const Children* children = node.children();
    std::uint64_t last_id = 0;
    for (std::uint32_t slot = 0; children != nullptr && slot < children->slot_count(); ++slot) {
      const Node* child = children->at(slot);
      if (child == nullptr) continue;
      const std::string path = at.path + '/' + std::string(child->name());
      if (raw(child->id()) <= last_id) wrong.push_back(path + ": not in order of creation");
      if (children->find(child->name()) != slot) wrong.push_back(path + ": not found by name");
      if (raw(child->id()) > raw(node.generation())) wrong.push_back(path + ": newer than parent");
      last_id = raw(child->id());
      open.push_back({child, node.perms().get(), path});
    }
  }
  if (usage != usage_) wrong.emplace_back("counts of owned nodes are wrong");
  if (mentions != mentions_) wrong.emplace_back("index of domains named is wrong");
  return wrong;
}

std::size_t Loader::find(NodeId id) const {
  if (last_parent_ < nodes_.size() && nodes_[last_parent_].id == id) return last_parent_;
  const auto found = std::lower_bound(nodes_.begin(), nodes_.end(), id,
                                      [](const Loaded& a, NodeId b) { return a.id < b; });
  return found != nodes_.end() && found->id == id ? static_cast<std::size_t>(found - nodes_.begin())
                                                  : nodes_.size();
}

bool Loader::add(NodeId id, NodeId parent, Generation generation, PermsView perms,
                 std::string_view name, std::string_view value) {
  if (perms.empty() || (!nodes_.empty() && nodes_.back().id >= id)) return false;
  generation_ = std::max({generation_, raw(id), raw(generation)});
  if (nodes_.empty()) {
    if (id != kRootId || parent != kNoNode || !name.empty()) return false;
    root_ = NodeRef::adopt(Node::make(
        id, generation, SharedPerms::make(Perms(perms.begin(), perms.end())), name, value));
    nodes_.push_back({id, root_.get(), 0});
  } else {
    last_parent_ = find(parent);
    if (last_parent_ == nodes_.size() || name.empty() || name.find('/') != std::string_view::npos) {
      return false;
    }
    Node* above = nodes_[last_parent_].node;
    const PermsView inherited = above->perms()->view();
    const bool inherits =
        std::equal(perms.begin(), perms.end(), inherited.begin(), inherited.end());
    Node* node =
        Node::make(id, generation,
                   inherits ? above->perms() : SharedPerms::make(Perms(perms.begin(), perms.end())),
                   name, value);
    above->own_children().add(node);
    above->set_generation(std::max(above->generation(), Generation{raw(id)}));
    nodes_.push_back({id, node, static_cast<std::uint32_t>(last_parent_)});
  }
  const Node& node = *nodes_.back().node;
  count(node);
  const bool own_perms =
      nodes_.size() == 1 || node.perms().get() != nodes_[last_parent_].node->perms().get();
  if (!own_perms) return true;
  for (const PermEntry& entry : perms) {
    if (entry.stale || entry.domid == kDom0 || entry.domid == kDomidAny) continue;
    mentions_[entry.domid].insert(path_of(nodes_.size() - 1));
  }
  return true;
}

/// Nodes of one owner mostly come in a row.
void Loader::count(const Node& node) {
  const Domid owner = node.perms()->owner();
  if (owner != counted_.owner) {
    if (counted_.nodes != 0) usage_.add(counted_);
    counted_ = {owner, 0, 0};
  }
  ++counted_.nodes;
  counted_.bytes += node_bytes(node);
}

std::string Loader::path_of(std::size_t index) const {
  std::string path;
  for (; index != 0; index = nodes_[index].parent) {
    path.insert(0, nodes_[index].node->name());
    path.insert(0, "/");
  }
  return path.empty() ? "/" : path;
}

bool Loader::finish(Store& store) {
  if (!root_) return false;
  usage_.add(counted_);
  store.root_ = std::move(root_);
  store.generation_ = generation_;
  store.usage_ = std::move(usage_);
  store.mentions_ = std::move(mentions_);
  store.effects_.clear();
  return true;
}

}  // namespace store
