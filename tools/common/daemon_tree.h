// SPDX-License-Identifier: MIT
/// A running daemon's tree through its socket: read as one moment, and made like another.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/common/client.h"
#include "tools/common/tree.h"

namespace tools {

/// One transaction with the daemon; it is given up unless it is committed.
class Transaction {
 public:
  explicit Transaction(Client& client) : client_(client) {}
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  Result<void> start();
  /// False: others were in the way.
  Result<bool> commit();
  Result<void> give_up();
  /// Of a request with a path alone, or with what follows it.
  Result<Reply> ask(xenstored::Op op, const std::string& path, std::string_view rest = {});

 private:
  Client& client_;
  std::uint32_t id_ = 0;
};

/// The nodes at and below a path, as the transaction sees them; none if there is no
/// such node. No permissions are marked as those of the dead.
Result<Tree> read_tree(Transaction& transaction, const std::string& path);

/// What makes `live` like `wanted`, as it can be done: entries of the dead granted
/// nothing and are left out. Removals first, then by path.
std::vector<Change> plan_changes(const Tree& wanted, const Tree& live, bool orphans_to_dom0);

/// Does what is planned, in one transaction or a part of it in each.
class Work {
 public:
  Result<void> carry_out(Transaction& transaction, std::span<const Change> changes);

 private:
  Result<void> one(Transaction& transaction, const Change& change);

  std::set<std::string, std::less<>> removed_;  ///< with what is below
};

}  // namespace tools
