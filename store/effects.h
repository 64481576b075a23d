// SPDX-License-Identifier: MIT
/// What operations did to the live tree, for those who must hear of it: the
/// journal (changes) and the watchers (fired), in the order it happened.
#pragma once

#include <string>
#include <vector>

#include "store/ids.h"
#include "store/node.h"

namespace store {

/// A node put (created or changed) or, with no node, erased. A parent that only
/// got a new child is not put: its generation follows from the child's id.
struct Change {
  NodeRef node;
  NodeId id;
  NodeId parent;
  /// Where it is or was. Empty if there is nothing to tell of it: a parent whose generation
  /// alone changed, a node that went with one above it.
  std::string path{};
};

/// A change that watches are to be told of. It is shown to a watcher who may
/// read the node, or its parent, or who could before the change.
struct Fired {
  std::string path;
  /// Only watches on this very path hear of it (a node removed with its parent);
  /// else those on its ancestors too.
  bool exact;
  PermsRef perms;
  PermsRef parent_perms;  ///< null at the root
  PermsRef old_perms;     ///< set where SET_PERMS changed them
};

/// A node whose permissions are not its parent's began or ceased to name a domain.
struct MentionEdit {
  Domid domid;
  std::string path;
  bool begins;
};

struct Effects {
  std::vector<Change> changes;
  std::vector<Fired> fired;
  std::vector<MentionEdit> mentions;

  void clear() {
    changes.clear();
    fired.clear();
    mentions.clear();
  }
};

}  // namespace store
