// SPDX-License-Identifier: MIT
#include "journal/git_tree.h"

#include <algorithm>
#include <cstring>

namespace journal::git {
namespace {

constexpr std::string_view kDirectoryMode = "40000 ";
constexpr std::string_view kFileMode = "100644 ";

}  // namespace

std::optional<TreeEntry> TreeReader::next() {
  const bool is_tree = rest_.starts_with(kDirectoryMode);
  if (!is_tree && !rest_.starts_with(kFileMode)) return std::nullopt;
  const std::size_t name_at = is_tree ? kDirectoryMode.size() : kFileMode.size();
  const auto* const end =
      static_cast<const char*>(std::memchr(rest_.data() + name_at, '\0', rest_.size() - name_at));
  if (end == nullptr) return std::nullopt;
  const auto name_end = static_cast<std::size_t>(end - rest_.data());
  const std::size_t size = name_end + 1 + kIdBytes;
  if (size > rest_.size()) return std::nullopt;
  const TreeEntry entry{.bytes = rest_.substr(0, size),
                        .name = rest_.substr(name_at, name_end - name_at),
                        .id = rest_.substr(name_end + 1, kIdBytes),
                        .is_tree = is_tree};
  rest_.remove_prefix(size);
  return entry;
}

int compare_names(std::string_view a, bool a_is_tree, std::string_view b, bool b_is_tree) {
  const std::size_t common = std::min(a.size(), b.size());
  if (const int order = std::memcmp(a.data(), b.data(), common); order != 0) return order;
  const auto next = [common](std::string_view name, bool is_tree) {
    if (name.size() > common) return static_cast<int>(static_cast<unsigned char>(name[common]));
    return is_tree ? int{'/'} : 0;
  };
  const int order = next(a, a_is_tree) - next(b, b_is_tree);
  return order != 0 || a.size() == b.size() ? order : a.size() < b.size() ? -1 : 1;
}

bool is_tree(std::string_view tree) {
  TreeReader reader(tree);
  std::optional<TreeEntry> before;
  while (const auto entry = reader.next()) {
    if (entry->name.empty() || entry->name.find('/') != std::string_view::npos) return false;
    if (before.has_value() &&
        compare_names(before->name, before->is_tree, entry->name, entry->is_tree) >= 0) {
      return false;
    }
    before = entry;
  }
  return reader.done();
}

void append_tree_entry(std::string_view name, bool is_tree, const ObjectId& id, std::string& out) {
  out += is_tree ? kDirectoryMode : kFileMode;
  out += name;
  out.push_back('\0');
  out += id.view();
}

std::string edited_tree(std::string_view tree, std::span<const TreeEdit> edits) {
  std::string result;
  result.reserve(tree.size() + edits.size() * 40);
  TreeReader reader(tree);
  const char* kept = tree.data();  // from here on entries are not copied yet
  const auto copy_until = [&](const char* end) {
    result.append(kept, static_cast<std::size_t>(end - kept));
    kept = end;
  };
  std::optional<TreeEntry> entry = reader.next();
  for (const TreeEdit& edit : edits) {
    int order = 1;
    while (entry.has_value() &&
           (order = compare_names(entry->name, entry->is_tree, edit.name, edit.is_tree)) < 0) {
      entry = reader.next();
    }
    copy_until(entry.has_value() ? entry->bytes.data() : tree.data() + tree.size());
    if (edit.id.has_value()) append_tree_entry(edit.name, edit.is_tree, *edit.id, result);
    if (entry.has_value() && order == 0) {
      kept = entry->bytes.data() + entry->bytes.size();
      entry = reader.next();
    }
  }
  copy_until(tree.data() + tree.size());
  return result;
}

}  // namespace journal::git
