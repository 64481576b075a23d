// SPDX-License-Identifier: MIT
/// What an executed request did, carried to the journal and to the watchers.
#include "store/path.h"
#include "xenstored/daemon.h"

namespace xenstored {
namespace {

/// What changing a node copies besides it while a snapshot has it: its ancestors,
/// and a run of children in each.
constexpr std::uint64_t kCopiedWithANode = 1024;

}  // namespace

/// History has it as done by `author`.
void Daemon::carry_out_effects(const journal::HistoryAuthor& author, std::string_view what) {
  store::Effects& effects = store_.effects();
  history_.note(author, what, effects.changes);
  for (const store::Change& change : effects.changes) {
    if (!change.node) {
      journal_.erase_node(change.id);
      continue;
    }
    const store::Node& node = *change.node;
    written_bytes_ += static_cast<std::uint64_t>(node_bytes(node)) + kCopiedWithANode;
    journal_.put(journal::NodeRecord{node.id(), change.parent, node.generation(),
                                     node.perms()->view(), node.name(), node.value()});
  }
  if (!watches_.empty()) {
    for (const store::Fired& fired : effects.fired) fire(fired);
  }
  effects.clear();
}

void Daemon::fire(const store::Fired& fired) {
  const auto readable = [](const Connection& conn, const store::PermsRef& perms) {
    return perms && allows(access_of(conn.caller, perms->view()), store::Access::kRead);
  };
  for (const store::Watch* watch : watches_.matching(fired.path, fired.exact)) {
    Connection* conn = find(watch->conn);
    if (conn == nullptr) continue;
    // Names of nodes that a domain may not read do not leak (XSA-115).
    if (!readable(*conn, fired.perms) && !readable(*conn, fired.parent_perms) &&
        !readable(*conn, fired.old_perms)) {
      continue;
    }
    queue_event(*conn, *watch, shown_path(*watch, conn->caller.domid, fired.path));
  }
}

void Daemon::trace_event(store::ConnId conn, const store::Watch& watch, std::string_view shown,
                         bool is_new) {
  std::string payload(shown);
  payload += '\0';
  payload += watch.token;
  payload += '\0';
  const auto type = static_cast<std::uint32_t>(Op::kWatchEvent);
  if (is_new) {
    trace_.out(conn, type, store::kNoTx, payload);
  } else {
    trace_.merged(conn, type, payload);
  }
}

void Daemon::queue_event(Connection& conn, const store::Watch& watch, std::string_view shown) {
  if (conn.is_closing || (!conn.caller.privileged && over_memory(conn))) return;
  if (conn.is_domain && ((!conn.ring && !conn.awaits_ring) ||
                         conn.error != rings::RingError::kNone || !reserve_for_ring(conn))) {
    return;
  }
  // Those who make a guest's events pile up are held up by it; a stuck client of
  // domain 0 holds nobody up.
  const bool counts = cause_.conn != store::ConnId{} && !conn.caller.privileged;
  const bool is_new = conn.out.add_event(shown, watch.token, counts ? cause_ : Cause{}, now_us_);
  if (trace_.is_on()) trace_event(conn.id, watch, shown, is_new);
  if (!is_new) return;
  if (counts) find(cause_.conn)->outstanding.hold(cause_.request);
  mark_dirty(conn);
  mark_changed(conn);
}

/// "@releaseDomain" and "@introduceDomain". Watches with a depth, and those on
/// the domain's own name below it, are told which domain; `tells_all`: the others
/// are told that there is one.
void Daemon::fire_special(std::string_view name, store::Domid domid, bool tells_all) {
  const std::string own_name = std::string(name) + '/' + std::to_string(raw(domid));
  for (const store::Watch* watch : watches_.matching(name, true)) {
    if (watch->depth >= 1) {
      send_special(*watch, own_name);
    } else if (tells_all) {
      send_special(*watch, name);
    }
  }
  for (const store::Watch* watch : watches_.matching(own_name, true)) {
    send_special(*watch, own_name);
  }
}

void Daemon::send_special(const store::Watch& watch, std::string_view shown) {
  Connection* conn = find(watch.conn);
  if (conn == nullptr) return;
  const auto perms = specials_.find(shown.substr(0, shown.find('/')));
  if (perms == specials_.end() ||
      !allows(access_of(conn->caller, perms->second), store::Access::kRead)) {
    return;
  }
  queue_event(*conn, watch, shown);
}

void Daemon::save_domain(const Domain& domain) {
  journal::DomainRecord record{.domid = domain.domid,
                               .conn = domain.conn.value_or(store::ConnId{0}),
                               .gfn = domain.gfn,
                               .remote_port = domain.remote_port,
                               .target = domain.target,
                               .features = domain.features,
                               .shutdown = domain.shutdown,
                               .handle = domain.handle,
                               .quotas = {}};
  for (const auto& [quota, value] : domain.own_quotas) {
    record.quotas.emplace_back(quota_name(quota), value);
  }
  journal_.put(record);
}

void Daemon::save_connection(Connection& conn) {
  journal::ConnectionRecord record{.conn = conn.id,
                                   .domid = conn.caller.domid,
                                   .next_tx = conn.last_tx,
                                   .open_tx = {},
                                   .in_off = conn.in_off,
                                   .partial = conn.in.substr(0, conn.partial),
                                   .out_off = 0,
                                   .out = {},
                                   .is_resetting = conn.is_resetting,
                                   .error = static_cast<std::uint8_t>(conn.error)};
  for (const auto& [id, transaction] : conn.transactions) record.open_tx.push_back(id);
  save_output(conn, record);
  journal_.put(record);
}

void Daemon::save_watch(const store::Watch& watch) {
  journal_.put(journal::WatchRecord{.conn = watch.conn,
                                    .seq = watch.seq,
                                    .path = watch.path,
                                    .token = watch.token,
                                    .relative = watch.relative,
                                    .depth = watch.depth});
}

void Daemon::save_special(std::string_view name) {
  journal_.put(journal::SpecialRecord{std::string(name), specials_.find(name)->second});
}

void Daemon::end_transactions(Connection& conn) {
  for (const auto& [id, transaction] : conn.transactions) trace_.destroy("transaction", raw(id));
  conn.transactions.clear();
}

void Daemon::drop_watches(Connection& conn) {
  for (const store::Watch& watch : watches_.remove_all(conn.id)) {
    trace_.destroy("watch", watch.seq);
    if (conn.is_stored()) journal_.erase_watch(watch.conn, watch.seq);
  }
  conn.watches = 0;
  conn.watch_bytes = 0;
}

}  // namespace xenstored
