// SPDX-License-Identifier: MIT
/// Domains' rings in the turn: what events bring in, what goes out after the
/// commit, and what the page is told of both. A guest can do no more here than
/// put its own ring into its error state.
#include <algorithm>

#include "xenstored/daemon.h"
#include "xenstored/log.h"

namespace xenstored {

using rings::RingError;

namespace {

constexpr std::uint64_t kUsPerSecond = 1'000'000;
/// How often it is looked whether guests let their messages wait too long.
constexpr std::uint64_t kLateCheckUs = kUsPerSecond;

std::string name_of(const Connection& conn) {
  return "domain " + std::to_string(raw(conn.caller.domid));
}

}  // namespace

/// Events are taken at the beginning of a turn and unmasked at its end: what a
/// guest sends meanwhile is one more event then, not many.
void Daemon::take_events() {
  const auto ports = hypervisor_->take_pending();
  taken_ports_.insert(taken_ports_.end(), ports.begin(), ports.end());
  for (const rings::LocalPort port : ports) {
    if (port == domain_exceptions_) {
      must_check_domains_ = true;
      continue;
    }
    const auto found = by_port_.find(port);
    if (found == by_port_.end()) continue;  // unbound meanwhile
    Connection& conn = *found->second;
    receive_ring(conn);
    // The event may as well say that the guest has taken what it was sent.
    if (!conn.out.empty()) mark_dirty(conn);
  }
}

void Daemon::unmask_events() {
  if (taken_ports_.empty()) return;
  std::erase_if(taken_ports_, [this](rings::LocalPort port) {
    return port != domain_exceptions_ && !by_port_.contains(port);
  });
  hypervisor_->unmask(taken_ports_);
  taken_ports_.clear();
}

/// Copies what the guest has added and executes what is whole. The space in the
/// ring is given back only after the commit.
void Daemon::receive_ring(Connection& conn) {
  if (conn.is_closing || conn.is_resetting || !conn.ring) return;
  if (rings::connection_state(*conn.ring->page) == rings::kReconnect &&
      (find_domain(conn.caller.domid)->features & kFeatureReconnection) != 0) {
    if (reserve_session_end(conn)) restart_stream(conn);
    return;
  }
  if (conn.error != RingError::kNone) return;
  if (!can_read(conn)) {
    conn.is_stalled = true;
    return;
  }
  for (std::size_t fresh = 1; fresh != 0;) {
    const auto fetched = conn.ring->requests.fetch(conn.in);
    if (!fetched.has_value()) {
      fail_ring(conn, RingError::kIndex);
      return;
    }
    fresh = fetched.value();
    if (!conn.in.empty()) serve(conn);
    if (conn.is_closing || conn.is_resetting || conn.error != RingError::kNone) return;
  }
  take_partial(conn);
}

/// Of a request that is not whole yet, what is there is taken, so that the ring is
/// empty: a guest that finds it so tells us of the rest, and it may be longer than
/// the ring.
void Daemon::take_partial(Connection& conn) {
  if (conn.in.size() == conn.partial) return;
  if (begins_with_request(conn.in)) return;  // which may not go on now
  if (!reserve_for_ring(conn)) {
    stall_for_space(conn);
    return;
  }
  conn.in_off += static_cast<std::uint32_t>(conn.in.size() - conn.partial);
  conn.partial = static_cast<std::uint32_t>(conn.in.size());
  mark_changed(conn);
}

/// The request of `size` bytes at the head of the inbox was executed.
void Daemon::account_request(Connection& conn, std::size_t size) {
  if (conn.kept) {
    conn.kept->executed(size);
    mark_changed(conn);
  } else if (!conn.is_domain) {
    note_request(conn);
  }
  if (!conn.is_domain || conn.is_resetting || conn.is_closing) return;
  conn.in_off += static_cast<std::uint32_t>(size - conn.partial);
  conn.partial = 0;
  mark_changed(conn);
}

/// Room in the journal for one more message and the connection's record. Asked for
/// in bulk, once a connection and turn as a rule.
bool Daemon::reserve_for_ring(Connection& conn) {
  if (conn.reserved_in != commits_) {
    conn.reserved_in = commits_;
    conn.reserved = 0;
  }
  const std::uint64_t tail = std::max(conn.stored.tail, conn.out.first_kept());
  const std::size_t needed = conn.out.end() - tail + kFrameMax;
  while (conn.reserved < needed) {
    // The connection's own record first; what does not fit there goes into chunks.
    const std::size_t record =
        journal::kInlineOutMax + journal::kFrameMax + 8 * conn.transactions.size();
    const journal::Space space =
        journal_.space_for_put(conn.reserved == 0 ? record : journal::kOutputMax);
    if (!journal_.reserve(space, journal::Purpose::kReply)) {
      if (!std::exchange(space_is_short_, true)) {
        log::error("no room to store what guests are sent: their requests wait, events are lost");
      }
      return false;
    }
    // Of either at least this much is used: no frame is cut.
    conn.reserved += journal::kInlineOutMax;
  }
  space_is_short_ = false;
  return true;
}

/// Room for ending all that the connection has.
bool Daemon::reserve_session_end(Connection& conn) {
  const std::size_t records = conn.watches + conn.stored.chunks.size();
  if (reserve_for_ring(conn) &&
      journal_.reserve(journal_.space_for_removals(records), journal::Purpose::kRemoval)) {
    return true;
  }
  stall_for_space(conn);
  return false;
}

/// No room even for a reply: the request waits in its ring, for what the turn has so
/// far to be committed, or else for others to make room.
void Daemon::stall_for_space(Connection& conn) {
  constexpr std::uint64_t kRetryUs = 50'000;
  if (journal_.dirty()) {
    mark_runnable(conn);
    return;
  }
  waiting_for_space_.insert(conn.id);
  if (space_again_us_ == 0) space_again_us_ = now_us_ + kRetryUs;
}

/// What guests have taken meanwhile is given back first: an idle ring's record still
/// has it.
void Daemon::retry_for_space() {
  space_again_us_ = 0;
  for (const auto& [id, conn] : conns_) {
    const auto& chunks = conn->stored.chunks;
    if (!chunks.empty() && chunks.front().end <= conn->out.first_kept()) mark_changed(*conn);
  }
  for (const store::ConnId id : std::exchange(waiting_for_space_, {})) {
    if (Connection* conn = find(id)) mark_runnable(*conn);
  }
}

/// The guest broke the rules: nothing of its connection goes on, until it is
/// introduced anew or asks for a reconnection. The domain is still watched over
/// (XSA-325).
void Daemon::fail_ring(Connection& conn, RingError error) {
  if (conn.error != RingError::kNone) return;
  if (!reserve_session_end(conn)) {
    mark_dirty(conn);  // so that what was found in publishing is found again
    return;
  }
  if (!std::exchange(conn.is_failure_told, true)) {
    log::warn(name_of(conn) +
              (error == RingError::kIndex ? ": impossible ring indices" : ": impossible message") +
              "; its ring is not served until it starts anew (told once)");
  }
  drop_session(conn);
  drop_output(conn, conn.out.end());
  conn.error = error;
  mark_changed(conn);
  mark_runnable(conn);  // so that there is a turn that commits it and tells the guest
}

/// What a connection has besides its streams.
void Daemon::drop_session(Connection& conn) {
  end_transactions(conn);
  drop_watches(conn);
  conn.in.clear();
  conn.partial = 0;
  wake_.clear();
  contention_.gone(conn.id, wake_);
  conn.is_held = false;
  wake(wake_);
}

void Daemon::drop_output(Connection& conn, std::uint64_t position) {
  done_.clear();
  conn.out.restart(position, done_);
  settle();
  forget_stored_output(conn);
  conn.stored.tail = position;
}

void Daemon::forget_stored_output(Connection& conn) {
  for (const StoredOutput::Chunk& chunk : conn.stored.chunks) {
    journal_.erase_output(conn.id, chunk.seq);
  }
  conn.stored.chunks.clear();
}

/// Begins the streams again from zero: in the state now, in the page after the
/// commit.
void Daemon::restart_stream(Connection& conn) {
  drop_session(conn);
  drop_output(conn, 0);
  conn.in_off = 0;
  conn.error = RingError::kNone;
  conn.is_resetting = true;
  mark_changed(conn);
  resetting_.push_back(conn.id);
}

/// After the commit that says so, pages' indices become zero; a second commit says
/// that they are; and only then guests are told. So whichever of these a crash cuts
/// off is done again, and never under the hands of a guest that was told. (Telling
/// is done again by continue_ring.)
void Daemon::reset_rings() {
  if (resetting_.empty()) return;
  std::vector<Connection*> reset;
  for (const store::ConnId id : std::exchange(resetting_, {})) {
    Connection* conn = find(id);
    if (conn == nullptr || conn->is_closing || !conn->is_resetting) continue;
    conn->is_resetting = false;
    mark_changed(*conn);
    if (!conn->ring) continue;
    rings::RingPage& page = *conn->ring->page;
    rings::reset_indices(page);
    rings::set_server_features(page, find_domain(conn->caller.domid)->features);
    conn->ring->requests = rings::RequestRing(page, 0);
    conn->ring->replies = rings::ReplyRing(page, 0);
    reset.push_back(conn);
  }
  commit();
  for (Connection* conn : reset) tell_reset(*conn);
}

/// The guest's ring is new and it may use it.
void Daemon::tell_reset(Connection& conn) {
  rings::set_connection_state(*conn.ring->page, rings::kConnected);
  notify(conn);
  mark_runnable(conn);
}

void Daemon::notify(Connection& conn) {
  if (conn.ring && conn.ring->port) hypervisor_->notify(*conn.ring->port);
}

/// Everything here can be done again from what was committed.
void Daemon::publish_ring(Connection& conn) {
  Ring& ring = *conn.ring;
  if (conn.error != RingError::kNone) {
    if ((find_domain(conn.caller.domid)->features & kFeatureError) != 0) {
      rings::set_error(*ring.page, conn.error);
      notify(conn);
    }
    return;
  }
  bool is_news = false;
  while (!conn.out.empty()) {
    const auto published = ring.replies.publish(conn.out.unsent());
    if (!published.has_value()) {
      fail_ring(conn, RingError::kIndex);
      return;
    }
    if (published.value() == 0) break;  // full: there will be an event
    is_news = true;
    done_.clear();
    conn.out.sent(published.value(), done_);
    settle();
  }
  if (ring.requests.release(conn.in_off)) is_news = true;
  if (is_news) notify(conn);
  if (!conn.out.empty()) watch_lateness(conn);
  const bool is_let_go = conn.is_stalled && can_read(conn);
  if (is_let_go) conn.is_stalled = false;
  if (is_let_go || ring.requests.has_more()) mark_runnable(conn);
  if (!conn.out.empty() && ring.replies.has_space()) {
    mark_dirty(conn);
    mark_runnable(conn);
  }
}

/// Messages that have arrived no longer count against those who caused them.
void Daemon::settle() {
  for (const Cause& cause : done_) {
    Connection* conn = find(cause.conn);
    if (conn == nullptr) continue;
    conn->outstanding.release(cause.request);
    if (!std::exchange(conn->is_stalled, false)) continue;
    mark_runnable(*conn);
  }
}

void Daemon::watch_lateness(Connection& conn) {
  if (conn.is_late || conn.caller.privileged || options_.watch_event_timeout_s == 0) return;
  conn.is_late = true;
  late_.push_back(conn.id);
  if (late_check_us_ == 0) late_check_us_ = now_us_ + kLateCheckUs;
}

/// Watch events that a guest has not begun to take in time are dropped, so that
/// those who caused them go on.
void Daemon::drop_late_events() {
  const std::uint64_t timeout_us = options_.watch_event_timeout_s * kUsPerSecond;
  late_check_us_ = 0;
  for (const store::ConnId id : std::exchange(late_, {})) {
    Connection* conn = find(id);
    if (conn == nullptr) continue;
    conn->is_late = false;
    if (conn->is_closing || conn->out.empty()) continue;
    done_.clear();
    const std::size_t dropped =
        now_us_ < timeout_us ? 0 : conn->out.drop_events_before(now_us_ - timeout_us, done_);
    settle();
    if (dropped != 0) {
      forget_stored_output(*conn);
      conn->stored.tail = conn->out.first_kept();
      mark_changed(*conn);
      log::warn(name_of(*conn) + " did not take " + std::to_string(dropped) +
                " watch events in time; they are dropped");
    }
    if (!conn->out.empty()) watch_lateness(*conn);
  }
}

/// The outbox, as it will be found again: chunks of its own for what a guest lets
/// pile up, and the latest in the connection's own record, which is written anyway.
void Daemon::save_output(Connection& conn, journal::ConnectionRecord& record) {
  StoredOutput& stored = conn.stored;
  const std::uint64_t first = conn.out.first_kept();
  while (!stored.chunks.empty() && stored.chunks.front().end <= first) {
    journal_.erase_output(conn.id, stored.chunks.front().seq);
    stored.chunks.pop_front();
  }
  stored.tail = std::max(stored.tail, first);
  if (conn.out.end() - stored.tail > journal::kInlineOutMax) store_chunks(conn);
  record.out = conn.out.from(stored.tail);
  record.out_off =
      static_cast<std::uint32_t>(stored.chunks.empty() ? stored.tail : stored.chunks.front().begin);
}

/// Moves the outbox from the tail on into chunks, each as full as whole frames allow.
void Daemon::store_chunks(Connection& conn) {
  StoredOutput& stored = conn.stored;
  const auto store_until = [&](std::uint64_t end) {
    if (end == stored.tail) return;
    stored.chunks.push_back({++stored.last_seq, stored.tail, end});
    journal_.put(journal::OutputRecord{
        conn.id, stored.last_seq,
        std::string(conn.out.from(stored.tail).substr(0, end - stored.tail))});
    stored.tail = end;
  };
  std::uint64_t end = stored.tail;
  for (const std::uint64_t frame_end : conn.out.frame_ends(stored.tail)) {
    if (frame_end - stored.tail > journal::kOutputMax) store_until(end);
    end = frame_end;
  }
  store_until(end);
}

}  // namespace xenstored
