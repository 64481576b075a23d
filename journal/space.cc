// SPDX-License-Identifier: MIT
#include "journal/space.h"

#include <algorithm>

#include "journal/image.h"
#include "journal/pieces.h"

namespace journal {
namespace {

// LMDB keeps a node of more bytes than this (header and key included) on pages
// of its own: at least two nodes must fit on a leaf.
constexpr std::size_t kNodeMax = 2038;
constexpr std::size_t kNodeHeader = 8;
constexpr std::uint64_t kFreeListPages = 16;
/// Freed pages that one page of the free list can name, and some left over.
constexpr std::uint64_t kFreedOnAPage = 500;
/// For what goes along with removals.
constexpr std::uint64_t kOtherPages = 64;

/// A change of one record: its own leaf, that of its further pieces, and the
/// neighbours that these are merged with when they become too empty.
constexpr std::size_t kLeavesOfAChange = 4;

/// Pages side by side for the free list's record of what this transaction gives
/// back: 8 bytes a page of the file, twice as that record may have to move.
std::uint64_t free_list_runs(const Pages& pages) { return 8 + pages.file / 256; }

}  // namespace

Space space_of_put(std::size_t key_bytes, std::size_t value_bytes) {
  const std::size_t pieces = value_bytes / kPieceMax + 1;
  const bool is_short = kNodeHeader + key_bytes + value_bytes <= kNodeMax;
  // A piece is on a page of its own unless it is short. What stands for the long
  // ones in a leaf is so little that it splits it once; a short last one may, too.
  return {.touched = kLeavesOfAChange, .fresh = is_short ? 1 : pieces + 1, .freed = kPiecesMax};
}

Space space_of_removals(std::size_t count) {
  return {.touched = kLeavesOfAChange * count, .fresh = 0, .freed = kPiecesMax * count};
}

Demand demand_of(const Space& space, const Pages& pages) {
  const std::uint64_t depth = pages.depth + 1;  // it may grow on the way
  const std::uint64_t leaves = std::min<std::uint64_t>(space.touched, pages.leaf);
  const std::uint64_t branches = std::min<std::uint64_t>(space.touched * depth, pages.branch);
  // Each branch may be full and split once. The halves have room for more than
  // eight further keys each before they split again.
  const std::uint64_t splits = std::min<std::uint64_t>(
      space.fresh * depth, pages.branch + (pages.branch + space.fresh) / 8 + depth);
  // A merge may put a longer key in the place of a shorter one.
  const std::uint64_t longer_keys = std::min<std::uint64_t>(space.touched, pages.branch + 2);
  Demand demand{.singles = leaves + branches + space.fresh + splits + longer_keys, .runs = 0};
  // Taking pages off the free list changes that list's own tree.
  demand.singles += kFreeListPages + demand.singles / 8;
  const std::uint64_t freed = leaves + branches + space.freed + kFreeListPages;
  if (freed > kFreedOnAPage) demand.runs = free_list_runs(pages);
  return demand;
}

std::uint64_t headroom(const Pages& pages, Purpose purpose) {
  if (purpose == Purpose::kRemoval) return 0;
  const Space everything = space_of_removals(pages.leaf);
  const std::uint64_t removals = demand_of(everything, pages).total() + kOtherPages;
  return purpose == Purpose::kReply ? removals : removals + kReplyHeadroomBytes / kPageBytes;
}

std::uint64_t tail_headroom(const Pages& pages, Purpose purpose) {
  return purpose == Purpose::kRemoval ? 0 : 2 * free_list_runs(pages);
}

}  // namespace journal
