// SPDX-License-Identifier: MIT
/// The plain model of a xenstore tree: a map from path to node, changed by the
/// rules of the protocol for a caller whom no permission stops.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace crash {

struct Node {
  std::string value;
  std::vector<std::string> perms;     ///< as on the wire: "n0", "r5"
  std::vector<std::string> children;  ///< in order of creation

  friend bool operator==(const Node&, const Node&) = default;
};

using Tree = std::map<std::string, Node>;

std::string parent_of(std::string_view path);
std::string name_of(std::string_view path);
/// True for `path` itself and for everything beneath it.
bool is_within(std::string_view path, std::string_view top);

/// `top` and everything beneath it.
Tree cut_out(const Tree& whole, const std::string& top);

/// Makes the node and its missing parents; each inherits its parent's
/// permissions, with `creator` (decimal domid, "" for a privileged caller)
/// as owner. Some ancestor must exist.
void make_node(Tree& tree, const std::string& path, std::string_view creator = "");
/// Removes the node with everything beneath it; nothing if it is not there.
void remove_node(Tree& tree, const std::string& path);
/// Removes what domain `owner` owns, each node with its subtree (RELEASE).
void remove_owned(Tree& tree, unsigned owner);

/// What differs, a line a node, at most `limit` lines; empty when equal.
std::string difference(const Tree& expected, const Tree& found, std::size_t limit = 12);

}  // namespace crash
