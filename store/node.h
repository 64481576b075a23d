// SPDX-License-Identifier: MIT
/// Nodes of the tree, shared between the live tree and the snapshots that
/// transactions hold.
///
/// A node that only one place refers to changes in place; one that is shared is
/// copied first (copy on write, from the root down). So taking a snapshot is
/// counting one reference, and costs nothing more until something changes.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "store/ids.h"
#include "store/perms.h"

namespace store {

/// Counted pointer to something with add_ref() and release(). Single thread.
template <class T>
class Ref {
 public:
  Ref() = default;
  /// Takes over one reference.
  static Ref adopt(T* pointer) {
    Ref ref;
    ref.pointer_ = pointer;
    return ref;
  }
  /// Adds a reference.
  static Ref share(T* pointer) {
    if (pointer != nullptr) pointer->add_ref();
    return adopt(pointer);
  }
  Ref(const Ref& other) : pointer_(other.pointer_) {
    if (pointer_ != nullptr) pointer_->add_ref();
  }
  Ref(Ref&& other) noexcept : pointer_(std::exchange(other.pointer_, nullptr)) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(pointer_, other.pointer_);
    return *this;
  }
  ~Ref() {
    if (pointer_ != nullptr) pointer_->release();
  }
  T* get() const { return pointer_; }
  T* operator->() const { return pointer_; }
  T& operator*() const { return *pointer_; }
  explicit operator bool() const { return pointer_ != nullptr; }
  /// The pointer itself, for code that replaces what it points to.
  T*& slot() { return pointer_; }

 private:
  T* pointer_ = nullptr;
};

/// An immutable permission list, shared by a node and the children that
/// inherited it unchanged: that two nodes share it means one change of the
/// parent's permissions was where theirs came from.
class SharedPerms {
 public:
  static Ref<SharedPerms> make(Perms entries) {
    return Ref<SharedPerms>::adopt(new SharedPerms(std::move(entries)));
  }
  PermsView view() const { return entries_; }
  Domid owner() const { return entries_.front().domid; }
  /// A live entry names this domain.
  bool names(Domid domid) const;

  void add_ref() { ++refs_; }
  void release() {
    if (--refs_ == 0) delete this;
  }

 private:
  explicit SharedPerms(Perms entries) : entries_(std::move(entries)) {}
  std::uint32_t refs_ = 1;
  Perms entries_;
};
using PermsRef = Ref<SharedPerms>;

class Node;

/// The children of a node in order of creation, found by name.
///
/// Kept in runs of up to kRun slots that copies share until they change one, and
/// with an index that copies go on sharing: so copying, which happens whenever a
/// directory changes while a snapshot has it, costs little in a directory of any
/// width. Removal leaves a hole; holes are closed when half the slots are holes.
class Children {
 public:
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;

  Children() = default;
  /// A copy, referred to once.
  Children(const Children& other)
      : live_(other.live_),
        name_bytes_(other.name_bytes_),
        runs_(other.runs_),
        index_(other.index_) {}
  Children& operator=(const Children&) = delete;

  /// Slot number of the child of that name, or kNone.
  std::uint32_t find(std::string_view name) const;
  /// Appends; takes over one reference.
  void add(Node* child);
  void remove(std::uint32_t slot);
  /// Null is a hole.
  Node* at(std::uint32_t slot) const { return runs_[slot / kRun]->slots[slot % kRun]; }
  /// Where the child is kept, for changing it. Valid until the next add or remove.
  Node*& own(std::uint32_t slot) { return own_run(slot / kRun).slots[slot % kRun]; }
  std::uint32_t slot_count() const {
    return runs_.empty()
               ? 0
               : static_cast<std::uint32_t>((runs_.size() - 1) * kRun + runs_.back()->slots.size());
  }
  std::uint32_t count() const { return live_; }
  /// Length of all names, each with its NUL: the payload of DIRECTORY.
  std::uint32_t name_bytes() const { return name_bytes_; }
  /// Appends all children to `out` with one reference each, and keeps none.
  void give_up(std::vector<Node*>& out);

  void add_ref() { ++refs_; }
  void release();
  bool is_shared() const { return refs_ > 1; }

 private:
  static constexpr std::uint32_t kRun = 64;

  struct Run {
    Run() = default;
    Run(const Run& other);
    Run& operator=(const Run&) = delete;
    ~Run();
    void add_ref() { ++refs; }
    void release() {
      if (--refs == 0) delete this;
    }
    std::uint32_t refs = 1;
    std::vector<std::uint32_t> tags;  ///< hashes of the names
    std::vector<Node*> slots;
  };

  /// Open addressing from tag to slot number + 1; 0 is free. It only ever grows,
  /// and copies share it: an entry may be another copy's, so each is checked
  /// against the slot that this copy has.
  struct Index {
    explicit Index(std::size_t size) : entries(size) {}
    void insert(std::uint32_t tag, std::uint32_t slot);
    void add_ref() { ++refs; }
    void release() {
      if (--refs == 0) delete this;
    }
    std::uint32_t refs = 1;
    std::uint32_t used = 0;
    std::vector<std::uint32_t> entries;
  };

  Run& own_run(std::size_t run);
  void append(Node* child, std::uint32_t tag);
  void close_holes();
  void build_index();

  std::uint32_t refs_ = 1;
  std::uint32_t live_ = 0;
  std::uint32_t name_bytes_ = 0;
  std::vector<Ref<Run>> runs_;
  Ref<Index> index_;  ///< null while a scan is cheaper
};

/// One node: a single allocation with name and value behind the fields. Values
/// and names are at most 4096 bytes, as a frame is.
class Node {
 public:
  static Node* make(NodeId id, Generation generation, PermsRef perms, std::string_view name,
                    std::string_view value);

  NodeId id() const { return id_; }
  Generation generation() const { return generation_; }
  std::string_view name() const { return {text(), name_bytes_}; }
  std::string_view value() const { return {text() + name_bytes_, value_bytes_}; }
  const PermsRef& perms() const { return perms_; }
  const Children* children() const { return children_; }
  std::uint32_t child_count() const { return children_ == nullptr ? 0 : children_->count(); }
  Node* find(std::string_view name) const;
  /// What C xenstored's node-size quota counts: a 24-byte header, 8 bytes a
  /// permission, the value and all names of children.
  std::size_t record_bytes() const;

  // Changes. The node must not be shared; `slot` is where its parent keeps it,
  // and holds another pointer afterwards where the node had to move.
  static Node* own(Node*& slot);
  static Node* set_value(Node*& slot, std::string_view value);
  void set_perms(PermsRef perms) { perms_ = std::move(perms); }
  void set_generation(Generation generation) { generation_ = generation; }
  /// The children for changing; made or copied when missing or shared.
  Children& own_children();
  void drop_empty_children();

  void add_ref() { ++refs_; }
  void release() {
    if (--refs_ == 0) destroy(this);
  }

 private:
  Node(NodeId id, Generation generation, PermsRef perms)
      : id_(id), generation_(generation), perms_(std::move(perms)) {}
  ~Node() = default;
  static void destroy(Node* node);
  static void free_shell(Node* node);
  char* text() { return reinterpret_cast<char*>(this + 1); }
  const char* text() const { return reinterpret_cast<const char*>(this + 1); }

  std::uint32_t refs_ = 1;
  std::uint16_t name_bytes_ = 0;
  std::uint16_t value_bytes_ = 0;
  NodeId id_;
  Generation generation_;
  PermsRef perms_;
  Children* children_ = nullptr;
};
using NodeRef = Ref<Node>;

}  // namespace store
