// SPDX-License-Identifier: MIT
/// Deltas as packs hold them: what to copy from another object, what to insert.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace journal::git {

/// Appends the delta that makes `to` of `from`, both trees. Entries that are the
/// same are copied; of one whose id alone changed, the rest is.
void append_tree_delta(std::string_view from, std::string_view to, std::string& out);

/// Replaces `out` by what the delta makes of `base`. Trusts nothing; false if the
/// delta is malformed, or not one of this base, or makes more than `size_max`.
bool apply_delta(std::string_view base, std::string_view delta, std::size_t size_max,
                 std::string& out);

}  // namespace journal::git
