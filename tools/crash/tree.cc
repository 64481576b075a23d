// SPDX-License-Identifier: MIT
#include "tools/crash/tree.h"

#include <algorithm>
#include <set>

#include "tools/crash/protocol.h"

namespace crash {
namespace {

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

std::string describe(const Node& node) {
  return "value \"" + printable(node.value) + "\", perms " + joined(node.perms) + ", children [" +
         joined(node.children) + "]";
}

std::string describe(const Tree& tree, const std::string& path) {
  const auto found = tree.find(path);
  return found == tree.end() ? "absent" : describe(found->second);
}

}  // namespace

std::string parent_of(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == 0 ? "/" : std::string(path.substr(0, slash));
}

std::string name_of(std::string_view path) { return std::string(path.substr(path.rfind('/') + 1)); }

bool is_within(std::string_view path, std::string_view top) {
  if (top == "/") return path.starts_with('/');
  return path.starts_with(top) && (path.size() == top.size() || path[top.size()] == '/');
}

Tree cut_out(const Tree& whole, const std::string& top) {
  Tree part;
  for (auto node = whole.lower_bound(top); node != whole.end(); ++node) {
    if (is_within(node->first, top))
      part.insert(*node);
    else if (!node->first.starts_with(top))
      break;
  }
  return part;
}

void make_node(Tree& tree, const std::string& path, std::string_view creator) {
  if (tree.contains(path)) return;
  const std::string above = parent_of(path);
  make_node(tree, above, creator);
  Node& parent = tree.at(above);
  parent.children.push_back(name_of(path));
  Node node{"", parent.perms, {}};
  if (!creator.empty()) node.perms.front().replace(1, std::string::npos, creator);
  tree.emplace(path, std::move(node));
}

void remove_node(Tree& tree, const std::string& path) {
  if (!tree.contains(path)) return;
  const auto parent = tree.find(parent_of(path));
  if (parent != tree.end()) std::erase(parent->second.children, name_of(path));
  std::erase_if(tree, [&](const auto& entry) { return is_within(entry.first, path); });
}

void remove_owned(Tree& tree, unsigned owner) {
  const std::string digits = std::to_string(owner);
  std::vector<std::string> owned;
  for (const auto& [path, node] : tree) {
    if (node.perms.front().substr(1) == digits) owned.push_back(path);
  }
  for (const std::string& path : owned) remove_node(tree, path);
}

std::string difference(const Tree& expected, const Tree& found, std::size_t limit) {
  std::set<std::string> paths;
  for (const auto& [path, node] : expected) {
    const auto other = found.find(path);
    if (other == found.end() || !(other->second == node)) paths.insert(path);
  }
  for (const auto& [path, node] : found) {
    if (!expected.contains(path)) paths.insert(path);
  }
  std::string out;
  std::size_t lines = 0;
  for (const std::string& path : paths) {
    if (lines++ == limit) return out + "    and more\n";
    out += "    " + path + "\n      expected " + describe(expected, path) + "\n      found    " +
           describe(found, path) + "\n";
  }
  return out;
}

}  // namespace crash
