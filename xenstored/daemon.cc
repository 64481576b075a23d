// SPDX-License-Identifier: MIT
#include "xenstored/daemon.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "xenstored/log.h"

namespace xenstored {
namespace {

/// Bytes taken from one connection in a turn: enough to batch what a client
/// pipelines, and nobody waits long for another's flood.
constexpr std::size_t kReceiveBytes = 16384;
/// A client that does not read its replies is not read from beyond this.
constexpr std::size_t kUnsentBeforeStall = std::size_t{256} * 1024;
/// A socket that lets this much pile up (watch events) is closed.
constexpr std::size_t kUnsentMax = std::size_t{8} * 1024 * 1024;
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

Daemon::Daemon(const Options& options, journal::Journal& journal, PoisonGuard& poison, Trace& trace,
               DomainOracle& oracle)
    : options_(options), journal_(journal), poison_(poison), trace_(trace), oracle_(oracle) {
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
}

Daemon::~Daemon() = default;

void Daemon::add_source(int fd, std::function<void()> on_ready) {
  sources_.push_back(std::make_unique<Source>(fd, std::move(on_ready)));
  poller_.add(fd, EPOLLIN, sources_.back().get());
}

void Daemon::listen(int fd) {
  listen_fd_ = fd;
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  add_source(fd, [this, fd] { accept_all(fd); });
}

void Daemon::accept_all(int fd) {
  for (;;) {
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
  poller_.add(conn.fd.get(), conn.interest, &conn);
}

bool Daemon::attach_domain(store::Domid domid, UniqueFd fd) {
  const Domain* domain = find_domain(domid);
  if (domain == nullptr || !domain->is_introduced()) return false;
  Connection& conn = *find(*domain->conn);
  drop_stream(conn);
  conn.fd = std::move(fd);
  conn.interest = EPOLLIN;
  poller_.add(conn.fd.get(), conn.interest, &conn);
  return true;
}

Connection* Daemon::find(store::ConnId id) {
  const auto found = conns_.find(id);
  return found == conns_.end() ? nullptr : found->second.get();
}

void Daemon::turn(bool may_wait) {
  const auto ready = poller_.wait(may_wait ? timeout_ms() : 0);
  now_us_ = steady_us();
  for (const epoll_event& event : ready) {
    auto* target = static_cast<PollTarget*>(event.data.ptr);
    if (target->kind == PollTarget::Kind::kSource) {
      static_cast<Source*>(target)->on_ready();
      continue;
    }
    Connection& conn = *static_cast<Connection*>(target);
    if ((event.events & EPOLLOUT) != 0) mark_dirty(conn);
    if ((event.events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0) receive(conn);
  }
  if (accept_again_us_ != 0 && accept_again_us_ <= now_us_) resume_accepting();
  if (next_expiry_us_ != 0) {
    wake_.clear();
    next_expiry_us_ = contention_.expire(now_us_, wake_);
    wake(wake_);
  }
  serve_left_over();
  if (written_bytes_ >= next_doom_at_) doom_old_transactions();
  commit();
  publish();
  reap();
  trace_.flush();
}

/// Until the next thing that happens by time alone.
int Daemon::timeout_ms() const {
  if (!runnable_.empty()) return 0;
  if (next_expiry_us_ == 0 && accept_again_us_ == 0) return -1;
  const std::uint64_t next = next_expiry_us_ == 0 || accept_again_us_ == 0
                                 ? std::max(next_expiry_us_, accept_again_us_)
                                 : std::min(next_expiry_us_, accept_again_us_);
  const std::uint64_t now = steady_us();
  return next <= now ? 0 : static_cast<int>((next - now + 999) / 1000);
}

bool Daemon::can_read(const Connection& conn) const {
  return !conn.is_closing && conn.out.unsent().size() < kUnsentBeforeStall &&
         conn.in.size() < kReceiveBytes;
}

void Daemon::receive(Connection& conn) {
  if (!conn.fd.valid() || !can_read(conn)) return;
  const ssize_t count = recv(conn.fd.get(), recv_buffer_.data(), recv_buffer_.size(), 0);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) {
    if (conn.is_domain) {
      drop_stream(conn);
    } else {
      close(conn);
    }
    return;
  }
  const std::string_view bytes(recv_buffer_.data(), static_cast<std::size_t>(count));
  if (!conn.in.empty() || conn.is_held) {
    conn.in.append(bytes);
    serve(conn);
    update_interest(conn);
    return;
  }
  // The common case: whole frames, executed where they were received.
  std::string_view rest = bytes;
  while (serve_next(conn, rest)) {
  }
  if (conn.is_closing || !conn.fd.valid()) return;
  conn.in.assign(rest);
  if (!rest.empty()) mark_runnable(conn);
}

/// Executes what has been received of this connection, as far as it goes.
void Daemon::serve(Connection& conn) {
  const std::string bytes = std::exchange(conn.in, std::string());
  std::string_view rest = bytes;
  while (serve_next(conn, rest)) {
  }
  if (!conn.is_closing && conn.fd.valid()) conn.in.assign(rest);
}

/// Those woken, and those stalled by their own unsent replies, in this turn.
void Daemon::serve_left_over() {
  const std::vector<Connection*> runnable = std::exchange(runnable_, {});
  for (Connection* conn : runnable) {
    conn->is_runnable = false;
    if (!conn->is_closing && !conn->in.empty()) serve(*conn);
    update_interest(*conn);
  }
}

/// Executes the next request of `rest`. False when there is none yet, or it may
/// not be executed now.
bool Daemon::serve_next(Connection& conn, std::string_view& rest) {
  if (conn.is_closing || conn.is_held || rest.size() < sizeof(Header)) return false;
  Header header;
  std::memcpy(&header, rest.data(), sizeof header);
  if (header.len > kPayloadMax) {
    log::warn("client tried to send a payload of " + std::to_string(header.len) + " bytes");
    conn.is_domain ? drop_stream(conn) : close(conn);
    return false;
  }
  if (rest.size() < sizeof header + header.len) return false;
  if (conn.out.unsent().size() >= kUnsentBeforeStall) return false;
  if (!conn.caller.privileged &&
      conn.out.replies_waiting() >= (*limits_of(conn))[store::Quota::kOutstanding]) {
    mark_runnable(conn);
    return false;
  }
  const std::string_view payload = rest.substr(sizeof header, header.len);
  if (must_wait(conn, header, payload)) {
    conn.is_held = true;
    return false;
  }
  execute(conn, header, payload);
  rest.remove_prefix(sizeof header + header.len);
  return true;
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
  const auto done = journal_.commit();
  if (done.has_value()) return;
  log::error("commit failed, starting again from the last one: " + done.error());
  trace_.flush();
  std::_Exit(kExitFailed);
}

void Daemon::mark_dirty(Connection& conn) {
  if (conn.is_dirty) return;
  conn.is_dirty = true;
  dirty_.push_back(&conn);
}

void Daemon::mark_runnable(Connection& conn) {
  if (conn.is_runnable) return;
  conn.is_runnable = true;
  runnable_.push_back(&conn);
}

void Daemon::publish() {
  for (Connection* conn : dirty_) {
    conn->is_dirty = false;
    send(*conn);
  }
  dirty_.clear();
}

void Daemon::send(Connection& conn) {
  if (!conn.fd.valid()) {
    conn.out.clear();  // a domain nobody listens for
    return;
  }
  while (!conn.out.empty()) {
    const std::string_view bytes = conn.out.unsent();
    const ssize_t count =
        ::send(conn.fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) conn.is_domain ? drop_stream(conn) : close(conn);
      break;
    }
    conn.out.sent(static_cast<std::size_t>(count));
    if (static_cast<std::size_t>(count) < bytes.size()) break;
  }
  if (conn.out.unsent().size() > kUnsentMax && !conn.is_closing) {
    log::warn("closing a client that does not read what it is sent");
    conn.is_domain ? drop_stream(conn) : close(conn);
  }
  if (!conn.in.empty() && !conn.is_held && can_read(conn) && conn.out.empty()) mark_runnable(conn);
  update_interest(conn);
}

void Daemon::update_interest(Connection& conn) {
  if (!conn.fd.valid() || conn.is_closing) return;
  std::uint32_t interest = can_read(conn) ? static_cast<std::uint32_t>(EPOLLIN) : 0;
  if (!conn.out.empty()) interest |= EPOLLOUT;
  if (interest == conn.interest) return;
  conn.interest = interest;
  poller_.change(conn.fd.get(), interest, &conn);
}

/// The stream of a domain ended; the domain is still there.
void Daemon::drop_stream(Connection& conn) {
  if (!conn.fd.valid()) return;
  poller_.remove(conn.fd.get());
  conn.fd.reset();
  conn.in.clear();
  conn.out.clear();
}

/// Ends a connection with all it had. It is freed in reap().
void Daemon::close(Connection& conn) {
  if (conn.is_closing) return;
  conn.is_closing = true;
  closing_.push_back(&conn);
  end_transactions(conn);
  drop_watches(conn);
  wake_.clear();
  contention_.gone(conn.id, wake_);
  wake(wake_);
}

void Daemon::reap() {
  if (closing_.empty()) return;
  for (Connection* conn : closing_) {
    if (conn->fd.valid()) poller_.remove(conn->fd.get());
    std::erase(runnable_, conn);
    std::erase(dirty_, conn);
    trace_.destroy("connection", raw(conn->id));
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
