// SPDX-License-Identifier: MIT
/// Git's tree objects, as bytes: "<mode> <name>\0<20 bytes of id>" an entry, sorted
/// by name, a directory's as if it ended in '/'.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "journal/git_object.h"

namespace journal::git {

/// An entry; views into the tree's bytes.
struct TreeEntry {
  std::string_view bytes{};  ///< all of it
  std::string_view name{};
  std::string_view id{};
  bool is_tree = false;
};

/// Goes through a tree's entries. Trusts nothing; stops at a misfit.
class TreeReader {
 public:
  explicit TreeReader(std::string_view tree) : rest_(tree) {}

  /// The next entry; none at the end, and where the bytes are no tree of ours.
  std::optional<TreeEntry> next();
  /// True if all was read and understood.
  bool done() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

/// Compares as trees sort: <0, 0, >0.
int compare_names(std::string_view a, bool a_is_tree, std::string_view b, bool b_is_tree);

/// True if these are entries of our two modes, with legal names, in order, each once.
bool is_tree(std::string_view tree);

/// What becomes of an entry. No id: it goes, if it is there.
struct TreeEdit {
  std::string_view name{};
  bool is_tree = false;
  std::optional<ObjectId> id{};
};

/// The tree with these edits, which are sorted as trees are.
std::string edited_tree(std::string_view tree, std::span<const TreeEdit> edits);

void append_tree_entry(std::string_view name, bool is_tree, const ObjectId& id, std::string& out);

}  // namespace journal::git
