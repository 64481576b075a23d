// SPDX-License-Identifier: MIT
/// Paths as clients send them and as the store names nodes (xenstore.txt; the
/// numbers in comments are those of C xenstored's behaviour).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "store/ids.h"
#include "store/result.h"

namespace store {

/// What follows a /local/domain/<n>/ prefix may have at most this many bytes.
inline constexpr std::size_t kPathBytesMax = 2048;

/// "/local/domain/<domid>", the base of the domain's relative paths.
std::string domain_path(Domid domid);

/// Makes a path absolute without judging it: "/..." and "@..." stay as they
/// are, anything else goes below the domain's own path. The result views `wire`
/// or `scratch`.
std::string_view absolute_path(std::string_view wire, Domid base, std::string& scratch);

/// True for an absolute node path: legal characters [A-Za-z0-9-/_@], no empty
/// component, no trailing slash but the root's, at most `path_max` bytes beyond
/// a /local/domain/<n>/ prefix.
bool is_node_path(std::string_view path, std::size_t path_max = kPathBytesMax);

/// absolute_path() and is_node_path() together. Error: kInval.
Answer<std::string_view> node_path(std::string_view wire, Domid base, std::size_t path_max,
                                   std::string& scratch);

/// "/a" of "/a/b", "/" of "/a", "" of "/".
std::string_view parent_path(std::string_view path);

/// Of the child of that name.
std::string child_path(std::string_view path, std::string_view name);

/// A path or token as one word of printable ASCII, whatever bytes a client put
/// there: others, spaces and backslashes become \xHH.
std::string escaped_word(std::string_view text);

/// Splits a node path into its component names, front to back.
class PathNames {
 public:
  explicit PathNames(std::string_view path) : rest_(path.substr(1)) {}
  /// Of names with a slash between, as rest() gives them.
  static PathNames of_rest(std::string_view rest) {
    PathNames names("/");
    names.rest_ = rest;
    return names;
  }
  bool done() const { return rest_.empty(); }
  /// What next() has not returned yet.
  std::string_view rest() const { return rest_; }
  /// The next name. Not when done().
  std::string_view next() {
    const std::size_t slash = rest_.find('/');
    const std::string_view name = rest_.substr(0, slash);
    rest_ = slash == std::string_view::npos ? std::string_view() : rest_.substr(slash + 1);
    return name;
  }

 private:
  std::string_view rest_;
};

}  // namespace store
