// SPDX-License-Identifier: MIT
/// A pack that grows: what of it is in a file already, and what was added since, in
/// memory. Writing it makes a new file of both, so that a pack's file never changes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "journal/git_deflate.h"
#include "journal/git_object.h"
#include "journal/git_pack.h"
#include "store/result.h"

namespace journal::git {

class GrowingPack {
 public:
  /// What was added up to some moment.
  struct Mark {
    std::size_t bytes = 0;
    std::size_t objects = 0;
  };

  /// Goes on with what a file has; with null, an empty pack. Forgets what was added
  /// (which, after `write`, the file has).
  void restart(std::shared_ptr<const PackFile> written);

  bool empty() const { return count() == 0; }
  bool has_pending() const { return !added_.empty(); }
  std::uint64_t pending_bytes() const { return pending_.size(); }
  /// Of the pack's file and its index, once written.
  std::uint64_t pack_bytes() const { return end() + kIdBytes; }
  std::uint64_t index_bytes() const;

  /// Offset of an object that is here.
  std::optional<std::uint64_t> find(const ObjectId& id) const;
  PackBytes bytes() const;

  /// Add an object that is not here; its offset is the result.
  std::uint64_t add(Kind kind, const ObjectId& id, std::string_view content);
  /// The same as a delta against an object of this pack, of the same kind.
  std::uint64_t add_delta(const ObjectId& id, std::uint64_t base_offset, std::string_view delta);

  Mark mark() const { return {pending_.size(), added_.size()}; }
  /// Takes back what was added since.
  void rollback(const Mark& mark);

  /// Writes the pack and its index into these files. The result is the pack's sum,
  /// which its name is made of.
  Result<ObjectId, std::string> write(const std::filesystem::path& pack,
                                      const std::filesystem::path& index) const;

 private:
  struct Added {
    ObjectId id;
    std::uint32_t crc;
    std::uint32_t offset;
  };

  std::uint32_t count() const;
  std::uint64_t end() const;
  std::uint64_t note_added(const ObjectId& id, std::size_t begin);
  std::string index_of(const ObjectId& pack_sum) const;

  std::shared_ptr<const PackFile> written_;
  std::string pending_;
  std::vector<Added> added_;
  std::unordered_map<ObjectId, std::uint32_t, ObjectIdHash> offsets_;  ///< of `added_`
  Deflater deflater_;
};

}  // namespace journal::git
