// SPDX-License-Identifier: MIT
/// The seal: one mapped page beside the database that says whose state it is
/// (format, boot) and what must be in it (number of its last commit; sum and
/// count of its records). LMDB checks nothing of what it reads; this does.
/// FORMAT.md, "The seal", has the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "journal/system.h"
#include "store/result.h"

namespace journal {

/// The format of everything in `state/`; a change of any table raises it.
inline constexpr std::uint32_t kFormat = 4;

/// The records of a state as two numbers. Order does not matter to them, so a
/// commit updates them with the records that it changes.
struct Digest {
  std::uint64_t sum = 0;
  std::uint64_t count = 0;

  void add(std::uint64_t record_hash) {
    sum += record_hash;
    ++count;
  }
  void remove(std::uint64_t record_hash) {
    sum -= record_hash;
    --count;
  }
  friend bool operator==(const Digest&, const Digest&) = default;
};

std::uint64_t hash_key(std::string_view key);
std::uint64_t hash_record(std::uint64_t key_hash, std::string_view value);

class Seal {
 public:
  enum class Use { kServe, kRead };
  enum class Misfit { kDamaged, kNewerFormat, kSystem };
  struct Error {
    Misfit kind;
    std::string message;
  };

  /// Writes the seal of an empty state. Error: why the system refused.
  static store::Result<void, std::string> create(const std::filesystem::path& file,
                                                 std::string_view boot_id);

  /// Reads and maps a seal of this format or an older one. Changes nothing. With
  /// kRead the file may be read-only, and prepare and confirm do not reach it.
  static store::Result<Seal, Error> open(const std::filesystem::path& file, Use use);

  const std::string& boot_id() const { return boot_id_; }
  /// kFormat, or that of an older version, of whose state nothing more is known.
  std::uint32_t format() const;

  /// To be called before the database's commit of `txn`: what will be in it, and the
  /// number of the last entry of history up to then.
  void prepare(std::uint64_t txn, const Digest& digest, std::uint64_t last_entry);
  /// To be called after it. From here on `txn` has happened: nothing older is to be
  /// believed, and what was not confirmed is taken back (image.h).
  void confirm(std::uint64_t txn);

  /// The last commit that has happened; 0: none has.
  std::uint64_t confirmed() const;
  /// Number of the last entry of history by then; 0: there was none.
  std::uint64_t last_entry() const;

  /// Is a database whose last transaction is `txn`, with these records, the one
  /// that was confirmed last? Error: what is wrong.
  store::Result<void, std::string> check(std::uint64_t txn, const Digest& digest) const;

 private:
  struct Page;
  Seal(Mapping mapping, std::string boot_id)
      : mapping_(std::move(mapping)), boot_id_(std::move(boot_id)) {}
  Page& page() const;

  Mapping mapping_;
  std::string boot_id_;
};

}  // namespace journal
