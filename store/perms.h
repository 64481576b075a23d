// SPDX-License-Identifier: MIT
/// Permissions of a node: a list of entries, the first of which names the owner
/// and what everybody else may do (xenstore.txt, SET_PERMS).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "store/ids.h"
#include "store/result.h"

namespace store {

enum class Access : std::uint8_t { kNone = 0, kRead = 1, kWrite = 2, kBoth = 3 };

constexpr bool allows(Access have, Access want) {
  return (static_cast<unsigned>(have) & static_cast<unsigned>(want)) == static_cast<unsigned>(want);
}

struct PermEntry {
  Domid domid;
  Access access;
  /// The domain named here was dead (or unknown) when this was written, or died
  /// since: the entry is still listed but grants nothing, also not to a later
  /// domain with the same id (XSA-322, XSA-417).
  bool stale = false;

  friend bool operator==(const PermEntry&, const PermEntry&) = default;
};

/// Never empty in a node. Entry 0: owner, and the access of all others.
using Perms = std::vector<PermEntry>;
using PermsView = std::span<const PermEntry>;

/// Who asks: a domain, with the domain it acts for if there is one, or a
/// privileged client (domain 0, every socket, the domain of `-p`).
struct Caller {
  Domid domid = kDom0;
  /// Set by SET_TARGET: a stub domain acts with its target's permissions.
  std::optional<Domid> target;
  bool privileged = true;
};

/// Whether `caller` is privileged or the owner, itself or as its target: who may
/// change permissions.
bool owns(const Caller& caller, PermsView perms);

/// What `caller` may do with a node of these permissions. Privileged callers,
/// the owner and the owner as target may do everything; else the first entry
/// naming caller or target decides (stale ones are skipped), else entry 0.
Access access_of(const Caller& caller, PermsView perms);

/// Parses one wire entry such as "r5"; the number may be decimal, hexadecimal
/// (0x) or octal (0), as strtol reads it. Error: kInval.
Answer<PermEntry> parse_perm(std::string_view text);

/// "r5" for GET_PERMS, without a terminator.
void append_perm(const PermEntry& entry, std::string& out);

}  // namespace store
