// SPDX-License-Identifier: MIT
#include "store/quota.h"

#include <algorithm>

namespace store {
namespace {

constexpr std::array<std::string_view, kQuotaCount> kNames{
    "nodes",  "watches",   "transactions",     "outstanding", "transaction-nodes",
    "memory", "node-size", "node-permissions", "path-max",    "soft-memory"};

}  // namespace

std::string_view quota_name(Quota quota) { return kNames[static_cast<std::size_t>(quota)]; }

std::optional<Quota> quota_of_name(std::string_view name) {
  const auto* found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<Quota>(found - kNames.begin());
}

void UsageDelta::add(Domid owner, std::int32_t nodes, std::int64_t bytes) {
  for (Entry& entry : entries_) {
    if (entry.owner != owner) continue;
    entry.nodes += nodes;
    entry.bytes += bytes;
    return;
  }
  entries_.push_back({owner, nodes, bytes});
}

void UsageDelta::add(const UsageDelta& other) {
  for (const Entry& entry : other.entries_) add(entry.owner, entry.nodes, entry.bytes);
}

std::int32_t UsageDelta::nodes_of(Domid owner) const {
  for (const Entry& entry : entries_) {
    if (entry.owner == owner) return entry.nodes;
  }
  return 0;
}

void Usage::apply(const UsageDelta& delta) {
  for (const UsageDelta::Entry& entry : delta.entries()) add(entry);
}

void Usage::add(const UsageDelta::Entry& entry) {
  Owned& owned = owned_[entry.owner];
  owned.nodes += static_cast<std::uint32_t>(entry.nodes);
  owned.bytes += static_cast<std::uint64_t>(entry.bytes);
  if (owned.nodes == 0) owned_.erase(entry.owner);
}

Usage::Owned Usage::of(Domid owner) const {
  const auto found = owned_.find(owner);
  return found == owned_.end() ? Owned{} : found->second;
}

}  // namespace store
