// SPDX-License-Identifier: MIT
#include "store/path.h"

#include <array>
#include <cctype>

namespace store {
namespace {

constexpr std::string_view kDomainPrefix = "/local/domain/";

constexpr std::array<bool, 256> kLegal = [] {
  std::array<bool, 256> legal{};
  for (const char c : std::string_view("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                       "0123456789-/_@")) {
    legal[static_cast<unsigned char>(c)] = true;
  }
  return legal;
}();

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Bytes of a leading "/local/domain/<up to five digits>/", or 0.
std::size_t domain_prefix_bytes(std::string_view path) {
  if (!path.starts_with(kDomainPrefix)) return 0;
  std::size_t at = kDomainPrefix.size();
  const std::size_t digits_end = std::min(path.size(), at + 5);
  while (at < digits_end && is_digit(path[at])) ++at;
  if (at == kDomainPrefix.size() || at == path.size() || path[at] != '/') return 0;
  return at + 1;
}

}  // namespace

std::string domain_path(Domid domid) {
  return std::string(kDomainPrefix) + std::to_string(raw(domid));
}

std::string_view absolute_path(std::string_view wire, Domid base, std::string& scratch) {
  if (!wire.empty() && (wire.front() == '/' || wire.front() == '@')) return wire;
  scratch = domain_path(base);
  scratch += '/';
  scratch += wire;
  return scratch;
}

bool is_node_path(std::string_view path, std::size_t path_max) {
  if (path.empty() || path.front() != '/') return false;
  if (path.size() > path_max && path.size() - domain_prefix_bytes(path) > path_max) return false;
  if (path.size() == 1) return true;
  char before = '\0';
  for (const char c : path) {
    if (!kLegal[static_cast<unsigned char>(c)] || (c == '/' && before == '/')) return false;
    before = c;
  }
  return before != '/';
}

Answer<std::string_view> node_path(std::string_view wire, Domid base, std::size_t path_max,
                                   std::string& scratch) {
  const std::string_view path = absolute_path(wire, base, scratch);
  if (!is_node_path(path, path_max)) return tl::unexpected(WireError::kInval);
  return path;
}

std::string_view parent_path(std::string_view path) {
  if (path.size() <= 1) return {};
  const std::size_t slash = path.rfind('/');
  return slash == 0 ? path.substr(0, 1) : path.substr(0, slash);
}

std::string child_path(std::string_view path, std::string_view name) {
  std::string child(path == "/" ? "" : path);
  child += '/';
  child += name;
  return child;
}

std::string escaped_word(std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string word;
  for (const char c : text) {
    if (c > ' ' && c <= '~' && c != '\\') {
      word += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    word += "\\x";
    word += kHex[byte >> 4];
    word += kHex[byte & 15];
  }
  return word;
}

}  // namespace store
