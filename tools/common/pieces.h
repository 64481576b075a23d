// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <string_view>
#include <vector>

namespace tools {

/// The pieces of `text`, in order, each ended by `end`; the last one need not be. Empty pieces
/// count. Views into `text`.
inline std::vector<std::string_view> pieces(std::string_view text, char end) {
  std::vector<std::string_view> found;
  while (!text.empty()) {
    const std::size_t size = std::min(text.find(end), text.size());
    found.push_back(text.substr(0, size));
    text.remove_prefix(std::min(size + 1, text.size()));
  }
  return found;
}

}  // namespace tools
