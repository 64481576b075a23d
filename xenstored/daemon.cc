// SPDX-License-Identifier: MIT
#include "xenstored/daemon.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <limits>

#include "xenstored/log.h"

namespace xenstored {
namespace {

/// Bytes taken from one connection in a turn: enough to batch what a client
/// pipelines, and nobody waits long for another's flood.
constexpr std::size_t kReceiveBytes = 16384;
static_assert(kReceiveBytes >= KeptClient::kInboxBytes);
/// A client that does not read its replies is not read from beyond this.
constexpr std::size_t kUnsentBeforeStall = std::size_t{256} * 1024;
/// A socket that lets this much memory pile up (watch events) is closed.
constexpr std::size_t kOutboxMax = std::size_t{8} * 1024 * 1024;
/// While history has something to wait for: how often it is looked after.
constexpr std::uint64_t kTendHistoryUs = 50'000;
/// When descriptors are short: how long until accepting is tried again.
constexpr std::uint64_t kAcceptPauseMs = 100;
/// An open transaction keeps what was replaced since its START. A domain's is
/// doomed when this much has been written since, so that nobody's open
/// transactions make the store keep more than this.
constexpr std::uint64_t kWrittenUnderTransactionMax = std::uint64_t{64} * 1024 * 1024;

std::uint64_t steady_us() {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(
                                        std::chrono::steady_clock::now().time_since_epoch())
                                        .count());
}

}  // namespace

Daemon::Daemon(const Options& options, journal::Journal& journal, History& history,
               PoisonGuard& poison, Trace& trace, rings::Hypervisor* hypervisor,
               HeldClients* clients)
    : options_(options),
      journal_(journal),
      history_(history),
      poison_(poison),
      trace_(trace),
      hypervisor_(hypervisor),
      clients_(clients) {
  using store::Quota;
  const Quotas& given = options.quotas;
  limits_[Quota::kNodes] = given.nodes;
  limits_[Quota::kWatches] = given.watches;
  limits_[Quota::kTransactions] = given.transactions;
  limits_[Quota::kOutstanding] = given.outstanding;
  limits_[Quota::kTransactionNodes] = given.transaction_nodes;
  limits_[Quota::kMemory] = given.memory_hard;
  limits_[Quota::kSoftMemory] = given.memory_soft;
  limits_[Quota::kNodeSize] = given.node_size;
  limits_[Quota::kNodePermissions] = given.node_permissions;
  limits_[Quota::kPathMax] = given.path_max;
  recv_buffer_.resize(kReceiveBytes);
  now_us_ = steady_us();
}

Daemon::~Daemon() = default;

void Daemon::add_source(int fd, std::function<void()> on_ready) {
  sources_.push_back(std::make_unique<Source>(fd, std::move(on_ready)));
  if (poller_.add(fd, EPOLLIN, sources_.back().get())) return;
  log::error(std::string("epoll_ctl: ") + std::strerror(errno));
  std::_Exit(kExitFailed);
}

void Daemon::listen(int fd) {
  listen_fd_ = fd;
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  add_source(fd, [this, fd] { accept_some(fd); });
}

