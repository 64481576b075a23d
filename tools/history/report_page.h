// SPDX-License-Identifier: MIT
/// What the report's page looks like and does in a browser. Nothing is fetched
/// from anywhere; without scripts all is there but the search.
#pragma once

#include <string>
#include <string_view>

namespace history {

/// Bytes of a text that have a meaning in HTML replaced, for elements and
/// attributes in double quotes.
std::string html(std::string_view text);

extern const std::string_view kPageStyle;
/// Expects the ids and classes that report.cc writes.
extern const std::string_view kPageScript;

}  // namespace history
