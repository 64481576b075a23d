// SPDX-License-Identifier: MIT
#include "journal/image.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>

namespace journal {

using store::Result;

namespace {

// The layout, and numbers, of LMDB's data version 1 on a 64-bit little-endian
// machine; lmdb.h describes the terms.
constexpr std::uint32_t kMagic = 0xBEEFC0DE;
constexpr std::uint32_t kDataVersion = 1;
constexpr std::size_t kPageHeader = 16;
constexpr std::uint16_t kBranch = 1;
constexpr std::uint16_t kLeaf = 2;
constexpr std::uint16_t kOverflow = 4;
constexpr std::uint16_t kMetaPage = 8;
constexpr std::uint16_t kBigData = 1;      // a node's value is on overflow pages
constexpr std::uint16_t kIntegerKeys = 8;  // the free list's keys are 64-bit numbers
constexpr std::uint64_t kNoPage = UINT64_MAX;
constexpr unsigned kDepthMax = 16;
constexpr std::size_t kKeyMax = 511;

struct TreeFacts {
  std::uint32_t pad;
  std::uint16_t flags;
  std::uint16_t depth;
  std::uint64_t branch_pages;
  std::uint64_t leaf_pages;
  std::uint64_t overflow_pages;
  std::uint64_t entries;
  std::uint64_t root;
};

struct Meta {
  std::uint32_t magic;
  std::uint32_t version;
  std::uint64_t address;
  std::uint64_t map_size;
  std::array<TreeFacts, 2> trees;  // the free list, the records
  std::uint64_t last_page;
  std::uint64_t txn;
};
static_assert(sizeof(Meta) == 136);

struct PageHeader {
  std::uint64_t number;
  std::uint16_t pad;
  std::uint16_t flags;
  std::uint16_t lower;  // with `upper` as one number: the pages of an overflow
  std::uint16_t upper;

  unsigned nodes() const { return static_cast<unsigned>(lower - kPageHeader) / 2; }
  std::uint32_t overflow_pages() const { return static_cast<std::uint32_t>(upper) << 16 | lower; }
};
static_assert(sizeof(PageHeader) == kPageHeader);

struct NodeHeader {
  std::uint16_t low;
  std::uint16_t high;
  std::uint16_t flags;
  std::uint16_t key_bytes;

