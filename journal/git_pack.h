// SPDX-License-Identifier: MIT
/// Reading packs with their indexes (gitformat-pack, pack version 2, index version 2),
/// as far as we write them: whole objects, and deltas by offset in the same pack.
/// Nothing that a file says is trusted.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "journal/git_deflate.h"
#include "journal/git_object.h"
#include "journal/system.h"
#include "store/result.h"

namespace journal::git {

using store::Result;

inline constexpr std::size_t kPackHeadBytes = 12;
/// No object is larger; asked before memory is.
inline constexpr std::size_t kObjectBytesMax = std::size_t{1} << 28;
/// Deltas between an object and the whole one that it comes from.
inline constexpr std::size_t kChainMax = 64;

struct Object {
  Kind kind = Kind::kBlob;
  std::string content;
};

/// A pack's bytes without its trailer, in two pieces that follow each other: what
/// is in the file, and what is not yet. No object lies in both.
struct PackBytes {
  std::string_view written{};
  std::string_view pending{};

  std::string_view from(std::uint64_t offset) const;
};

/// Reads objects out of packs.
class ObjectReader {
 public:
  /// The object at this offset. Error: what stands there is none, a constant text.
  Result<Object, std::string> read(const PackBytes& pack, std::uint64_t offset);

 private:
  Inflater inflater_;
  std::string inflated_;
};

/// How a pack introduces an object or a delta by offset.
void append_object_head(Kind kind, std::size_t size, std::string& out);
void append_delta_head(std::size_t size, std::uint64_t distance, std::string& out);

/// The head of a pack with so many objects.
std::string pack_head(std::uint32_t count);

/// A pack file and its index, mapped for reading.
class PackFile {
 public:
  /// Maps `stem`.pack and .idx. Error: not there, or not of this form; the sums
  /// are left to `verify`.
  static Result<PackFile, std::string> open(const std::filesystem::path& stem);

  /// The sums of both files, and that ids ascend.
  Result<void, std::string> verify() const;

  std::uint32_t count() const { return count_; }
  /// What the file's name should be.
  ObjectId checksum() const;
  /// All but the trailer.
  std::string_view body() const;
  PackBytes bytes() const { return {.written = body()}; }
  std::optional<std::uint64_t> find(const ObjectId& id) const;

  /// The index, to make the next one of: how many objects have a smaller id; and all
  /// ids, sums and offsets, as they stand there.
  std::uint32_t rank(const ObjectId& id) const;
  std::string_view ids() const { return column(0, kIdBytes); }
  std::string_view crcs() const { return column(kIdBytes, 4); }
  std::string_view offsets() const { return column(kIdBytes + 4, 4); }
  /// Objects whose id begins with this byte or a smaller one.
  std::uint32_t fanout(unsigned first_byte) const;

 private:
  PackFile() = default;
  std::string_view pack() const;
  std::string_view index() const;
  std::string_view column(std::size_t bytes_before, std::size_t width) const;
  std::string_view id_at(std::uint32_t i) const { return ids().substr(i * kIdBytes, kIdBytes); }
  Result<void, std::string> check_form();

  Mapping pack_;
  Mapping index_;
  std::uint32_t count_ = 0;
};

/// Index version 2: its parts' sizes.
inline constexpr std::string_view kIndexMagic{"\377tOc\0\0\0\2", 8};
inline constexpr std::size_t kFanoutBytes = std::size_t{256} * 4;

/// Four bytes, highest first.
void append_u32(std::uint32_t number, std::string& out);

}  // namespace journal::git
