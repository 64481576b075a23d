// SPDX-License-Identifier: MIT
#include "journal/space.h"

#include <algorithm>

#include "journal/image.h"

namespace journal {
namespace {

// LMDB keeps a node of more bytes than this (header and key included) on pages
// of its own: at least two nodes must fit on a leaf.
constexpr std::size_t kNodeMax = 2038;
constexpr std::size_t kNodeHeader = 8;
constexpr std::size_t kPageHeader = 16;
constexpr std::uint64_t kFreeListPages = 16;
/// For what goes along with removals: replies, offsets, events.
constexpr std::uint64_t kOtherPages = 64;

/// The free list's long records: pages given back by this transaction, and what
/// is left of those it took. 8 bytes a page of the file, twice.
std::uint64_t free_list_runs(const Pages& pages) { return 8 + pages.file / 256; }

}  // namespace

Space space_of_put(std::size_t key_bytes, std::size_t value_bytes) {
  Space space{.touched = 1, .fresh = 1, .run = 0};
  if (kNodeHeader + key_bytes + value_bytes > kNodeMax) {
    space.run = (kPageHeader + value_bytes + kPageBytes - 1) / kPageBytes;
  }
  return space;
}

Space space_of_removals(std::size_t count, const Pages& pages) {
  // A leaf that became too empty is merged with a neighbour, which is touched
  // too. A branch gains only if a longer key takes the place of a shorter one.
  const std::size_t splits = std::min<std::size_t>(count, pages.branch + 2);
  return {.touched = 2 * count, .fresh = splits, .run = 0};
}

Demand demand_of(const Space& space, const Pages& pages) {
  const std::uint64_t depth = pages.depth + 1;  // it may grow on the way
  const std::uint64_t leaves = std::min<std::uint64_t>(space.touched, pages.leaf);
  const std::uint64_t branches = std::min<std::uint64_t>(space.touched * depth, pages.branch);
  // Each branch may be full and split once. The halves have room for more than
  // eight further keys each before they split again.
  const std::uint64_t splits = std::min<std::uint64_t>(
      space.fresh * depth, pages.branch + (pages.branch + space.fresh) / 8 + depth);
  Demand demand{.singles = leaves + branches + space.fresh + splits,
                .runs = space.run + free_list_runs(pages)};
  // Taking pages off the free list changes that list's own tree.
  demand.singles += kFreeListPages + demand.total() / 8;
  return demand;
}

std::uint64_t headroom(const Pages& pages) {
  const Space everything = space_of_removals(2 * pages.leaf, pages);
  return demand_of(everything, pages).total() + kOtherPages;
}

std::uint64_t tail_headroom(const Pages& pages) { return 2 * free_list_runs(pages); }

}  // namespace journal
