// SPDX-License-Identifier: MIT
#include "journal/pieces.h"

namespace journal {

store::Result<std::optional<PieceJoiner::Whole>, std::string> PieceJoiner::add(
    std::string_view key, std::string_view value) {
  const bool goes_on = value.size() == kPieceMax;
  if (!next_key_) {
    if (!goes_on) return Whole{key, value};
    key_ = key;
    value_ = value;
    next_key_.emplace(key);
    return std::nullopt;
  }
  if (key != next_key_->next() || value_.size() >= kPiecesMax * kPieceMax) {
    return tl::unexpected(std::string("a record lacks its end"));
  }
  value_.append(value);
  if (goes_on) return std::nullopt;
  next_key_.reset();
  return Whole{key_, value_};
}

}  // namespace journal
