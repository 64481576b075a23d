// SPDX-License-Identifier: MIT
/// Git's objects: their kinds, their ids, and SHA-1 (gitformat-pack, git-hash-object).
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace journal::git {

/// As packs number them.
enum class Kind : std::uint8_t { kCommit = 1, kTree = 2, kBlob = 3 };

inline constexpr std::size_t kIdBytes = 20;

struct ObjectId {
  std::array<char, kIdBytes> bytes{};

  std::string_view view() const { return {bytes.data(), bytes.size()}; }
  std::string hex() const;
  /// Of exactly 20 bytes.
  static ObjectId of_bytes(std::string_view raw);
  /// Of exactly 40 small hexadecimal digits; none for anything else.
  static std::optional<ObjectId> of_hex(std::string_view digits);

  friend bool operator==(const ObjectId&, const ObjectId&) = default;
  /// As indexes of packs sort: by unsigned bytes.
  friend std::strong_ordering operator<=>(const ObjectId& a, const ObjectId& b) {
    return std::memcmp(a.bytes.data(), b.bytes.data(), kIdBytes) <=> 0;
  }
};

/// Ids are as good as random.
struct ObjectIdHash {
  std::size_t operator()(const ObjectId& id) const {
    std::size_t hash = 0;
    std::memcpy(&hash, id.bytes.data(), sizeof hash);
    return hash;
  }
};

/// SHA-1 of bytes that come in pieces.
class Sha1 {
 public:
  Sha1();
  void add(std::string_view bytes);
  /// Once.
  ObjectId finish();

 private:
  // OpenSSL's SHA_CTX, whose header nobody else needs to read.
  alignas(8) std::array<unsigned char, 96> context_;
};

ObjectId sha1(std::string_view bytes);
/// The id of an object with this content.
ObjectId id_of(Kind kind, std::string_view content);

}  // namespace journal::git
