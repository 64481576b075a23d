// SPDX-License-Identifier: MIT
#include "store/watch.h"

#include <algorithm>

#include "store/path.h"

namespace store {

Answer<const Watch*> WatchIndex::add(Watch watch) {
  if (has(watch.conn, watch.path, watch.token)) return tl::unexpected(WireError::kExist);
  const std::uint64_t seq = watch.seq;
  const Watch& added = by_conn_[watch.conn].insert_or_assign(seq, std::move(watch)).first->second;
  by_path_[added.path].push_back(&added);
  return &added;
}

const Watch* WatchIndex::find(ConnId conn, std::string_view path, std::string_view token) const {
  const auto there = by_path_.find(path);
  if (there == by_path_.end()) return nullptr;
  const auto found = std::find_if(
      there->second.begin(), there->second.end(),
      [&](const Watch* watch) { return watch->conn == conn && watch->token == token; });
  return found == there->second.end() ? nullptr : *found;
}

bool WatchIndex::has(ConnId conn, std::string_view path, std::string_view token) const {
  return find(conn, path, token) != nullptr;
}

void WatchIndex::unlink(const Watch& watch) {
  const auto there = by_path_.find(watch.path);
  std::erase(there->second, &watch);
  if (there->second.empty()) by_path_.erase(there);
}

Answer<Watch> WatchIndex::remove(ConnId conn, std::string_view path, std::string_view token) {
  const auto there = by_path_.find(path);
  if (there == by_path_.end()) return tl::unexpected(WireError::kNoent);
  const auto found = std::find_if(
      there->second.begin(), there->second.end(),
      [&](const Watch* watch) { return watch->conn == conn && watch->token == token; });
  if (found == there->second.end()) return tl::unexpected(WireError::kNoent);
  const Watch* watch = *found;
  unlink(*watch);
  const auto owned = by_conn_.find(conn);
  Watch removed = std::move(owned->second.extract(watch->seq).mapped());
  if (owned->second.empty()) by_conn_.erase(owned);
  return removed;
}

std::vector<Watch> WatchIndex::remove_all(ConnId conn) {
  std::vector<Watch> removed;
  const auto owned = by_conn_.find(conn);
  if (owned == by_conn_.end()) return removed;
  for (auto& [seq, watch] : owned->second) {
    unlink(watch);
    removed.push_back(std::move(watch));
  }
  by_conn_.erase(owned);
  return removed;
}

std::vector<const Watch*> WatchIndex::of(ConnId conn) const {
  std::vector<const Watch*> watches;
  const auto owned = by_conn_.find(conn);
  if (owned == by_conn_.end()) return watches;
  for (const auto& [seq, watch] : owned->second) watches.push_back(&watch);
  return watches;
}

void WatchIndex::collect(std::string_view at, std::string_view path) {
  const auto there = by_path_.find(at);
  if (there == by_path_.end()) return;
  const std::string_view below = path.substr(at.size() == 1 ? 0 : at.size());
  const auto levels =
      at == path ? 0 : static_cast<std::int32_t>(std::count(below.begin(), below.end(), '/'));
  for (const Watch* watch : there->second) {
    if (watch->depth == kAnyDepth || levels <= watch->depth) matches_.push_back(watch);
  }
}

const std::vector<const Watch*>& WatchIndex::matching(std::string_view path, bool exact) {
  matches_.clear();
  if (by_path_.empty()) return matches_;
  for (std::string_view at = path; !at.empty(); at = parent_path(at)) {
    collect(at, path);
    if (exact || at.front() != '/') break;
  }
  if (matches_.size() > 1) {
    std::sort(matches_.begin(), matches_.end(), [](const Watch* a, const Watch* b) {
      return a->conn != b->conn ? a->conn < b->conn : a->seq < b->seq;
    });
  }
  return matches_;
}

std::string_view shown_path(const Watch& watch, Domid domid, std::string_view path) {
  if (!watch.relative) return path;
  const std::size_t base = domain_path(domid).size();
  return path.size() <= base ? std::string_view() : path.substr(base + 1);
}

}  // namespace store
