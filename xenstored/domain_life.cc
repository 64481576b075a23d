// SPDX-License-Identifier: MIT
/// How domains come and go: introduced, found dead, and found again after a restart.
#include <algorithm>
#include <cstdlib>

#include "xenstored/daemon.h"
#include "xenstored/log.h"

namespace xenstored {

using rings::DomainInfo;
using rings::RingError;
using store::Answer;
using store::Domid;
using store::WireError;

namespace {

/// So many nodes of dead domains are removed in one turn; the rest in the next
/// ones, so that the living are served in between.
constexpr std::size_t kNodesReleasedInATurn = 20'000;

/// When there was no room to note a domain's end: until it is tried again.
constexpr std::uint64_t kAgainUs = 1'000'000;
/// As which request the recovery of a domain's ring is noted (poison.h): one that
/// twice kills the server is left alone from then on.
constexpr std::uint32_t kRecoveryOp = 0xFFFF0000;
constexpr std::string_view kRecovery = "recovery of its ring";

std::string name_of(Domid domid) { return "domain " + std::to_string(raw(domid)); }

const DomainInfo* find_info(const std::vector<DomainInfo>& domains, Domid domid) {
  const auto found =
      std::lower_bound(domains.begin(), domains.end(), domid,
                       [](const DomainInfo& info, Domid wanted) { return info.domid < wanted; });
  return found == domains.end() || found->domid != domid ? nullptr : &*found;
}

/// What no server can do without. The state is not to blame, so it is left as it
/// is, and another start tries again.
template <class T>
T must_have(rings::Hypervisor::Result<T> result) {
  if (result.has_value()) return std::move(result.value());
  log::error(result.error().message);
  std::_Exit(kExitFailed);
}

}  // namespace

/// Binds a mapped page's guest. Without a port the guest cannot be reached, which
/// for a known domain is no error: it may be introduced again with another.
Answer<Ring> Daemon::bind_ring(Domid domid, std::uint32_t port, rings::Hypervisor::MappedRing page,
                               bool is_known) {
  rings::RingPage& ring_page = *page;
  Ring ring{std::move(page), std::nullopt, rings::RequestRing(ring_page, 0),
            rings::ReplyRing(ring_page, 0)};
  const auto bound = hypervisor_->bind(domid, rings::RemotePort{port});
  if (bound.has_value()) {
    ring.port = bound.value();
    return ring;
  }
  log::warn(name_of(domid) + ": " + bound.error().message);
  if (!is_known) return tl::unexpected(WireError::kInval);
  return ring;
}

void Daemon::give_ring(Connection& conn, Ring ring) {
  conn.ring = std::move(ring);
  conn.awaits_ring = false;
  if (conn.ring->port) by_port_[*conn.ring->port] = &conn;
}

/// The guest's end becomes unbound; the page stays the guest's.
void Daemon::drop_ring(Connection& conn) {
  if (!conn.ring) return;
  if (conn.ring->port) {
    by_port_.erase(*conn.ring->port);
    hypervisor_->unbind(*conn.ring->port);
  }
  conn.ring.reset();
}

/// A new connection, or a known domain's from the beginning.
Answer<void> Daemon::introduce(Domid domid, std::uint64_t gfn, std::uint32_t port) {
  Domain* known = find_domain(domid);
  bool is_known = known != nullptr && known->is_introduced();
  if (hypervisor_ == nullptr) return enter_domain(domid, gfn, port, std::nullopt);

  const auto info = hypervisor_->domain(domid);
  if (!info) return tl::unexpected(WireError::kInval);
  if (is_known && known->handle != info->handle) {
    release(*known);  // another domain under this id, and nobody had told us yet
    is_known = false;
  }
  Connection* conn = is_known ? find(*known->conn) : nullptr;
  auto page = hypervisor_->map_ring(domid);
  if (!page.has_value()) {
    log::warn(name_of(domid) + ": " + page.error().message);
    if (conn == nullptr || !conn->ring) return tl::unexpected(WireError::kInval);
    page = std::move(conn->ring->page);
  }
  if (conn != nullptr) drop_ring(*conn);
  auto ring = bind_ring(domid, port, std::move(page.value()), is_known);
  if (!ring.has_value()) return tl::unexpected(ring.error());
  domain(domid).handle = info->handle;
  return enter_domain(domid, gfn, port, std::move(ring.value()));
}

Answer<void> Daemon::enter_domain(Domid domid, std::uint64_t gfn, std::uint32_t port,
                                  std::optional<Ring> ring) {
  Domain& introduced = domain(domid);
  const bool is_new = !introduced.is_introduced();
  introduced.gfn = gfn;
  introduced.remote_port = port;
  if (is_new) {
    introduced.conn = store::ConnId{++last_conn_};
    new_connection(*introduced.conn, domain_caller(domid), true);
  }
  Connection& conn = *find(*introduced.conn);
  if (ring) give_ring(conn, std::move(*ring));
  restart_stream(conn);
  if (is_new) fire_special(store::kIntroduceDomain, domid);
  save_domain(introduced);
  return {};
}

/// The domain is gone: its connection, its nodes, every mention of it.
void Daemon::release(Domain& gone) {
  const Domid domid = gone.domid;
  Connection& conn = *find(*gone.conn);
  close(conn);
  drop_ring(conn);  // not later: the id may be introduced anew in this very turn
  journal_.erase_connection(conn.id);
  store_.domain_died(domid, options_.keep_orphans);
  carry_out_effects({}, name_of(domid) + " is gone");
  for (auto& [name, perms] : specials_) {
    const store::Perms before = perms;
    for (store::PermEntry& entry : perms) entry.stale = entry.stale || entry.domid == domid;
    if (perms != before) save_special(name);
  }
  const bool was_target = gone.is_target;
  domains_.erase(domid);
  journal_.erase_domain(domid);
  if (was_target) forget_target(domid);
  fire_special(store::kReleaseDomain, domid);
}

void Daemon::forget_target(Domid gone) {
  for (auto& [domid, known] : domains_) {
    if (known.target != gone) continue;
    known.target.reset();
    save_domain(known);
    if (known.is_introduced()) find(*known.conn)->caller = domain_caller(domid);
  }
}

bool Daemon::reserve_release(Domid domid) {
  const std::size_t nodes = store_.nodes_concerned_by(domid);
  return journal_.reserve(journal_.space_for_removals(nodes + 2048) + journal_.space_for_put(256) +
                              journal_.space_for_put(nodes * 64),
                          journal::Purpose::kRemoval);
}

/// Some domain shut down or died, and Xen does not say which: all are asked for at
/// once. Those that stopped are told of once, until they are resumed.
void Daemon::check_domains() {
  must_check_domains_ = false;
  const auto listed = hypervisor_->domains();
  if (!listed.has_value()) {
    log::error(listed.error().message);
    domains_again_us_ = now_us_ + kAgainUs;
    return;
  }
  std::vector<Domid> gone;
  bool is_first_stopped = true;
  for (auto& [domid, known] : domains_) {
    if (!known.is_introduced() || domid == store::kDom0) continue;
    const DomainInfo* info = find_info(listed.value(), domid);
    if (info == nullptr || info->is_dying || info->handle != known.handle) {
      gone.push_back(domid);
    } else if (info->is_shut_down && !known.shutdown) {
      if (!journal_.reserve(journal_.space_for_put(256), journal::Purpose::kRemoval)) {
        domains_again_us_ = now_us_ + kAgainUs;
        continue;
      }
      known.shutdown = true;
      save_domain(known);
      fire_special(store::kReleaseDomain, domid, std::exchange(is_first_stopped, false));
    }
  }
  std::size_t nodes = 0;
  for (const Domid domid : gone) {
    nodes += store_.nodes_concerned_by(domid);
    if (!reserve_release(domid)) {
      log::error("no room to remove what " + name_of(domid) + " left; tried again later");
      domains_again_us_ = now_us_ + kAgainUs;
      continue;  // what another leaves may make the room
    }
    release(*find_domain(domid));
    if (nodes < kNodesReleasedInATurn) continue;
    must_check_domains_ = true;
    return;
  }
}

/// After everything else was recovered: each ring goes on where the last commit
/// left it. Whoever is gone is released in the first turn, as if Xen had just told.
void Daemon::recover_rings() {
  if (hypervisor_ == nullptr) return;
  add_source(hypervisor_->event_fd(), [this] { take_events(); });
  domain_exceptions_ = must_have(hypervisor_->bind_domain_exceptions());
  must_check_domains_ = true;
  recover_own_ring();
  const auto listed = must_have(hypervisor_->domains());
  for (auto& [domid, known] : domains_) {
    if (!known.is_introduced() || domid == store::kDom0) continue;
    const DomainInfo* info = find_info(listed, domid);
    if (info == nullptr || info->is_dying || info->handle != known.handle) continue;
    if (poison_.is_poisoned(domid, kRecoveryOp, kRecovery)) continue;
    poison_.note(domid, kRecoveryOp, kRecovery);
    recover_ring(known);
    poison_.done();
  }
}

/// A ring that cannot be had is that domain's misfortune alone; the log says why. It
/// is tried again, and what it is to be told meanwhile is kept.
void Daemon::recover_ring(const Domain& known) {
  Connection& conn = *find(*known.conn);
  auto page = hypervisor_->map_ring(known.domid);
  if (!page.has_value()) {
    if (!std::exchange(conn.awaits_ring, true)) {
      log::error(name_of(known.domid) + ": " + page.error().message + "; tried again");
    }
    rings_again_us_ = now_us_ + kAgainUs;
    return;
  }
  if (conn.awaits_ring) log::info(name_of(known.domid) + ": its ring is there now");
  auto ring = bind_ring(known.domid, known.remote_port, std::move(page.value()), true);
  continue_ring(conn, std::move(ring.value()));
}

void Daemon::retry_rings() {
  rings_again_us_ = 0;
  for (auto& [domid, known] : domains_) {
    if (known.is_introduced() && find(*known.conn)->awaits_ring) recover_ring(known);
  }
}

/// Rolls forward what the last server may not have got done after its commit. The
/// same functions do it as in every turn.
void Daemon::continue_ring(Connection& conn, Ring ring) {
  const rings::RingIndices page = rings::read_indices(*ring.page);
  ring.requests = rings::RequestRing(*ring.page, conn.in_off);
  give_ring(conn, std::move(ring));
  if (conn.is_resetting) {
    resetting_.push_back(conn.id);
    return;
  }
  if (conn.error != RingError::kNone) {
    mark_dirty(conn);  // perhaps the guest was not told yet
    return;
  }
  const std::uint64_t stored = conn.out.end() - conn.out.first_kept();
  const std::uint32_t sent = page.rsp_prod - static_cast<std::uint32_t>(conn.out.first_kept());
  if (sent > stored) {
    fail_ring(conn, RingError::kIndex);
    return;
  }
  done_.clear();
  conn.out.sent(sent, done_);
  conn.ring->replies = rings::ReplyRing(*conn.ring->page, page.rsp_prod);
  conn.ring->requests.release(conn.in_off);
  mark_dirty(conn);
  // A guest that has done nothing since its ring was reset was perhaps not told.
  if (conn.in_off == 0 && page.req_prod == 0 && page.rsp_cons == 0) tell_reset(conn);
  mark_runnable(conn);
  notify(conn);
}

/// Domain 0's kernel. It is there before us; a first start takes its ring as it is.
void Daemon::recover_own_ring() {
  auto own = hypervisor_->map_own_ring();
  if (!own.has_value()) {
    log::error("domain 0's own ring: " + own.error().message);
    return;
  }
  rings::RingPage& page = *own.value().page;
  const auto port = static_cast<std::uint32_t>(own.value().port);
  auto ring = bind_ring(store::kDom0, port, std::move(own.value().page), true);
  Domain& dom0 = domain(store::kDom0);
  if (!dom0.is_introduced()) {
    dom0.conn = store::ConnId{++last_conn_};
    dom0.remote_port = port;
    Connection& conn = new_connection(*dom0.conn, domain_caller(store::kDom0), true);
    const rings::RingIndices indices = rings::read_indices(page);
    conn.in_off = indices.req_cons;
    conn.stored.tail = indices.rsp_prod;
    done_.clear();
    conn.out.restart(indices.rsp_prod, done_);
    rings::set_server_features(page, dom0.features);
    save_domain(dom0);
    mark_changed(conn);
  }
  continue_ring(*find(*dom0.conn), std::move(ring.value()));
}

}  // namespace xenstored
