// SPDX-License-Identifier: MIT
/// A tree as text: a line for each node, by path bytewise (as LC_ALL=C sort has them).
///
///     /local/domain/3/name = "web\x00\"01\""  (n3,r0)
///
/// The path; the value in quotes, printable ASCII but for \n \r \t \\ \" and \xHH;
/// the permissions, owner first. " stale" behind one says that the domain is dead,
/// which only a state tells. Nothing else may stand in it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tools/inspect/state.h"

namespace inspect {

std::string line_of(const std::string& path, const tools::Content& content);

/// Reads such lines, in any order. Problem: the first that is none, or whose node
/// stands there twice.
Result<tools::Tree> parse_tree(std::string_view text);

/// The nodes of which nothing above is in the tree. Problem: something is, but not
/// the parent.
Result<std::vector<std::string>> roots_of(const tools::Tree& tree);

}  // namespace inspect
