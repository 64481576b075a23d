// SPDX-License-Identifier: MIT
#include "journal/history_directories.h"

namespace journal {

std::size_t Directory::bytes() const {
  // Versions may share their bytes; then this is too much, which does no harm.
  std::size_t sum = tree->size();
  for (const auto& version : versions.newest) {
    if (version.tree != nullptr && version.tree != tree) sum += version.tree->size();
  }
  return sum;
}

std::size_t DirectoryCache::bytes_of(const Entry& entry) {
  constexpr std::size_t kOverhead = 400;  // list, map and counted strings
  return kOverhead + entry.first.size() + entry.second.bytes();
}

std::optional<Directory> DirectoryCache::take(const std::string& path, const git::ObjectId& id) {
  const auto place = places_.find(path);
  if (place == places_.end()) return std::nullopt;
  const auto entry = place->second;
  std::optional<Directory> directory;
  const bool is_this = entry->second.id == id;
  bytes_ -= bytes_of(*entry);
  places_.erase(place);
  if (is_this) directory = std::move(entry->second);
  entries_.erase(entry);
  return directory;
}

void DirectoryCache::put(std::string path, Directory directory) {
  if (const auto place = places_.find(path); place != places_.end()) remove(place->second);
  entries_.emplace_front(std::move(path), std::move(directory));
  places_.emplace(entries_.front().first, entries_.begin());
  bytes_ += bytes_of(entries_.front());
  while (bytes_ > bytes_max_ && !entries_.empty()) remove(std::prev(entries_.end()));
}

void DirectoryCache::remove(std::list<Entry>::iterator entry) {
  bytes_ -= bytes_of(*entry);
  places_.erase(entry->first);
  entries_.erase(entry);
}

}  // namespace journal
