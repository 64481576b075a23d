// SPDX-License-Identifier: MIT
/// Reads a database file of LMDB 0.9 without LMDB, which believes its file and
/// crashes, loops or writes over live pages when it is wrong. Nothing here
/// trusts a byte: every page, offset, length and order is checked before use,
/// and every page may belong to one thing only. FORMAT.md, "The database file".
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "journal/seal.h"
#include "store/result.h"

namespace journal {

inline constexpr std::size_t kPageBytes = 4096;

/// What a sound file holds.
struct Image {
  std::uint64_t txn = 0;              ///< its last transaction
  Digest digest;                      ///< of all its records
  std::uint64_t pages = 0;            ///< that are in use
  std::vector<std::uint64_t> leaves;  ///< the pages with the records, in key order
  std::string last_key;
};

/// Where in a file, and what, has to be written to take back a commit.
struct MetaEdit {
  std::uint64_t offset;
  std::uint64_t txn;
};

/// The last commit may have been cut off: LMDB stores the fields of a meta page in
/// no certain order (Debian's build the number of the transaction before the root
/// of its tree), so that a meta can be the newest and not be whole. The commit
/// before it is whole: its pages are not written to by the next one. `first_pages`:
/// the first 8192 bytes of a file, `confirmed`: its last commit that had returned.
/// Given if the newest meta is that of the commit after it.
std::optional<MetaEdit> unconfirmed_commit(std::span<const std::byte> first_pages,
                                           std::uint64_t confirmed);

/// Checks the two meta pages (the first 8192 bytes) of a file of `file_bytes`:
/// what LMDB needs to be opened safely. Error: what is wrong.
store::Result<void, std::string> check_metas(std::span<const std::byte> first_pages,
                                             std::uint64_t file_bytes);

/// Checks the whole file. Error: what is wrong, and on which page.
store::Result<Image, std::string> check_image(std::span<const std::byte> file);

/// Shows one record; an error ends the showing.
using ShowRecord =
    std::function<store::Result<void, std::string>(std::string_view key, std::string_view value)>;

/// Shows the records of a checked, since unchanged file: first those with keys
/// from `first` on, then those before it.
store::Result<void, std::string> show_records(std::span<const std::byte> file, const Image& image,
                                              std::string_view first, const ShowRecord& show);

}  // namespace journal
