// SPDX-License-Identifier: MIT
/// Where the crash driver's traffic goes, and the discipline that lets a plain
/// model know the outcome:
/// - each client has a region that nobody else writes, so its history there is
///   sequential; inside it the *free* paths (`side` and the outposts) may change
///   while the client has a transaction open, all others change only outside of
///   transactions or inside the open one;
/// - outposts are nodes in a directory of all clients, `/s/d/<client>-<n>`, each
///   name used once, never inside a transaction;
/// - `/s/r/<i>` is written by anybody, `/s/g/<i>/0..3` only by transactions that
///   write the same value to all four, `/s/c/<i>` only by transactions that read
///   "<n>..." and write "<n+1>...". No value is ever written twice.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tools/crash/tree.h"

namespace crash {

inline constexpr std::string_view kSharedTop = "/s";
inline constexpr std::string_view kOutposts = "/s/d";
inline constexpr unsigned kRegisters = 4;
inline constexpr unsigned kGroups = 2;
inline constexpr unsigned kGroupSize = 4;
inline constexpr unsigned kCounters = 2;
/// Domain ids that a client introduces and releases as it likes.
inline constexpr unsigned kDomainsPerClient = 2;

std::string register_path(unsigned index);
std::string group_path(unsigned group, unsigned member);
std::string counter_path(unsigned index);
bool is_shared(std::string_view path);
/// "/s/g/1" for "/s/g/1/3"; empty for what is in no group.
std::string group_of(std::string_view path);

struct Region {
  unsigned client = 0;
  std::string root;            ///< the client's own subtree, always there
  std::string side;            ///< the free part of it, always there
  std::string outpost_prefix;  ///< "/s/d/3-"
  unsigned first_domid = 0;    ///< of kDomainsPerClient

  bool owns(std::string_view path) const;
  bool is_free(std::string_view path) const;
  /// The part of `whole` that is this region, with the outposts' directory
  /// showing this client's entries only.
  Tree cut_out(const Tree& whole) const;
  std::vector<unsigned> domids() const;
};

Region client_region(unsigned client);

}  // namespace crash
