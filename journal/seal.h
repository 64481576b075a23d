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
inline constexpr std::uint32_t kFormat = 1;

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

std::uint64_t hash_record(std::string_view key, std::string_view value);

class Seal {
 public:
  enum class Misfit { kDamaged, kNewerFormat, kSystem };
  struct Error {
    Misfit kind;
    std::string message;
  };

  /// Writes the seal of an empty state. Error: why the system refused.
  static store::Result<void, std::string> create(const std::filesystem::path& file,
                                                 std::string_view boot_id);

  /// Reads and maps a seal. Changes nothing.
  static store::Result<Seal, Error> open(const std::filesystem::path& file);

  const std::string& boot_id() const { return boot_id_; }

  /// To be called before the database's commit of `txn`: what will be in it.
  void prepare(std::uint64_t txn, const Digest& digest);
  /// To be called after it: `txn` has happened, nothing older is to be believed.
  void confirm(std::uint64_t txn);

  /// Is a database whose last transaction is `txn`, with these records, the one
  /// that was committed last? Error: what is wrong.
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
