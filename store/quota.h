// SPDX-License-Identifier: MIT
/// What a domain may hold: the limits of C xenstored 4.17 (its defaults, its
/// off-by-ones), under the names that newer Xen gives them.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "store/ids.h"

namespace store {

/// The first nine have a hard limit; memory has a soft one too.
enum class Quota : std::uint8_t {
  kNodes,             ///< nodes owned; creation refused when the creator has that many
  kWatches,           ///< watches; one more than the number is allowed (as in 4.17)
  kTransactions,      ///< open transactions; one more than the number is allowed
  kOutstanding,       ///< requests whose replies or events are not delivered yet
  kTransactionNodes,  ///< distinct nodes one transaction touches
  kMemory,            ///< bytes of nodes, watches, transactions and queued output
  kNodeSize,          ///< bytes of one node's record (Node::record_bytes), exclusive
  kNodePermissions,   ///< entries of a permission list
  kPathMax,           ///< bytes of a path, see store/path.h
  kSoftMemory,        ///< warn when memory exceeds this
};
inline constexpr std::size_t kQuotaCount = 10;

/// "nodes", "watches", ..., "soft-memory".
std::string_view quota_name(Quota quota);
std::optional<Quota> quota_of_name(std::string_view name);

struct Limits {
  std::array<std::uint32_t, kQuotaCount> values{1000,    128,  10, 20,   1024,
                                                2621440, 2048, 5,  2048, 2097152};
  std::uint32_t& operator[](Quota quota) { return values[static_cast<std::size_t>(quota)]; }
  std::uint32_t operator[](Quota quota) const { return values[static_cast<std::size_t>(quota)]; }
};

/// Nodes and their bytes that an operation adds to or takes from owners.
class UsageDelta {
 public:
  struct Entry {
    Domid owner;
    std::int32_t nodes;
    std::int64_t bytes;
  };
  void add(Domid owner, std::int32_t nodes, std::int64_t bytes);
  void add(const UsageDelta& other);
  std::int32_t nodes_of(Domid owner) const;
  const std::vector<Entry>& entries() const { return entries_; }
  void clear() { entries_.clear(); }

 private:
  std::vector<Entry> entries_;  ///< few owners in one operation, so a list
};

/// What each domain owns in the live tree. Counted up and down, never recounted.
class Usage {
 public:
  struct Owned {
    std::uint32_t nodes = 0;
    std::uint64_t bytes = 0;
    friend bool operator==(const Owned&, const Owned&) = default;
  };
  void apply(const UsageDelta& delta);
  void add(const UsageDelta::Entry& entry);
  Owned of(Domid owner) const;
  friend bool operator==(const Usage&, const Usage&) = default;

 private:
  std::unordered_map<Domid, Owned> owned_;
};

}  // namespace store
