// SPDX-License-Identifier: MIT
/// Entries of history that are committed but perhaps not in the repository yet: a mapped
/// ring of records beside the database. A record names the commit that it is part of, and
/// counts if and only if the seal says that this one has happened. So to store entries
/// costs a copy, and to forget them one store. FORMAT.md, "The entries", has the bytes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "journal/system.h"
#include "store/result.h"

namespace journal {

class EntryLog {
 public:
  /// What it can grow to; a little less can be stored at once.
  static constexpr std::uint32_t kBytesMax = std::uint32_t{24} << 20;

  struct Record {
    std::uint64_t txn;         ///< the commit it is part of
    std::string_view entries;  ///< a stream of them (history.h)
    std::uint32_t end;         ///< where the next one would be
  };
  /// Shown a record, valid until the log is written to. False: no more.
  using Show = std::function<bool(const Record& record)>;

  /// Maps the file, which is made if it is missing. Whatever else is in it is no record.
  /// Error: why the system refused.
  static store::Result<EntryLog, std::string> open(const std::filesystem::path& file);

  /// Shows those of commits up to `confirmed`, oldest first, and goes on behind them: what
  /// was stored for a commit that did not happen will not count for another of its number.
  void load(std::uint64_t confirmed, const Show& show);

  /// Shows those, and changes nothing.
  void show(std::uint64_t confirmed, const Show& show) const;

  /// Stores a record for commit `txn`, which is to be the next one; at most one for each.
  /// Gives its end. None, and nothing has changed: there is no room, in the ring or on
  /// the tmpfs.
  std::optional<std::uint32_t> put(std::uint64_t txn, std::string_view entries);
  /// Forgets the record of commit `txn` that ended at `end`, and all before it.
  void drop(std::uint64_t txn, std::uint32_t end);

 private:
  EntryLog(Mapping mapping, Fd fd, std::uint32_t allocated)
      : mapping_(std::move(mapping)), fd_(std::move(fd)), allocated_(allocated) {}
  std::byte* at(std::uint32_t place) const;
  bool allocate(std::uint32_t end);
  std::optional<std::uint32_t> place_for(std::uint32_t bytes);
  void write(std::uint32_t place, std::uint64_t txn, std::string_view entries);
  void write_mark(std::uint64_t txn);
  void set_begin(std::uint64_t txn, std::uint32_t place);
  std::uint32_t begin() const;

  Mapping mapping_;
  Fd fd_;
  std::uint32_t allocated_ = 0;  ///< the file's length
  std::uint32_t end_ = 0;
  bool is_wrapped_ = false;  ///< `end_` lies before the beginning
};

/// Shows what counts in the bytes of such a file, as EntryLog::load does.
void show_entries(std::span<const std::byte> file, std::uint64_t confirmed,
                  const EntryLog::Show& show);
/// Shows whatever is a sound record, wherever it lies, of a file that may be anything.
void scan_entries(std::span<const std::byte> file, const EntryLog::Show& show);

}  // namespace journal
