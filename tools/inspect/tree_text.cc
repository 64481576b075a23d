// SPDX-License-Identifier: MIT
#include "tools/inspect/tree_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "journal/records.h"
#include "store/path.h"
#include "store/perms.h"
#include "tools/history/output.h"

namespace inspect {
namespace {

/// Reads a line from left to right.
class LineReader {
 public:
  explicit LineReader(std::string_view rest) : rest_(rest) {}

  bool done() const { return rest_.empty(); }
  /// What stands before `mark`, which is skipped.
  std::optional<std::string_view> until(std::string_view mark) {
    const std::size_t end = rest_.find(mark);
    if (end == std::string_view::npos) return std::nullopt;
    const std::string_view part = rest_.substr(0, end);
    rest_.remove_prefix(end + mark.size());
    return part;
  }
  bool skip(std::string_view mark) {
    if (!rest_.starts_with(mark)) return false;
    rest_.remove_prefix(mark.size());
    return true;
  }
  /// The bytes of what history::quoted() wrote, up to the closing quote.
  std::optional<std::string> value() {
    std::string bytes;
    while (!rest_.empty() && rest_.front() != '"') {
      const auto next = byte();
      if (!next) return std::nullopt;
      bytes += *next;
    }
    return skip("\"") ? std::optional(bytes) : std::nullopt;
  }

 private:
  char take() {
    const char c = rest_.front();
    rest_.remove_prefix(1);
    return c;
  }

  std::optional<char> byte() {
    const char c = take();
    if (c < ' ' || c > '~') return std::nullopt;
    if (c != '\\') return c;
    if (rest_.empty()) return std::nullopt;
    switch (const char escaped = take(); escaped) {
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case '\\':
      case '"':
        return escaped;
      case 'x':
        return hex_byte();
      default:
        return std::nullopt;
    }
  }

  std::optional<char> hex_byte() {
    unsigned byte = 0;
    const char* const end = rest_.data() + std::min<std::size_t>(2, rest_.size());
    const auto parsed = std::from_chars(rest_.data(), end, byte, 16);
    if (parsed.ec != std::errc() || parsed.ptr != rest_.data() + 2) return std::nullopt;
    rest_.remove_prefix(2);
    return static_cast<char>(byte);
  }

  std::string_view rest_;
};

/// "n3,r5 stale" as tools::Content has it; none if it is no list of permissions.
std::optional<std::string> parse_perms(std::string_view list) {
  constexpr std::string_view kStale = " stale";
  store::Perms perms;
  for (bool is_last = false; !is_last;) {
    const std::size_t comma = list.find(',');
    is_last = comma == std::string_view::npos;
    std::string_view entry = list.substr(0, comma);
    if (!is_last) list.remove_prefix(comma + 1);
    const bool is_stale = entry.ends_with(kStale);
    if (is_stale) entry.remove_suffix(kStale.size());
    auto perm = store::parse_perm(entry);
    if (!perm.has_value()) return std::nullopt;
    perm.value().stale = is_stale;
    perms.push_back(perm.value());
  }
  return perms_text(perms);
}

/// False: it is no node's.
bool add_line(std::string_view line, tools::Tree& tree) {
  LineReader reader(line);
  const auto path = reader.until(" = \"");
  if (!path || !store::is_node_path(*path, journal::kNameMax)) return false;
  auto value = reader.value();
  if (!value || !reader.skip("  (")) return false;
  const auto list = reader.until(")");
  auto perms = list ? parse_perms(*list) : std::nullopt;
  if (!perms || !reader.done()) return false;
  return tree.emplace(*path, tools::Content{std::move(*value), std::move(*perms)}).second;
}

}  // namespace

std::string line_of(const std::string& path, const tools::Content& content) {
  history::Look look;
  look.value_bytes_max = std::string_view::npos;
  return fmt::format("{} = {}\n", history::escaped(path), history::content_text(content, look));
}

Result<tools::Tree> parse_tree(std::string_view text) {
  tools::Tree tree;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!add_line(line, tree)) {
      return tl::unexpected(fmt::format("line {} is no node, or one that was there before: {}",
                                        number, history::quoted(line, 100)));
    }
  }
  return tree;
}

Result<std::vector<std::string>> roots_of(const tools::Tree& tree) {
  std::vector<std::string> roots;
  for (const auto& [path, content] : tree) {
    std::string_view above = store::parent_path(path);
    if (tree.contains(std::string(above))) continue;
    const std::string_view parent = above;
    while (!above.empty() && !tree.contains(std::string(above))) above = store::parent_path(above);
    if (!above.empty()) {
      return tl::unexpected(
          fmt::format("{} is there, and {}, but not {} between them", above, path, parent));
    }
    roots.push_back(path);
  }
  return roots;
}

}  // namespace inspect
