// SPDX-License-Identifier: MIT
/// Which watches a change concerns: found by walking up the changed path, never
/// by looking at the other watches (xenstore.txt, WATCH).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "store/ids.h"
#include "store/result.h"

namespace store {

/// The names that tell of domains coming and going, "@introduceDomain" and
/// "@releaseDomain", are watched like paths.
inline constexpr std::string_view kIntroduceDomain = "@introduceDomain";
inline constexpr std::string_view kReleaseDomain = "@releaseDomain";

inline constexpr std::int32_t kAnyDepth = -1;

struct Watch {
  ConnId conn;
  /// Order of registration, unique in the life of the area.
  std::uint64_t seq;
  std::string path;   ///< absolute, or a special name
  std::string token;  ///< opaque
  /// Registered with a relative path: its events show paths relative as well.
  bool relative;
  /// How many levels below the path it hears of; kAnyDepth: all.
  std::int32_t depth;
};

class WatchIndex {
 public:
  /// Error: kExist when this connection has the same path and token.
  /// The watch stays where it is until removed.
  Answer<const Watch*> add(Watch watch);
  bool has(ConnId conn, std::string_view path, std::string_view token) const;
  /// Error: kNoent. Gives the watch that was removed.
  Answer<Watch> remove(ConnId conn, std::string_view path, std::string_view token);
  /// All watches of a connection, in order of registration.
  std::vector<Watch> remove_all(ConnId conn);
  std::vector<const Watch*> of(ConnId conn) const;

  /// Those that hear of a change at `path` (of that path alone if `exact`), by
  /// connection, then order of registration. Valid until the next change or call.
  const std::vector<const Watch*>& matching(std::string_view path, bool exact);
  bool empty() const { return by_path_.empty(); }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>{}(text);
    }
  };
  /// The watches of one connection live here, so pointers to them are stable.
  using Owned = std::map<std::uint64_t, Watch>;
  void collect(std::string_view at, std::string_view path);
  void unlink(const Watch& watch);
  const Watch* find(ConnId conn, std::string_view path, std::string_view token) const;

  std::unordered_map<std::string, std::vector<const Watch*>, Hash, std::equal_to<>> by_path_;
  std::unordered_map<ConnId, Owned> by_conn_;
  std::vector<const Watch*> matches_;
};

/// How an event shows `path` to this watch: relative for a relative one, where
/// the base "/local/domain/<domid>" itself is "".
std::string_view shown_path(const Watch& watch, Domid domid, std::string_view path);

}  // namespace store
