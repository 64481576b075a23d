// SPDX-License-Identifier: MIT
/// How many pages a transaction may take, from above. README.md, "Space", has
/// the reasoning; tests/unit/journal/space_test.cc holds it against LMDB.
#pragma once

#include <cstddef>
#include <cstdint>

#include "journal/database.h"
#include "journal/journal.h"

namespace journal {

/// A put of a key and a value of these lengths.
Space space_of_put(std::size_t key_bytes, std::size_t value_bytes);
/// `count` erases of records of any size.
Space space_of_removals(std::size_t count);

/// A turn's space, as pages that LMDB may ask for.
struct Demand {
  std::uint64_t singles = 0;  ///< one at a time: free ones anywhere will do
  std::uint64_t runs = 0;     ///< side by side: sure only at the tail
  std::uint64_t total() const { return singles + runs; }
};
Demand demand_of(const Space& space, const Pages& pages);

/// Pages that a purpose leaves for those more urgent.
std::uint64_t headroom(const Pages& pages, Purpose purpose);
/// Of these, what must be at the tail.
std::uint64_t tail_headroom(const Pages& pages, Purpose purpose);

}  // namespace journal