  std::uint32_t value_bytes() const { return static_cast<std::uint32_t>(high) << 16 | low; }
  std::uint64_t child() const { return static_cast<std::uint64_t>(flags) << 32 | value_bytes(); }
};
static_assert(sizeof(NodeHeader) == 8);

/// The caller has checked that the bytes are there.
template <class T>
T read(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

std::string_view text_at(const std::byte* from, std::size_t size) {
  return {reinterpret_cast<const char*>(from), size};
}

auto bad_file(std::string what) { return tl::unexpected("the database file: " + std::move(what)); }

std::string on_page(std::uint64_t page, std::string_view what) {
  return "page " + std::to_string(page) + " " + std::string(what);
}

/// One meta page, if it can be one. Its fields but `txn` may be half written.
std::optional<Meta> read_meta(std::span<const std::byte> pages, std::uint64_t number) {
  const std::byte* const at = pages.data() + number * kPageBytes;
  const auto header = read<PageHeader>(at);
  const auto meta = read<Meta>(at + kPageHeader);
  if (header.number != number || header.flags != kMetaPage) return std::nullopt;
  if (meta.magic != kMagic || meta.version != kDataVersion) return std::nullopt;
  if (meta.trees[0].pad != kPageBytes || meta.trees[0].flags != kIntegerKeys) return std::nullopt;
  return meta;
}

/// The meta that LMDB will choose: the one of the later transaction.
Result<Meta, std::string> choose_meta(std::span<const std::byte> pages, std::uint64_t file_bytes) {
  if (file_bytes < 2 * kPageBytes) return bad_file("is too short to be one");
  const std::optional<Meta> first = read_meta(pages, 0);
  const std::optional<Meta> second = read_meta(pages, 1);
  if (!first || !second) return bad_file("has a meta page that is none");

  // Transactions alternate between the two; before the first, both say 0.
  const bool fresh = first->txn == 0 && second->txn == 0;
  const bool later_is_second = second->txn > first->txn;
  const std::uint64_t gap = later_is_second ? second->txn - first->txn : first->txn - second->txn;
  if (!fresh && (gap != 1 || first->txn % 2 != 0)) {
    return bad_file("has meta pages that do not follow each other");
  }
  const Meta& meta = later_is_second ? *second : *first;
  if (meta.last_page < 1 || meta.last_page >= file_bytes / kPageBytes) {
    return bad_file("is shorter than its contents");
  }
  return meta;
}

/// Walks both trees of a file once.
class Checker {
 public:
  Checker(std::span<const std::byte> file, const Meta& meta)
      : file_(file), meta_(meta), taken_(meta.last_page + 1, false) {
    taken_[0] = taken_[1] = true;
  }

  Result<Image, std::string> run() {
    image_.txn = meta_.txn;
    image_.pages = 2;
    if (!check_tree(meta_.trees[0], true) || !check_tree(meta_.trees[1], false)) {
      return bad_file(std::move(problem_));
    }
    image_.last_key = previous_key_;
    return std::move(image_);
  }

 private:
  struct Counts {
    std::uint64_t branch = 0;
    std::uint64_t leaf = 0;
    std::uint64_t overflow = 0;
    std::uint64_t entries = 0;
  };

  bool fail(std::uint64_t page, std::string_view what) {
    problem_ = on_page(page, what);
    return false;
  }

  const std::byte* at(std::uint64_t page) const { return file_.data() + page * kPageBytes; }

  /// Notes that the pages belong to somebody, who must be the first.
  bool take(std::uint64_t page, std::uint64_t count = 1) {
    if (page > meta_.last_page || count > meta_.last_page + 1 - page) {
      return fail(page, "is outside the file");
    }
    for (std::uint64_t i = page; i < page + count; ++i) {
      if (taken_[i]) return fail(i, "is used twice");
      taken_[i] = true;
    }
    return true;
  }

  bool check_tree(const TreeFacts& tree, bool is_free_list) {
    counts_ = {};
    is_free_list_ = is_free_list;
    previous_key_.clear();
    previous_txn_ = 0;
    if (!is_free_list && tree.flags != 0) return fail(tree.root, "has a tree of another kind");
    if (tree.root == kNoPage) {
      if (tree.depth != 0 || tree.entries != 0) return fail(0, "has an empty tree with entries");
    } else if (tree.depth == 0 || tree.depth > kDepthMax) {
      return fail(tree.root, "has an impossible depth");
    } else if (!check_page(tree.root, tree.depth)) {
      return false;
    }
    if (counts_.branch != tree.branch_pages || counts_.leaf != tree.leaf_pages ||
        counts_.overflow != tree.overflow_pages || counts_.entries != tree.entries) {
      return fail(tree.root, "has a tree with other pages or entries than it says");
    }
    image_.pages += counts_.branch + counts_.leaf + counts_.overflow;
    return true;
  }

  /// Checks a page and everything under it; `level` 1 are the leaves.
  bool check_page(std::uint64_t page, unsigned level) {
    if (!take(page)) return false;
    const bool is_leaf = level == 1;
    const auto header = read<PageHeader>(at(page));
    if (header.number != page) return fail(page, "has another page's number");
    if (header.flags != (is_leaf ? kLeaf : kBranch)) return fail(page, "is of another kind");
    if (header.lower < kPageHeader || header.lower % 2 != 0 || header.upper < header.lower ||
        header.upper > kPageBytes) {
      return fail(page, "has impossible bounds");
    }
    const unsigned nodes = static_cast<unsigned>(header.lower - kPageHeader) / 2U;
    // LMDB itself insists on two children, except in its free list.
    if (nodes < (is_leaf || is_free_list_ ? 1U : 2U)) return fail(page, "is too empty");
    ++(is_leaf ? counts_.leaf : counts_.branch);
    if (is_leaf && !is_free_list_) image_.leaves.push_back(page);

    std::size_t bytes = 0;
    for (unsigned i = 0; i < nodes; ++i) {
      if (!(is_leaf ? check_leaf_node(page, header, i, bytes)
                    : check_branch_node(page, header, i, level, bytes))) {
        return false;
      }
    }
    if (bytes != kPageBytes - header.upper) return fail(page, "has nodes that overlap");
    return true;
  }

  /// Where the i-th node of a page is, its header and key inside the page; 0: nowhere.
  std::size_t node_offset(std::uint64_t page, const PageHeader& header, unsigned i) {
    const auto offset = read<std::uint16_t>(at(page) + kPageHeader + 2 * std::size_t{i});
    if (offset < header.upper || offset % 2 != 0 || offset + sizeof(NodeHeader) > kPageBytes)
      return 0;
    const auto node = read<NodeHeader>(at(page) + offset);
    return node.key_bytes <= kKeyMax && offset + sizeof(NodeHeader) + node.key_bytes <= kPageBytes
               ? offset
               : 0;
  }

  bool check_branch_node(std::uint64_t page, const PageHeader& header, unsigned i, unsigned level,
                         std::size_t& bytes) {
    const std::size_t offset = node_offset(page, header, i);
    if (offset == 0) return fail(page, "has a node outside it");
    const auto node = read<NodeHeader>(at(page) + offset);
    bytes += (sizeof(NodeHeader) + node.key_bytes + 1U) & ~std::size_t{1};
    // The key of the first child is not used; each other lies above what came
    // before it and not above what follows.
    const std::string_view key = text_at(at(page) + offset + sizeof(NodeHeader), node.key_bytes);
    if (i > 0 && !note_key(key, false)) return fail(page, "has keys out of order");
    return check_page(node.child(), level - 1);
  }

  bool check_leaf_node(std::uint64_t page, const PageHeader& header, unsigned i,
                       std::size_t& bytes) {
    const std::size_t offset = node_offset(page, header, i);
    if (offset == 0) return fail(page, "has a node outside it");
    const auto node = read<NodeHeader>(at(page) + offset);
    const std::byte* const key_at = at(page) + offset + sizeof(NodeHeader);
    const bool is_big = node.flags == kBigData;
    if (node.flags != 0 && !is_big) return fail(page, "has a node of another kind");
    const std::size_t inside = is_big ? sizeof(std::uint64_t) : node.value_bytes();
    const std::size_t node_bytes = sizeof(NodeHeader) + node.key_bytes + inside;
    if (offset + node_bytes > kPageBytes) return fail(page, "has a value outside it");
    bytes += (node_bytes + 1) & ~std::size_t{1};

    const std::byte* value_at = key_at + node.key_bytes;
    if (is_big) {
      const auto first = read<std::uint64_t>(value_at);
      if (!check_overflow(first, node.value_bytes())) return false;
      value_at = at(first) + kPageHeader;
    }
    ++counts_.entries;
    const std::string_view key = text_at(key_at, node.key_bytes);
    const std::string_view value = text_at(value_at, node.value_bytes());
    if (!note_key(key, true)) return fail(page, "has keys out of order");
    if (is_free_list_) return check_free_pages(page, value);
    image_.digest.add(hash_record(hash_key(key), value));
    return true;
  }

  bool check_overflow(std::uint64_t page, std::size_t value_bytes) {
    if (!take(page)) return false;
    const auto header = read<PageHeader>(at(page));
    if (header.number != page || header.flags != kOverflow) {
      return fail(page, "is not the overflow page it should be");
    }
    const std::uint64_t count = header.overflow_pages();
    if (count * kPageBytes < kPageHeader + value_bytes) return fail(page, "has too short a value");
    counts_.overflow += count;
    return count == 1 || take(page + 1, count - 1);
  }

  /// Keys rise through the whole tree. A branch's key may equal the leaf's key
  /// that follows it, a leaf's may not equal the one before.
  bool note_key(std::string_view key, bool in_leaf) {
    if (is_free_list_) return note_txn(key, in_leaf);
    const bool fits = in_leaf && !previous_in_leaf_ ? key >= previous_key_ : key > previous_key_;
    previous_key_.assign(key);
    previous_in_leaf_ = in_leaf;
    return fits && !key.empty();
  }

  bool note_txn(std::string_view key, bool in_leaf) {
    if (key.size() != sizeof(std::uint64_t)) return false;
    std::uint64_t txn = 0;
    std::memcpy(&txn, key.data(), sizeof txn);
    const bool fits = in_leaf && !previous_in_leaf_ ? txn >= previous_txn_ : txn > previous_txn_;
    previous_txn_ = txn;
    previous_in_leaf_ = in_leaf;
    return fits && txn <= meta_.txn;
  }

  /// A record of the free list: how many pages, then the pages, highest first.
  bool check_free_pages(std::uint64_t page, std::string_view list) {
    const auto number = [&](std::uint64_t i) {
      std::uint64_t value = 0;
      std::memcpy(&value, list.data() + i * sizeof value, sizeof value);
      return value;
    };
    const std::uint64_t room = list.size() / sizeof(std::uint64_t);
    if (room == 0 || number(0) >= room) return fail(page, "has a free list that does not fit");
    for (std::uint64_t i = 1; i <= number(0); ++i) {
      if (i > 1 && number(i) >= number(i - 1)) return fail(page, "has a free list out of order");
      if (!take(number(i))) return false;
    }
    return true;
  }

  std::span<const std::byte> file_;
  const Meta& meta_;
  std::vector<bool> taken_;
  Image image_;
  Counts counts_;
  bool is_free_list_ = false;
  std::string previous_key_;
  std::uint64_t previous_txn_ = 0;
  bool previous_in_leaf_ = false;
  std::string problem_;
};

/// Shows those records of a checked leaf that are (not) before `first`.
Result<void, std::string> show_leaf(std::span<const std::byte> file, std::uint64_t page,
                                    std::string_view first, bool before, const ShowRecord& show) {
  const std::byte* const begin = file.data() + page * kPageBytes;
  const unsigned nodes = static_cast<unsigned>(read<PageHeader>(begin).lower - kPageHeader) / 2U;
  for (unsigned i = 0; i < nodes; ++i) {
    const auto offset = read<std::uint16_t>(begin + kPageHeader + 2 * std::size_t{i});
    const auto node = read<NodeHeader>(begin + offset);
    const std::byte* const key_at = begin + offset + sizeof(NodeHeader);
    const std::string_view key = text_at(key_at, node.key_bytes);
    if ((key < first) != before) continue;
    const std::byte* value_at = key_at + node.key_bytes;
    if (node.flags == kBigData) {
      value_at = file.data() + read<std::uint64_t>(value_at) * kPageBytes + kPageHeader;
    }
    auto shown = show(key, text_at(value_at, node.value_bytes()));
    if (!shown.has_value()) return shown;
  }
  return {};
}

/// The first key of a checked leaf.
std::string_view first_key(std::span<const std::byte> file, std::uint64_t page) {
  const std::byte* const begin = file.data() + page * kPageBytes;
  const auto offset = read<std::uint16_t>(begin + kPageHeader);
  return text_at(begin + offset + sizeof(NodeHeader), read<NodeHeader>(begin + offset).key_bytes);
}

}  // namespace

std::optional<MetaEdit> unconfirmed_commit(std::span<const std::byte> first_pages,
                                           std::uint64_t confirmed) {
  if (first_pages.size() < 2 * kPageBytes) return std::nullopt;
  const std::uint64_t number = (confirmed + 1) % 2;
  const std::optional<Meta> meta = read_meta(first_pages, number);
  if (!meta || meta->txn != confirmed + 1) return std::nullopt;
  // As it was before: that of the commit before the confirmed one.
  return MetaEdit{number * kPageBytes + kPageHeader + offsetof(Meta, txn),
                  confirmed == 0 ? 0 : confirmed - 1};
}

Result<void, std::string> check_metas(std::span<const std::byte> first_pages,
                                      std::uint64_t file_bytes) {
  const auto meta = choose_meta(first_pages, file_bytes);
  if (!meta.has_value()) return tl::unexpected(meta.error());
  return {};
}

Result<Image, std::string> check_image(std::span<const std::byte> file) {
  const auto meta = choose_meta(file, file.size());
  if (!meta.has_value()) return tl::unexpected(meta.error());
  return Checker(file, meta.value()).run();
}

Result<void, std::string> show_records(std::span<const std::byte> file, const Image& image,
                                       std::string_view first, const ShowRecord& show) {
  // Leaves whose first key is `first` or above are wholly of the second part;
  // the one before them may hold records of both.
  const auto above =
      std::partition_point(image.leaves.begin(), image.leaves.end(),
                           [&](std::uint64_t page) { return first_key(file, page) < first; });
  const auto mixed = above == image.leaves.begin() ? above : above - 1;
  for (auto page = mixed; page != image.leaves.end(); ++page) {
    auto shown = show_leaf(file, *page, first, false, show);
    if (!shown.has_value()) return shown;
  }
  for (auto page = image.leaves.begin(); page != above; ++page) {
    auto shown = show_leaf(file, *page, first, true, show);
    if (!shown.has_value()) return shown;
  }
  return {};
}

}  // namespace journal
