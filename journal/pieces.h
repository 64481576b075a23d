// SPDX-License-Identifier: MIT
/// Long values in pieces of one page, so that no record ever needs pages that lie
/// side by side: those may be missing on a full tmpfs however much is free.
/// FORMAT.md, "Pieces", has the bytes.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "journal/image.h"
#include "store/result.h"

namespace journal {

/// What one page of LMDB's holds of a value. A piece of exactly this length is
/// followed by another, which may be empty.
inline constexpr std::size_t kPieceMax = kPageBytes - 16;
/// Of the longest value there can be (records.h).
inline constexpr std::size_t kPiecesMax = 8;

/// Counts up the key of a record to that of each further piece.
class PieceKey {
 public:
  explicit PieceKey(std::string_view key) : key_(key) { key_.push_back('\0'); }
  std::string_view next() {
    ++key_.back();
    return key_;
  }

 private:
  std::string key_;
};

/// Makes records of the pieces that are shown to it in the order of their keys.
class PieceJoiner {
 public:
  struct Whole {
    std::string_view key;
    std::string_view value;
  };

  /// The record that ends with this piece, valid until the next call; none if it
  /// goes on. Error: the piece before asked for another one than this.
  store::Result<std::optional<Whole>, std::string> add(std::string_view key,
                                                       std::string_view value);
  /// Does the last record lack a piece?
  bool is_waiting() const { return next_key_.has_value(); }

 private:
  std::string key_;
  std::string value_;
  std::optional<PieceKey> next_key_;
};

}  // namespace journal
