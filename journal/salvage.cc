// SPDX-License-Identifier: MIT
#include "journal/salvage.h"

#include <algorithm>
#include <map>
#include <utility>

#include "journal/area.h"
#include "journal/entry_log.h"
#include "journal/reader.h"

namespace journal {

Result<SalvagedHistory, std::string> salvage_history(const std::filesystem::path& folder,
                                                     std::uint64_t after) {
  const auto file = read_pages(folder / kEntriesName);
  if (!file.has_value()) return tl::unexpected(file.error().message);
  std::map<std::uint64_t, HistoryEntry> found;
  std::uint64_t ambiguous = UINT64_MAX;
  scan_entries(file.value(), [&](const EntryLog::Record& record) {
    (void)each_entry(record.entries, [&](HistoryEntry&& entry) {
      const std::uint64_t number = entry.number;
      const auto [at, is_new] = found.try_emplace(number, std::move(entry));
      if (!is_new && !(at->second == entry)) ambiguous = std::min(ambiguous, number);
      return true;
    });
    return true;
  });
  SalvagedHistory salvaged;
  for (auto& [number, entry] : found) {
    if (number <= after) continue;
    if (number == after + 1 && number < ambiguous) {
      salvaged.entries.push_back(std::move(entry));
      ++after;
    } else {
      salvaged.last_seen = number;
    }
  }
  return salvaged;
}

}  // namespace journal
