// SPDX-License-Identifier: MIT
/// The LMDB environment: the only file that calls LMDB. Keeps the rule that the
/// map is exactly as large as the file and the file wholly allocated, so that no
/// store into the map can find the tmpfs full; LMDB answers MDB_MAP_FULL instead.
#pragma once

#include <lmdb.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "journal/seal.h"
#include "store/result.h"

namespace journal {

/// Changes of one commit, in order: keys and values in one string.
class Batch {
 public:
  struct Change {
    std::string_view key;
    std::string_view value;
    bool is_erase;
  };

  /// What `append_key`, `append_value` append to; then one of the two below.
  std::string& bytes() { return bytes_; }
  /// The key ends here; what was appended before it began is the last change.
  void end_key() { key_end_ = bytes_.size(); }
  void add_put() { add(false); }
  void add_erase() { add(true); }
  /// Forgets what was appended since the last change.
  void drop_unfinished() { bytes_.resize(end_); }

  bool empty() const { return changes_.empty(); }
  std::size_t size() const { return changes_.size(); }
  Change operator[](std::size_t i) const;
  void clear();

 private:
  struct Place {
    std::size_t key;
    std::size_t value;
    std::size_t end;
    bool is_erase;
  };
  void add(bool is_erase);

  std::string bytes_;
  std::vector<Place> changes_;
  std::size_t key_end_ = 0;
  std::size_t end_ = 0;
};

/// The size of the database, in pages.
struct Pages {
  std::uint64_t tail = 0;  ///< after the last used one: nobody's yet
  std::uint64_t file = 0;
  std::uint64_t branch = 0;
  std::uint64_t leaf = 0;
  std::uint64_t depth = 0;
};

class Database {
 public:
  /// Makes an empty database in an existing folder.
  static store::Result<void, std::string> create(const std::filesystem::path& folder);

  /// Opens a database whose metas have been checked and whose file is `bytes`
  /// long. Neither reads nor writes its trees.
  static store::Result<std::unique_ptr<Database>, std::string> open(
      const std::filesystem::path& folder, std::uint64_t bytes);

  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  /// The file as mapped now.
  std::span<const std::byte> bytes() const;

  const Pages& pages() const { return pages_; }

  /// Makes the file, and with it the map, `bytes` long. False: the tmpfs has no
  /// room; nothing changed. Error: the system refused, the database is unusable.
  store::Result<bool, std::string> grow(std::uint64_t bytes);

  /// Free pages that the next transaction may take, wherever they lie. Looks
  /// through the free list once after each commit.
  std::uint64_t reusable_pages();

  /// From now on new records go after `last_key`, the highest there is.
  void set_last_key(std::string_view last_key) { last_key_ = last_key; }

  /// Applies a batch in one transaction, keeping `digest` and the seal in step; the
  /// number of history's last entry is for the seal. After an error the database is
  /// unusable.
  store::Result<void, std::string> commit(const Batch& batch, Digest& digest, Seal& seal,
                                          std::uint64_t last_entry);

 private:
  explicit Database(MDB_env* env) : env_(env) {}
  int put(MDB_cursor* cursor, const Batch::Change& change, Digest& digest);
  int put_further(MDB_cursor* cursor, const Batch::Change& change, bool former_goes_on,
                  Digest& digest);
  int put_piece(MDB_cursor* cursor, std::string_view key, std::string_view piece,
                bool& former_goes_on, Digest& digest);
  int apply(MDB_txn* txn, const Batch& batch, Digest& digest);
  void note_pages();

  mutable Mapping view_;
  MDB_env* env_;
  MDB_dbi table_ = 0;
  Pages pages_;
  std::uint64_t last_txn_ = 0;
  std::optional<std::uint64_t> reusable_;  // of the last transaction, once asked for
  std::string last_key_;
};

}  // namespace journal
