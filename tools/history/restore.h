// SPDX-License-Identifier: MIT
/// Brings a part of a running daemon's tree back to what it was.
#pragma once

#include <string>

#include "tools/history/output.h"
#include "tools/history/repository.h"

namespace history {

struct RestoreOptions {
  std::string path;
  std::string at;
  std::string socket;
  bool is_confirmed = false;  ///< no question is asked
  /// Nodes whose owner is dead go to domain 0; else they cannot be restored.
  bool orphans_to_dom0 = false;
};

/// Shows what differs at and below the path between the daemon's tree and that of
/// the moment, asks, and makes the former like the latter in one transaction: values,
/// permissions, nodes that were not there. It is tried before it is asked for, so
/// that what is agreed to can be done. If others change the same nodes meanwhile, it
/// begins anew, and asks anew if it would do something else.
///
/// It is a Problem if nothing differs, or if the user does not agree.
Result<void> restore(Repository& repository, const RestoreOptions& options, const Look& look);

}  // namespace history
