// SPDX-License-Identifier: MIT
/// A tree of nodes as tools have it, be it a daemon's, of a moment in history, or
/// from a file; and what differs between two.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/common/pieces.h"

namespace tools {

/// A node, apart from its children.
struct Content {
  std::string value;
  /// One entry a line, such as "n3" or "r5 stale", which says that domain 5 is dead.
  std::string perms;

  /// "n3,r0" as xenstore-ls shows it.
  std::string perms_text() const;

  friend bool operator==(const Content&, const Content&) = default;
};

/// By path: a node stands before those below it.
using Tree = std::map<std::string, Content>;

/// What differs at one path.
struct Change {
  std::string path;
  std::optional<Content> before;  ///< none: the node is new
  std::optional<Content> after;   ///< none: it is gone

  friend bool operator==(const Change&, const Change&) = default;
};

/// By path.
std::vector<Change> differences(const Tree& before, const Tree& after);

/// The entries of a list of permissions, such as "n3" or "r5 stale": views into it.
inline std::vector<std::string_view> perm_entries(std::string_view perms) {
  return pieces(perms, '\n');
}
/// The list as GET_PERMS tells it: not who is dead.
std::string without_marks(std::string_view perms);
Tree without_marks(Tree tree);

}  // namespace tools
