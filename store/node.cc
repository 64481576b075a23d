// SPDX-License-Identifier: MIT
#include "store/node.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <new>

namespace store {
namespace {

/// Up to this many slots a scan of the tags beats an index.
constexpr std::uint32_t kScanMax = 16;

std::uint32_t tag_of(std::string_view name) {
  return static_cast<std::uint32_t>(std::hash<std::string_view>{}(name));
}

}  // namespace

bool SharedPerms::names(Domid domid) const {
  return std::any_of(entries_.begin(), entries_.end(), [domid](const PermEntry& entry) {
    return !entry.stale && entry.domid == domid;
  });
}

Children::Run::Run(const Run& other) : tags(other.tags), slots(other.slots) {
  for (Node* child : slots) {
    if (child != nullptr) child->add_ref();
  }
}

Children::Run::~Run() {
  for (Node* child : slots) {
    if (child != nullptr) child->release();
  }
}

void Children::Index::insert(std::uint32_t tag, std::uint32_t slot) {
  const std::size_t mask = entries.size() - 1;
  std::size_t probe = tag & mask;
  while (entries[probe] != 0) probe = (probe + 1) & mask;
  entries[probe] = slot + 1;
  ++used;
}

void Children::release() {
  if (--refs_ == 0) delete this;
}

std::uint32_t Children::find(std::string_view name) const {
  const std::uint32_t tag = tag_of(name);
  const std::uint32_t slots = slot_count();
  const auto is_it = [&](std::uint32_t slot) {
    if (slot >= slots) return false;
    const Run& run = *runs_[slot / kRun];
    const Node* child = run.slots[slot % kRun];
    return run.tags[slot % kRun] == tag && child != nullptr && child->name() == name;
  };
  if (!index_) {
    for (std::uint32_t slot = 0; slot < slots; ++slot) {
      if (is_it(slot)) return slot;
    }
    return kNone;
  }
  const std::vector<std::uint32_t>& entries = index_->entries;
  const std::size_t mask = entries.size() - 1;
  for (std::size_t probe = tag & mask; entries[probe] != 0; probe = (probe + 1) & mask) {
    if (is_it(entries[probe] - 1)) return entries[probe] - 1;
  }
  return kNone;
}

void Children::add(Node* child) {
  const std::uint32_t tag = tag_of(child->name());
  append(child, tag);
  ++live_;
  name_bytes_ += static_cast<std::uint32_t>(child->name().size()) + 1;
  const std::uint32_t slots = slot_count();
  if (slots <= kScanMax) return;
  if (!index_ || (std::size_t{index_->used} + 1) * 2 > index_->entries.size()) {
    build_index();
  } else {
    index_->insert(tag, slots - 1);
  }
}

void Children::append(Node* child, std::uint32_t tag) {
  if (runs_.empty() || runs_.back()->slots.size() == kRun) {
    runs_.push_back(Ref<Run>::adopt(new Run));
  }
  Run& run = own_run(runs_.size() - 1);
  run.slots.push_back(child);
  run.tags.push_back(tag);
}

void Children::remove(std::uint32_t slot) {
  Node* child = std::exchange(own(slot), nullptr);
  --live_;
  name_bytes_ -= static_cast<std::uint32_t>(child->name().size()) + 1;
  child->release();
  if (live_ * 2 < slot_count()) close_holes();
}

Children::Run& Children::own_run(std::size_t run) {
  if (runs_[run]->refs > 1) runs_[run] = Ref<Run>::adopt(new Run(*runs_[run]));
  return *runs_[run];
}

void Children::close_holes() {
  const std::vector<Ref<Run>> old_runs = std::exchange(runs_, {});
  for (const Ref<Run>& run : old_runs) {
    for (std::size_t i = 0; i < run->slots.size(); ++i) {
      Node* child = run->slots[i];
      if (child == nullptr) continue;
      child->add_ref();
      append(child, run->tags[i]);
    }
  }
  index_ = Ref<Index>();
  if (slot_count() > kScanMax) build_index();
}

/// An index of our own, at most a quarter full.
void Children::build_index() {
  std::size_t size = std::size_t{2} * kScanMax;
  while (size < std::size_t{live_} * 4) size *= 2;
  index_ = Ref<Index>::adopt(new Index(size));
  for (std::uint32_t slot = 0; slot < slot_count(); ++slot) {
    if (at(slot) != nullptr) index_->insert(runs_[slot / kRun]->tags[slot % kRun], slot);
  }
}

void Children::give_up(std::vector<Node*>& out) {
  for (const Ref<Run>& run : runs_) {
    const bool is_last = run->refs == 1;
    for (Node*& child : run->slots) {
      if (child == nullptr || !is_last) continue;
      out.push_back(std::exchange(child, nullptr));
    }
  }
  runs_.clear();
}

Node* Node::make(NodeId id, Generation generation, PermsRef perms, std::string_view name,
                 std::string_view value) {
  void* memory = std::malloc(sizeof(Node) + name.size() + value.size());
  if (memory == nullptr) throw std::bad_alloc();
  Node* node = new (memory) Node(id, generation, std::move(perms));
  node->name_bytes_ = static_cast<std::uint16_t>(name.size());
  node->value_bytes_ = static_cast<std::uint16_t>(value.size());
  if (!name.empty()) std::memcpy(node->text(), name.data(), name.size());
  if (!value.empty()) std::memcpy(node->text() + name.size(), value.data(), value.size());
  return node;
}

Node* Node::find(std::string_view name) const {
  if (children_ == nullptr) return nullptr;
  const std::uint32_t slot = children_->find(name);
  return slot == Children::kNone ? nullptr : children_->at(slot);
}

std::size_t Node::record_bytes() const {
  return 24 + 8 * perms_->view().size() + value_bytes_ +
         (children_ == nullptr ? 0 : children_->name_bytes());
}

Node* Node::own(Node*& slot) {
  if (slot->refs_ == 1) return slot;
  Node* copy = make(slot->id_, slot->generation_, slot->perms_, slot->name(), slot->value());
  copy->children_ = slot->children_;
  if (copy->children_ != nullptr) copy->children_->add_ref();
  slot->release();
  return slot = copy;
}

Node* Node::set_value(Node*& slot, std::string_view value) {
  if (value.size() == slot->value_bytes_) {
    if (!value.empty()) std::memmove(slot->text() + slot->name_bytes_, value.data(), value.size());
    return slot;
  }
  Node* moved = make(slot->id_, slot->generation_, slot->perms_, slot->name(), value);
  moved->children_ = std::exchange(slot->children_, nullptr);
  free_shell(slot);
  return slot = moved;
}

Children& Node::own_children() {
  if (children_ == nullptr) {
    children_ = new Children;
  } else if (children_->is_shared()) {
    auto* copy = new Children(*children_);
    children_->release();
    children_ = copy;
  }
  return *children_;
}

void Node::drop_empty_children() {
  if (children_ == nullptr || children_->count() != 0) return;
  std::exchange(children_, nullptr)->release();
}

void Node::free_shell(Node* node) {
  node->~Node();
  std::free(node);
}

/// Without recursion, whatever the tree's depth (XSA-418).
void Node::destroy(Node* node) {
  std::vector<Node*> dead;
  const auto free_node = [&dead](Node* last) {
    if (Children* children = last->children_) {
      if (!children->is_shared()) children->give_up(dead);
      children->release();
    }
    free_shell(last);
  };
  free_node(node);
  while (!dead.empty()) {
    Node* next = dead.back();
    dead.pop_back();
    if (--next->refs_ == 0) free_node(next);
  }
}

}  // namespace store
