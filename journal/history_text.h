// SPDX-License-Identifier: MIT
/// The texts of history: who made a commit, what its message says, and permissions
/// (HISTORY.md). Whatever comes from outside is cleaned on its way into a text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "journal/history.h"

namespace journal {

/// "domain 3 <domain-3@xenstore>".
std::string author_line(const HistoryAuthor& author);

/// Without control characters, '<', '>' and what is not ASCII, trimmed.
std::string cleaned(std::string_view text);

/// "WRITE /local/domain/3/name"; of many paths the first, and how many more.
std::string request_line(const HistoryEntry& entry);

/// The trailers that say how far a commit goes.
struct EntryTrailers {
  std::uint64_t first = 0;  ///< number of the first entry in the commit, and of the last
  std::uint64_t last = 0;
  std::uint64_t time_us = 0;
};
void append_trailers(const EntryTrailers& trailers, std::string& message);

/// The number of the last entry in a commit of ours, from its message; none if it
/// does not say so.
std::optional<std::uint64_t> entry_of_message(std::string_view message);

/// A node's permissions as the file `.perms` has them, and back. Reading trusts
/// nothing; none if the text is not what is written.
std::string perms_text(store::PermsView perms);
std::optional<store::Perms> perms_of_text(std::string_view text);

}  // namespace journal
