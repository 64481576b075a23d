// SPDX-License-Identifier: MIT
/// Directories of the tree at the tip that were in use of late, so that a commit
/// need not read packs: their bytes, and the older versions that new ones are made
/// deltas of. Bounded; what is not here is read again.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "journal/git_object.h"

namespace journal {

/// Of a directory, the versions that a part of a pack has. A version is made a
/// delta of an older one so that chains stay short and deltas small: count versions
/// from the whole one, 0, in hexadecimal; the base of a version is the one with its
/// last digit that is not 0 one lower. So a chain is as long as the sum of the
/// digits, at most 45, and of 16 deltas 15 are against the version just before.
struct DirectoryVersions {
  static constexpr unsigned kDigits = 3;
  static constexpr std::uint32_t kCountMax = 1 << 4 * kDigits;

  struct Version {
    std::uint64_t offset = 0;
    std::shared_ptr<const std::string> tree{};
  };
  /// At i the newest version whose number ends in i zeros at least.
  std::array<Version, kDigits> newest{};
  std::uint32_t count = 0;
  /// HistoryPacks::offsets_epoch of the offsets; with another one, all is void.
  std::uint64_t epoch = 0;
};

struct Directory {
  git::ObjectId id{};
  std::shared_ptr<const std::string> tree{};
  DirectoryVersions versions{};

  std::size_t bytes() const;
};

/// Least recently used first out.
class DirectoryCache {
 public:
  explicit DirectoryCache(std::size_t bytes_max) : bytes_max_(bytes_max) {}

  /// Takes the directory out, if it is here and is this version.
  std::optional<Directory> take(const std::string& path, const git::ObjectId& id);
  void put(std::string path, Directory directory);

 private:
  using Entry = std::pair<std::string, Directory>;
  static std::size_t bytes_of(const Entry& entry);
  void remove(std::list<Entry>::iterator entry);

  std::size_t bytes_max_;
  std::size_t bytes_ = 0;
  std::list<Entry> entries_;  ///< the most recently used first
  std::unordered_map<std::string_view, std::list<Entry>::iterator> places_;
};

}  // namespace journal