/// A few at a time: who connects without end does not stop the others. epoll tells of
/// the rest again.
void Daemon::accept_some(int fd) {
  constexpr int kAcceptedATurn = 64;
  for (int count = 0; count < kAcceptedATurn; ++count) {
    UniqueFd client(accept4(fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (client.valid()) {
      accept_is_failing_ = false;
      accept_client(std::move(client));
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno != EAGAIN) pause_accepting(errno);
    return;
  }
}

/// No descriptor to be had: those who connect wait in the backlog until one of
/// ours was freed, or some time has passed.
void Daemon::pause_accepting(int error) {
  if (!accept_is_failing_) {
    log::warn("cannot accept clients for now: " + std::string(std::strerror(error)));
  }
  accept_is_failing_ = true;
  accept_again_us_ = now_us_ + kAcceptPauseMs * 1000;
  poll_listener(0);
}

void Daemon::resume_accepting() {
  accept_again_us_ = 0;
  poll_listener(EPOLLIN);
}

Connection& Daemon::new_connection(store::ConnId id, store::Caller caller, bool is_domain) {
  auto conn = std::make_unique<Connection>();
  conn->id = id;
  conn->caller = caller;
  conn->is_domain = is_domain;
  trace_.create("connection", raw(id));
  return *(conns_[id] = std::move(conn));
}

void Daemon::accept_client(UniqueFd fd) {
  Connection& conn = new_connection(store::ConnId{++last_conn_}, {}, false);
  conn.fd = std::move(fd);
  conn.interest = EPOLLIN;
  if (!poller_.add(conn.fd.get(), conn.interest, &conn)) {
    log::warn(std::string("cannot serve a client: ") + std::strerror(errno));
    close(conn);
    return;
  }
  note_young(conn);
}

Connection* Daemon::find(store::ConnId id) {
  const auto found = conns_.find(id);
  return found == conns_.end() ? nullptr : found->second.get();
}

void Daemon::turn(bool may_wait) {
  const auto ready = poller_.wait(may_wait ? timeout_ms() : 0);
  now_us_ = steady_us();
  choose_calls();
  for (const epoll_event& event : ready) {
    auto* target = static_cast<PollTarget*>(event.data.ptr);
    if (target->kind == PollTarget::Kind::kSource) {
      static_cast<Source*>(target)->on_ready();
      continue;
    }
    Connection& conn = *static_cast<Connection*>(target);
    if ((event.events & EPOLLHUP) != 0 && !can_receive(conn)) {
      park(conn);
      continue;
    }
    if ((event.events & EPOLLOUT) != 0) mark_dirty(conn);
    if ((event.events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0) receive(conn);
  }
  if (accept_again_us_ != 0 && accept_again_us_ <= now_us_) resume_accepting();
  if (next_expiry_us_ != 0) {
    wake_.clear();
    next_expiry_us_ = contention_.expire(now_us_, wake_);
    wake(wake_);
  }
  if (space_again_us_ != 0 && space_again_us_ <= now_us_) retry_for_space();
  if (late_check_us_ != 0 && late_check_us_ <= now_us_) drop_late_events();
  if (domains_again_us_ != 0 && domains_again_us_ <= now_us_) {
    domains_again_us_ = 0;
    must_check_domains_ = true;
  }
  if (must_check_domains_) check_domains();
  if (rings_again_us_ != 0 && rings_again_us_ <= now_us_) retry_rings();
  serve_left_over();
  if (written_bytes_ >= next_doom_at_) doom_old_transactions();
  if (clients_ != nullptr) keep_clients();
  commit();
  reset_rings();
  publish();
  unmask_events();
  reap();
  trace_.flush();
  history_.tend(store_);
  history_again_us_ = history_.is_waiting() ? now_us_ + kTendHistoryUs : 0;
}

/// Until the next thing that happens by time alone.
int Daemon::timeout_ms() const {
  // Somebody has output before the first turn only: who was kept, of a server that died.
  if (!runnable_.empty() || !dirty_.empty() || must_check_domains_) return 0;
  std::uint64_t next = std::numeric_limits<std::uint64_t>::max();
  for (const std::uint64_t at :
       {next_expiry_us_, accept_again_us_, space_again_us_, late_check_us_, domains_again_us_,
        rings_again_us_, keep_check_us_, tell_keeper_us_, history_again_us_}) {
    if (at != 0) next = std::min(next, at);
  }
  if (next == std::numeric_limits<std::uint64_t>::max()) return -1;
  const std::uint64_t now = steady_us();
  return next <= now ? 0 : static_cast<int>((next - now + 999) / 1000);
}

bool Daemon::can_read(const Connection& conn) const {
  return !conn.is_closing && conn.out.unsent().size() < kUnsentBeforeStall &&
         conn.in.size() < kReceiveBytes;
}

/// Of a socket. While a request waits nothing is: it might be the end, and what was asked
/// before that is still answered.
bool Daemon::can_receive(const Connection& conn) const {
  return can_read(conn) && !begins_with_request(conn.in) && (!conn.kept || conn.kept->room() != 0);
}

/// What the socket has, valid until the next call. Nothing, with the connection closed,
/// at its end.
std::string_view Daemon::take_bytes(Connection& conn) {
  if (conn.kept) {
    using Received = KeptClient::Received;
    std::string_view bytes;
    const Received received = conn.kept->receive(conn.fd.get(), bytes, kept_calls_);
    ++kept_received_;
    if (received == Received::kEnd || received == Received::kError) close(conn);
    // A copy: a request may commit (CONTROL check), and what is mapped may be exchanged then.
    bytes.copy(recv_buffer_.data(), bytes.size());
    return {recv_buffer_.data(), bytes.size()};
  }
  const ssize_t count = recv(conn.fd.get(), recv_buffer_.data(), recv_buffer_.size(), 0);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return {};
  if (count <= 0) {
    close(conn);
    return {};
  }
  return {recv_buffer_.data(), static_cast<std::size_t>(count)};
}

void Daemon::receive(Connection& conn) {
  if (!conn.fd.valid() || !can_receive(conn)) return;
  const std::string_view bytes = take_bytes(conn);
  if (bytes.empty()) return;
  if (!conn.in.empty()) {
    conn.in.append(bytes);
    serve(conn);
    update_interest(conn);
    return;
  }
  // The common case: whole frames, executed where they were received.
  std::string_view rest = bytes;
  while (serve_next(conn, rest)) {
  }
  if (conn.is_closing) return;
  conn.in.assign(rest);
  update_interest(conn);
}

/// Executes what has been received of this connection, as far as it goes.
void Daemon::serve(Connection& conn) {
  // A copy: what was taken of its first request stays where save_connection looks
  // for it, until that request is accounted for.
  const std::string bytes = conn.in;
  std::string_view rest = bytes;
  while (serve_next(conn, rest)) {
  }
  if (conn.is_closing || conn.is_resetting || conn.error != rings::RingError::kNone) return;
  conn.in.assign(rest);
}

/// Those woken, and those stalled by their own unsent replies, in this turn.
void Daemon::serve_left_over() {
  const std::vector<Connection*> runnable = std::exchange(runnable_, {});
  for (Connection* conn : runnable) {
    conn->is_runnable = false;
    if (conn->ring) {
      receive_ring(*conn);
      continue;
    }
    if (!conn->is_closing && !conn->in.empty()) serve(*conn);
    update_interest(*conn);
  }
}

/// Executes the next request of `rest`. False when there is none yet, or it may
/// not be executed now.
bool Daemon::serve_next(Connection& conn, std::string_view& rest) {
  if (conn.is_closing || conn.is_held || conn.is_resetting || rest.size() < sizeof(Header)) {
    return false;
  }
  Header header;
  std::memcpy(&header, rest.data(), sizeof header);
  if (header.len > kPayloadMax) {
    refuse_frame(conn, header.len);
    return false;
  }
  if (rest.size() < sizeof header + header.len) return false;
  if (conn.out.unsent().size() >= kUnsentBeforeStall) {
    conn.is_stalled = conn.is_domain;
    return false;
  }
  if (!conn.caller.privileged &&
      conn.outstanding.size() >= (*limits_of(conn))[store::Quota::kOutstanding]) {
    conn.is_stalled = true;
    return false;
  }
  const std::string_view payload = rest.substr(sizeof header, header.len);
  if (must_wait(conn, header, payload)) {
    conn.is_held = true;
    return false;
  }
  if (conn.ring && !reserve_for_ring(conn)) {
    stall_for_space(conn);
    return false;
  }
  conn.held_since_us = 0;
  execute(conn, header, payload);
  rest.remove_prefix(sizeof header + header.len);
  account_request(conn, sizeof header + header.len);
  return true;
}

/// No request can be so long: there is no way to tell where the next one begins.
void Daemon::refuse_frame(Connection& conn, std::uint32_t len) {
  if (conn.is_domain) {
    fail_ring(conn, rings::RingError::kProtocol);
    return;
  }
  log::warn("client tried to send a payload of " + std::to_string(len) + " bytes");
  close(conn);
}

void Daemon::doom_old_transactions() {
  next_doom_at_ = written_bytes_ + kWrittenUnderTransactionMax / 4;
  for (auto& [id, conn] : conns_) {
    if (conn->caller.privileged) continue;
    for (auto& [tx, open] : conn->transactions) {
      if (open.written_before + kWrittenUnderTransactionMax > written_bytes_) continue;
      store_.doom(open);
      open.written_before = written_bytes_;
    }
  }
}

/// From here on what was executed has happened.
void Daemon::commit() {
  saving_.clear();
  for (Connection* conn : dirty_) {
    if (!std::exchange(conn->is_changed, false)) continue;
    if (conn->kept && can_be_saved(*conn)) saving_.push_back(conn);
    if (conn->is_domain && !conn->is_closing) save_connection(*conn);
  }
  history_.save();
  const std::uint64_t number = journal_.confirmed() + (journal_.dirty() ? 1 : 0);
  for (Connection* conn : saving_) save_client(*conn, number);
  ++commits_;
  const auto done = journal_.commit();
  if (done.has_value()) {
    // A commit that came to nothing does not happen, and has no number.
    if (journal_.confirmed() == number) return;
    for (Connection* conn : saving_) conn->kept->committed(journal_.confirmed());
    return;
  }
  log::error("commit failed, starting again from the last one: " + done.error());
  trace_.flush();
  std::_Exit(kExitFailed);
}

void Daemon::mark_dirty(Connection& conn) {
  if (conn.is_dirty) return;
  conn.is_dirty = true;
  dirty_.push_back(&conn);
}

/// Its record is written with the next commit.
void Daemon::mark_changed(Connection& conn) {
  if (!conn.is_stored()) return;
  conn.is_changed = true;
  mark_dirty(conn);
}

void Daemon::mark_runnable(Connection& conn) {
  if (conn.is_runnable) return;
  conn.is_runnable = true;
  runnable_.push_back(&conn);
}

void Daemon::publish() {
  for (Connection* conn : std::exchange(dirty_, {})) {
    conn->is_dirty = false;
    if (!conn->is_closing || !conn->is_domain) send(*conn);
  }
}

void Daemon::send(Connection& conn) {
  if (conn.is_domain) {
    if (conn.ring) publish_ring(conn);
    if (conn.awaits_ring) watch_lateness(conn);
    return;
  }
  while (!conn.out.empty()) {
    const std::string_view bytes = conn.out.unsent();
    const ssize_t count =
        conn.kept ? conn.kept->send(conn.fd.get(), bytes, kept_calls_)
                  : ::send(conn.fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) close(conn);
      break;
    }
    conn.out.sent(static_cast<std::size_t>(count), done_);
    if (static_cast<std::size_t>(count) < bytes.size()) break;
  }
  if (conn.out.memory() > kOutboxMax && !conn.is_closing) {
    log::warn("closing a client that does not read what it is sent");
    close(conn);
  }
  // Also when the inbox is too full to receive more.
  if (!conn.is_closing && !conn.in.empty() && !conn.is_held && conn.out.empty()) {
    mark_runnable(conn);
  }
  update_interest(conn);
}

/// What epoll is to tell of a socket. Of one that is dirty it depends on what will have been
/// sent when the turn ends, and asking epoll twice for each request would cost a tenth of it.
void Daemon::update_interest(Connection& conn) {
  if (!conn.fd.valid() || conn.is_closing || conn.is_dirty) return;
  std::uint32_t interest = can_receive(conn) ? static_cast<std::uint32_t>(EPOLLIN) : 0;
  if (!conn.out.empty()) interest |= EPOLLOUT;
  if (conn.is_parked && interest != 0) {
    conn.is_parked = false;
    if (!poller_.add(conn.fd.get(), interest, &conn)) close(conn);
  } else if (interest != conn.interest) {
    poller_.change(conn.fd.get(), interest, &conn);
  }
  conn.interest = interest;
}

/// The client has hung up, which cannot be masked, but what it asked for before is
/// not done yet.
void Daemon::park(Connection& conn) {
  poller_.remove(conn.fd.get());
  conn.is_parked = true;
  conn.interest = 0;
  if (!conn.out.empty()) mark_dirty(conn);
}

/// Ends a connection with all it had. It is freed in reap().
void Daemon::close(Connection& conn) {
  if (conn.is_closing) return;
  conn.is_closing = true;
  closing_.push_back(&conn);
  drop_session(conn);
  mark_changed(conn);  // a kept one: so that nobody goes on with it
  if (conn.is_domain) drop_output(conn, conn.out.end());
  trace_.destroy("connection", raw(conn.id));
}

void Daemon::reap() {
  if (closing_.empty()) return;
  for (Connection* conn : closing_) {
    if (conn->fd.valid()) poller_.remove(conn->fd.get());
    if (conn->kept) {
      ::shutdown(conn->fd.get(), SHUT_RDWR);  // the keeper has it still
      let_go(*conn);
    }
    drop_ring(*conn);
    drop_output(*conn, conn->out.end());
    std::erase(runnable_, conn);
    std::erase(dirty_, conn);
    conns_.erase(conn->id);
  }
  closing_.clear();
  if (accept_again_us_ != 0) resume_accepting();
}

void Daemon::poll_listener(std::uint32_t events) {
  for (const auto& source : sources_) {
    if (source->fd == listen_fd_) poller_.change(listen_fd_, events, source.get());
  }
}

void Daemon::wake(const std::vector<store::ConnId>& conns) {
  for (const store::ConnId id : conns) {
    Connection* conn = find(id);
    if (conn == nullptr || !conn->is_held) continue;
    conn->is_held = false;
    mark_runnable(*conn);
  }
}

void Daemon::flush() { publish(); }

}  // namespace xenstored
