// SPDX-License-Identifier: MIT
/// Requests about a connection's own watches and transactions.
#include <algorithm>

#include "store/path.h"
#include "xenstored/daemon.h"

namespace xenstored {

using store::Answer;
using store::Quota;
using store::WireError;
using namespace std::string_view_literals;
namespace {

/// How many names two paths begin with in common; 0 if either is empty.
std::ptrdiff_t shared_levels(std::string_view a, std::string_view b) {
  if (a.empty() || b.empty()) return 0;
  std::ptrdiff_t shared = 0;
  store::PathNames in_a(a);
  store::PathNames in_b(b);
  while (!in_a.done() && !in_b.done() && in_a.next() == in_b.next()) ++shared;
  return shared;
}

}  // namespace

/// Path NUL token NUL [depth NUL]; bytes behind the last NUL do not count.
Answer<void> Daemon::do_watch(Session& session) {
  Connection& conn = session.conn;
  const auto args = split_strings(session.payload);
  if (args.size() != 2 && args.size() != 3) return tl::unexpected(WireError::kInval);
  store::Watch watch{.conn = conn.id,
                     .seq = 0,
                     .path = {},
                     .token = std::string(args[1]),
                     .relative = !args[0].starts_with('/') && !args[0].starts_with('@'),
                     .depth = store::kAnyDepth};
  if (args.size() == 3) {
    const Domain* domain = find_domain(conn.caller.domid);
    const bool offered = domain == nullptr || (domain->features & kFeatureWatchDepth) != 0;
    const long depth = leading_number(args[2]);
    if (!offered || depth < 0 || depth > 0x7FFFFFFF) return tl::unexpected(WireError::kInval);
    watch.depth = static_cast<std::int32_t>(depth);
  }
  if (args[0].starts_with('@')) {
    if (args[0].size() > store::kPathBytesMax) return tl::unexpected(WireError::kInval);
    watch.path = args[0];
  } else {
    const auto path = path_arg(session, args[0]);
    if (!path.has_value()) return tl::unexpected(path.error());
    watch.path = path.value();
  }
  if (const store::Limits* limits = limits_of(conn)) {
    // A duplicate is told as one, also by who has no watch left.
    const bool is_full = conn.watches > (*limits)[Quota::kWatches];
    if (is_full && !watches_.has(conn.id, watch.path, watch.token)) {
      note_refusal(conn, Quota::kWatches);
      return tl::unexpected(WireError::kTooBig);
    }
    if (over_memory(conn)) return tl::unexpected(WireError::kNospc);
  }
  if (conn.is_stored() &&
      !journal_.reserve(journal_.space_for_put(watch.path.size() + watch.token.size()))) {
    return tl::unexpected(WireError::kNospc);
  }
  watch.seq = last_watch_ + 1;
  const auto added = watches_.add(std::move(watch));
  if (!added.has_value()) return tl::unexpected(added.error());
  const store::Watch& kept = *added.value();
  ++last_watch_;
  ++conn.watches;
  conn.watch_bytes += sizeof kept + kept.path.size() + kept.token.size();
  if (conn.is_stored()) save_watch(kept);
  note_worth_keeping(conn);
  trace_.create("watch", kept.seq);
  session.initial_event = &kept;
  reply_.assign("OK", 3);
  return {};
}

/// The path is not judged, only looked for: a bad one is not there either.
Answer<void> Daemon::do_unwatch(Session& session) {
  Connection& conn = session.conn;
  const auto args = split_strings(session.payload);
  if (args.size() != 2) return tl::unexpected(WireError::kInval);
  const auto removed =
      watches_.remove(conn.id, store::absolute_path(args[0], conn.caller.domid, scratch_), args[1]);
  if (!removed.has_value()) return tl::unexpected(removed.error());
  const store::Watch& watch = removed.value();
  --conn.watches;
  conn.watch_bytes -= sizeof watch + watch.path.size() + watch.token.size();
  if (conn.is_stored()) journal_.erase_watch(conn.id, watch.seq);
  trace_.destroy("watch", watch.seq);
  reply_.assign("OK", 3);
  return {};
}

/// All watches and all transactions of the connection, also the one that the
/// request runs in (XSA-484).
Answer<void> Daemon::do_reset_watches(Session& session) {
  if (!journal_.reserve(journal_.space_for_removals(session.conn.watches),
                        journal::Purpose::kRemoval)) {
    return tl::unexpected(WireError::kNospc);
  }
  session.transaction = nullptr;
  drop_watches(session.conn);
  end_transactions(session.conn);
  wake_.clear();
  contention_.finished(session.conn.id, wake_);
  wake(wake_);
  mark_changed(session.conn);
  reply_.assign("OK", 3);
  return {};
}

Answer<void> Daemon::do_transaction_start(Session& session) {
  Connection& conn = session.conn;
  if (session.transaction != nullptr) return tl::unexpected(WireError::kBusy);
  if (const store::Limits* limits = limits_of(conn)) {
    if (conn.transactions.size() > (*limits)[Quota::kTransactions]) {
      note_refusal(conn, Quota::kTransactions);
      return tl::unexpected(WireError::kNospc);
    }
  }
  // More than its record in the journal can name: dom0's own ring has no quota, and a guest's
  // may be set as high.
  if (conn.is_domain && conn.transactions.size() >= journal::kOpenTxMax) {
    return tl::unexpected(WireError::kNospc);
  }
  if (conn.is_domain && !journal_.reserve(journal_.space_for_put(kPayloadMax))) {
    return tl::unexpected(WireError::kNospc);
  }
  do {
    ++conn.last_tx;
  } while (conn.last_tx == 0 || conn.transactions.contains(store::TxId{conn.last_tx}));
  auto& transaction =
      conn.transactions.emplace(store::TxId{conn.last_tx}, store_.begin()).first->second;
  transaction.written_before = written_bytes_;
  note_worth_keeping(conn);
  mark_changed(conn);
  trace_.create("transaction", conn.last_tx);
  reply_ = std::to_string(conn.last_tx);
  reply_ += '\0';
  return {};
}

/// Without a transaction the argument is still judged first.
Answer<void> Daemon::do_transaction_end(Session& session) {
  Connection& conn = session.conn;
  const bool commits = session.payload == "T\0"sv;
  if (!commits && session.payload != "F\0"sv) {
    return tl::unexpected(WireError::kInval);
  }
  if (session.transaction == nullptr) return tl::unexpected(WireError::kNoent);

  Answer<void> answer;
  if (commits) {
    std::string conflict;
    answer = reserve(*session.transaction)
                 ? store_.commit(*session.transaction, conn.caller, limits_of(conn), conflict)
                 : tl::unexpected(WireError::kNospc);
    conn.lost.reset();
    if (!conflict.empty()) {
      contention_.lost(conn.id, conflict, now_us_);
      conn.lost = std::move(*session.transaction);
    }
  }
  conn.transactions.erase(store::TxId{session.header.tx_id});
  session.transaction = nullptr;
  mark_changed(conn);
  trace_.destroy("transaction", session.header.tx_id);
  wake_.clear();
  contention_.finished(conn.id, wake_);
  wake(wake_);
  reply_.assign("OK", 3);
  return answer;
}

/// Upper bound for all that the transaction's commit would write.
bool Daemon::reserve(const store::Transaction& transaction) {
  journal::Space space;
  std::string counted;  // a new node whose missing parents are counted
  transaction.each_change([&](const store::TreeOp& op) {
    if (op.kind == store::TreeOp::Kind::kRm) {
      space += journal_.space_for_put(kPayloadMax);
      space += journal_.space_for_removals(store_.subtree_nodes(op.path));
      counted.clear();
      return;
    }
    const store::Node* node = store_.find(op.path);
    space += journal_.space_for_put(op.path.size() + op.value.size() + 3 * op.perms.size() +
                                    (node == nullptr ? 64 : node->value().size()));
    if (node != nullptr) {
      counted.clear();
      return;
    }
    const auto levels = std::count(op.path.begin(), op.path.end(), '/');
    for (auto level = shared_levels(counted, op.path) + 1; level < levels; ++level) {
      space += journal_.space_for_put(64);
    }
    counted = op.path;
  });
  return journal_.reserve(space);
}

}  // namespace xenstored
