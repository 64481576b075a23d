// SPDX-License-Identifier: MIT
#include "tools/inspect/stored_history.h"

#include <fmt/format.h>

#include <utility>

namespace inspect {

Result<std::vector<journal::HistoryEntry>> parse_entries(std::string_view stream) {
  std::vector<journal::HistoryEntry> entries;
  const auto add = [&](journal::HistoryEntry&& entry) {
    entries.push_back(std::move(entry));
    return true;
  };
  if (journal::each_entry(stream, add)) return entries;
  return tl::unexpected(fmt::format("what follows the first {} is none", entries.size()));
}

void apply(const journal::HistoryChange& change, tools::Tree& tree) {
  if (!change.is_removal) {
    tree[change.path] = {change.value, perms_text(change.perms)};
    return;
  }
  tree.erase(change.path);
  const std::string below = change.path + '/';
  auto node = tree.lower_bound(below);
  while (node != tree.end() && node->first.starts_with(below)) node = tree.erase(node);
}

}  // namespace inspect
