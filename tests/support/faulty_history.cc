// SPDX-License-Identifier: MIT
/// xenstored-faulty, its second thread: a value that begins with "crash-later" makes it
/// crash where the value is written to the history.
#include <csignal>
#include <span>

#include "journal/history_repository.h"

using Add = store::Result<void, std::string>(journal::HistoryRepository* self,
                                             std::span<const journal::HistoryEntry> entries,
                                             bool has_dropped_values);
// NOLINTBEGIN(bugprone-reserved-identifier): the names are the linker's.
Add __real_add asm(
    "__real__ZN7journal17HistoryRepository3addB5cxx11ESt4spanIKNS_12HistoryEntryELm1844674407370955"
    "1615EEb");
Add __wrap_add asm(
    "__wrap__ZN7journal17HistoryRepository3addB5cxx11ESt4spanIKNS_12HistoryEntryELm1844674407370955"
    "1615EEb");

// NOLINTEND(bugprone-reserved-identifier)

// NOLINTNEXTLINE(bugprone-reserved-identifier)
store::Result<void, std::string> __wrap_add(journal::HistoryRepository* self,
                                            std::span<const journal::HistoryEntry> entries,
                                            bool has_dropped_values) {
  for (const journal::HistoryEntry& entry : entries) {
    for (const journal::HistoryChange& change : entry.changes) {
      if (change.value.starts_with("crash-later")) raise(SIGSEGV);
    }
  }
  return __real_add(self, entries, has_dropped_values);
}
