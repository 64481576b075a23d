// SPDX-License-Identifier: MIT
#include "store/transaction.h"

#include <algorithm>

#include "store/path.h"

namespace store {
namespace {

/// Requests that an unprivileged domain may make in one transaction, for each
/// node that it may touch. No known guest comes near; without it a guest could
/// make one transaction's record grow for ever.
constexpr std::size_t kRequestsPerNode = 8;

std::uint64_t read_digest(const TreeOp& op) {
  const std::uint64_t kind_and_offset = static_cast<std::uint64_t>(op.kind) << 32 | op.offset;
  return std::hash<std::string_view>{}(op.path) ^ (kind_and_offset * 0x9E3779B97F4A7C15);
}

}  // namespace

bool Transaction::may_ask(const TreeOp& op, const Limits* limits) const {
  if (limits == nullptr) return true;
  const std::uint32_t nodes = (*limits)[Quota::kTransactionNodes];
  if (asked_.size() >= kRequestsPerNode * nodes) return false;
  return touched_.size() < nodes || has_touched(op.path);
}

bool Transaction::concerned_by(std::string_view path, bool is_removal) const {
  if (has_touched(path) || has_touched(parent_path(path))) return true;
  return is_removal && std::any_of(touched_.begin(), touched_.end(), [path](const auto& entry) {
           return entry.first.size() > path.size() && entry.first.starts_with(path) &&
                  entry.first[path.size()] == '/';
         });
}

void Transaction::asked(const TreeOp& op, std::uint64_t answer) {
  touched_.try_emplace(std::string(op.path), touched_.size());
  if (is_mutation(op.kind)) {
    reads_.clear();
    // Rewriting a node again and again is one change.
    if (op.kind == TreeOp::Kind::kWrite && !asked_.empty()) {
      Asked& last = asked_.back();
      if (last.kind == op.kind && last.path == op.path && last.answer == answer) {
        bytes_ += op.value.size() - last.value.size();
        last.value = op.value;
        return;
      }
    }
  } else if (!reads_.insert(read_digest(op)).second) {
    return;
  }
  asked_.push_back({op.kind, op.offset, std::string(op.path), std::string(op.value),
                    Perms(op.perms.begin(), op.perms.end()), answer});
  bytes_ += sizeof(Asked) + op.path.size() + op.value.size();
}

}  // namespace store
