// SPDX-License-Identifier: MIT
/// Commits, changes and bytes as people and as programs read them.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "tools/history/compare.h"
#include "tools/history/repository.h"

namespace history {

using Document = nlohmann::ordered_json;

/// How the user wants to see things.
struct Look {
  bool is_json = false;
  bool is_coloured = false;
  /// Values are shown up to so many bytes; JSON has them whole.
  std::size_t value_bytes_max = 200;
};

/// Any bytes as printable ASCII: \n, \r, \t, \\, and others as \xHH.
std::string escaped(std::string_view bytes);
/// escaped() in quotes, with \" for what would end them; what is longer than
/// `bytes_max` is cut, which is told behind the quotes.
std::string quoted(std::string_view bytes, std::size_t bytes_max = std::string_view::npos);

/// A node's value and permissions: "web01"  (n3,r5 stale).
std::string content_text(const Content& content, const Look& look);

/// "1a2b3c4d5e6f  2026-11-21T16:40:11.123456+00:00  domain 3  WRITE /a/b\n", and
/// a line for each of its requests if `has_requests`.
std::string commit_text(const Commit& commit, const Look& look, bool has_requests);
/// "  ~ /a/b  "1" -> "2"\n"; + for what is new, - for what is gone.
std::string change_text(const Change& change, const Look& look);
/// Written in grey.
std::string note_text(std::string_view note, const Look& look);

/// The commit without its changes. Strings of others are escaped().
Document commit_json(const Commit& commit);
Document change_json(const Change& change);
Document content_json(const Content& content);
Document author_json(const Author& author);

/// Writes to stdout.
void put(std::string_view text);

/// Prints a JSON object whose array is too long for memory: an element a line.
class JsonArray {
 public:
  /// `head` is an object; the array becomes its last member but those of close().
  JsonArray(const Document& head, std::string_view name);
  void add(const Document& element);
  /// With further members, which may be none.
  void close(const Document& tail = Document::object());

 private:
  bool is_empty_ = true;
};

}  // namespace history
