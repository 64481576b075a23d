// SPDX-License-Identifier: MIT
/// Entries of history that are in the journal and perhaps not in the repository yet.
#pragma once

#include <string_view>
#include <vector>

#include "journal/history.h"
#include "tools/inspect/state.h"

namespace inspect {

/// Takes StoredState::history_entries apart.
Result<std::vector<journal::HistoryEntry>> parse_entries(std::string_view stream);

/// What a change makes of a tree.
void apply(const journal::HistoryChange& change, tools::Tree& tree);

}  // namespace inspect
