// SPDX-License-Identifier: MIT
/// What xs-inspect can be asked for besides the clients. Each prints its answer to
/// stdout; a Problem is what it could not do.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "tools/inspect/state.h"

namespace inspect {

/// Where a daemon keeps its state, and where it listens.
struct Place {
  std::filesystem::path area;
  std::string state;  ///< the area's folder
  std::filesystem::path socket;
  bool is_socket_named = false;  ///< the user wants this daemon
};

/// Compares the state, its history and the daemon, as far as they are there. The exit
/// status: 0 what was compared agrees, 1 something does not, 2 nothing could be compared.
int check(const Place& place, bool is_json);

/// Sizes of an area and of what is in it.
Result<void> stat(const Place& place, bool is_json);

/// The tree as text (tree_text.h).
struct ExportOptions {
  std::string path = "/";
  std::optional<Place> area;  ///< of this area's state; of the daemon's else
  std::filesystem::path socket;
};
Result<void> export_tree(const ExportOptions& options, bool is_json);

/// Makes nodes of a running daemon what such a text says.
struct ImportOptions {
  std::string file;  ///< "-" is stdin
  std::filesystem::path socket;
  bool is_pruning = false;       ///< what is below them and not in the text goes
  bool is_dry = false;           ///< nothing is done but showing
  bool orphans_to_dom0 = false;  ///< nodes whose owner is dead go to domain 0
};
Result<void> import_tree(const ImportOptions& options, bool is_json);

}  // namespace inspect
