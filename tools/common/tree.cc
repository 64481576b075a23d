// SPDX-License-Identifier: MIT
#include "tools/common/tree.h"

namespace tools {

std::string Content::perms_text() const {
  std::string text;
  for (const std::string_view entry : perm_entries(perms)) {
    if (!text.empty()) text += ',';
    text += entry.substr(0, entry.find(' '));
  }
  return text;
}

std::vector<Change> differences(const Tree& before, const Tree& after) {
  std::vector<Change> found;
  auto old_node = before.begin();
  auto new_node = after.begin();
  while (old_node != before.end() || new_node != after.end()) {
    const int order = new_node == after.end()    ? -1
                      : old_node == before.end() ? 1
                                                 : old_node->first.compare(new_node->first);
    if (order < 0) {
      found.push_back({old_node->first, old_node->second, std::nullopt});
    } else if (order > 0) {
      found.push_back({new_node->first, std::nullopt, new_node->second});
    } else if (old_node->second != new_node->second) {
      found.push_back({old_node->first, old_node->second, new_node->second});
    }
    if (order <= 0) ++old_node;
    if (order >= 0) ++new_node;
  }
  return found;
}

std::string without_marks(std::string_view perms) {
  std::string text;
  for (const std::string_view entry : perm_entries(perms)) {
    text.append(entry.substr(0, entry.find(' '))) += '\n';
  }
  return text;
}

Tree without_marks(Tree tree) {
  for (auto& [path, content] : tree) content.perms = without_marks(content.perms);
  return tree;
}

}  // namespace tools
