// SPDX-License-Identifier: MIT
/// What a damaged state still has of history: entries that were committed, but are not
/// in the repository yet. Each record of them has a hash of its own (entry_log.h), so
/// that they can be told from anything else, wherever they lie.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "journal/history.h"

namespace journal {

struct SalvagedHistory {
  std::vector<HistoryEntry> entries;  ///< those after the last one known, without a gap
  std::uint64_t last_seen = 0;        ///< number of the last one found behind a gap; 0: none
};

/// Reads the entries in `folder`, a state that was set aside; believes nothing in it.
/// `after` is the number of the last entry in the repository. The last one may be of a
/// commit that was cut off: nobody was told of it, either way. Two that have one number
/// and are not the same are a gap. Error: the file cannot be read.
Result<SalvagedHistory, std::string> salvage_history(const std::filesystem::path& folder,
                                                     std::uint64_t after);

}  // namespace journal
