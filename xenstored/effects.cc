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

void Daemon::carry_out_effects() {
  store::Effects& effects = store_.effects();
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

void Daemon::queue_event(Connection& conn, const store::Watch& watch, std::string_view shown) {
  if (conn.is_closing || (!conn.caller.privileged && over_memory(conn))) return;
  if (!conn.out.add_event(shown, watch.token)) return;
  if (trace_.is_on()) {
    std::string payload(shown);
    payload += '\0';
    payload += watch.token;
    payload += '\0';
    trace_.out(conn.id, static_cast<std::uint32_t>(Op::kWatchEvent), store::kNoTx, payload);
  }
  mark_dirty(conn);
}

/// "@releaseDomain" and "@introduceDomain". Watches with a depth, and those on
/// the domain's own name below it, are told which domain.
void Daemon::fire_special(std::string_view name, store::Domid domid) {
  const std::string own_name = std::string(name) + '/' + std::to_string(raw(domid));
  for (const store::Watch* watch : watches_.matching(name, true)) {
    send_special(*watch, watch->depth >= 1 ? own_name : name);
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
                               .handle = {},
                               .quotas = {}};
  for (const auto& [quota, value] : domain.own_quotas) {
    record.quotas.emplace_back(quota_name(quota), value);
  }
  journal_.put(record);
}

void Daemon::save_connection(const Connection& conn) {
  if (!conn.is_domain) return;
  journal::ConnectionRecord record{.conn = conn.id,
                                   .domid = conn.caller.domid,
                                   .next_tx = conn.last_tx,
                                   .open_tx = {},
                                   .in_off = 0,
                                   .out_off = 0,
                                   .partial = {}};
  for (const auto& [id, transaction] : conn.transactions) record.open_tx.push_back(id);
  journal_.put(record);
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
    if (conn.is_domain) journal_.erase_watch(watch.conn, watch.seq);
  }
  conn.watches = 0;
  conn.watch_bytes = 0;
}

}  // namespace xenstored
