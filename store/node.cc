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
constexpr std::size_t kScanMax = 16;

}  // namespace

bool SharedPerms::names(Domid domid) const {
  return std::any_of(entries_.begin(), entries_.end(), [domid](const PermEntry& entry) {
    return !entry.stale && entry.domid == domid;
  });
}

Children::Children(const Children& other)
    : live_(other.live_),
      name_bytes_(other.name_bytes_),
      slots_(other.slots_),
      tags_(other.tags_),
      index_(other.index_) {
  for (Node* child : slots_) {
    if (child != nullptr) child->add_ref();
  }
}

Children::~Children() {
  for (Node* child : slots_) {
    if (child != nullptr) child->release();
  }
}

std::uint32_t Children::tag_of(std::string_view name) {
  return static_cast<std::uint32_t>(std::hash<std::string_view>{}(name));
}

std::uint32_t Children::find(std::string_view name) const {
  const std::uint32_t tag = tag_of(name);
  const auto is_it = [&](std::uint32_t slot) {
    return tags_[slot] == tag && slots_[slot] != nullptr && slots_[slot]->name() == name;
  };
  if (index_.empty()) {
    for (std::uint32_t slot = 0; slot < slots_.size(); ++slot) {
      if (is_it(slot)) return slot;
    }
    return kNone;
  }
  const std::size_t mask = index_.size() - 1;
  for (std::size_t probe = tag & mask; index_[probe] != 0; probe = (probe + 1) & mask) {
    if (is_it(index_[probe] - 1)) return index_[probe] - 1;
  }
  return kNone;
}

void Children::add(Node* child) {
  const auto slot = static_cast<std::uint32_t>(slots_.size());
  slots_.push_back(child);
  tags_.push_back(tag_of(child->name()));
  ++live_;
  name_bytes_ += static_cast<std::uint32_t>(child->name().size()) + 1;
  if (slots_.size() <= kScanMax) return;
  if (slots_.size() * 2 > index_.size()) {
    rebuild();
  } else {
    index_slot(slot);
  }
}

void Children::remove(std::uint32_t slot) {
  Node* child = std::exchange(slots_[slot], nullptr);
  --live_;
  name_bytes_ -= static_cast<std::uint32_t>(child->name().size()) + 1;
  child->release();
  if (live_ * 2 < slots_.size()) rebuild();
}

void Children::index_slot(std::uint32_t slot) {
  const std::size_t mask = index_.size() - 1;
  std::size_t probe = tags_[slot] & mask;
  while (index_[probe] != 0) probe = (probe + 1) & mask;
  index_[probe] = slot + 1;
}

/// Closes the holes and sizes the index to at most half full, with room to grow.
void Children::rebuild() {
  std::size_t kept = 0;
  for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
    if (slots_[slot] == nullptr) continue;
    slots_[kept] = slots_[slot];
    tags_[kept] = tags_[slot];
    ++kept;
  }
  slots_.resize(kept);
  tags_.resize(kept);
  index_.clear();
  if (kept <= kScanMax) return;
  std::size_t size = 2 * kScanMax;
  while (size < kept * 4) size *= 2;
  index_.assign(size, 0);
  for (std::uint32_t slot = 0; slot < kept; ++slot) index_slot(slot);
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
  if (copy->children_ != nullptr) ++copy->children_->refs;
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
  } else if (children_->refs > 1) {
    auto* copy = new Children(*children_);
    --children_->refs;
    children_ = copy;
  }
  return *children_;
}

void Node::drop_empty_children() {
  if (children_ != nullptr && children_->count() == 0 && children_->refs == 1) {
    delete std::exchange(children_, nullptr);
  }
}

void Node::free_shell(Node* node) {
  node->~Node();
  std::free(node);
}

/// Without recursion, whatever the tree's depth (XSA-418).
void Node::destroy(Node* node) {
  std::vector<Children*> orphaned;
  const auto free_node = [&orphaned](Node* dead) {
    Children* children = dead->children_;
    if (children != nullptr && --children->refs == 0) orphaned.push_back(children);
    free_shell(dead);
  };
  free_node(node);
  while (!orphaned.empty()) {
    Children* children = orphaned.back();
    orphaned.pop_back();
    for (Node*& child : children->slots_) {
      if (child != nullptr && --child->refs_ == 0) free_node(child);
      child = nullptr;
    }
    delete children;
  }
}

}  // namespace store
