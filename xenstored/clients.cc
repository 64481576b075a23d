// SPDX-License-Identifier: MIT
/// Socket clients that go on in the next process: which ones, and how they are handed
/// over and taken up.
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "xenstored/daemon.h"
#include "xenstored/log.h"

namespace xenstored {
namespace {

/// A client with neither watch nor transaction is kept from this age on: a command
/// that asks something has ended by then, and paid nothing.
constexpr std::uint64_t kYoungUs = 30'000;
constexpr std::uint64_t kCheckUs = 20'000;
/// Who could not be kept is tried again after that; so is the keeper, and the tmpfs.
constexpr std::uint64_t kPutOffUs = 100'000;
/// How often it is looked at how many requests they make.
constexpr std::uint64_t kChooseCallsUs = 100'000;
/// So that many old enough at once hold nobody up.
constexpr std::size_t kKeptATurn = 64;
/// When the keeper does not keep up.
constexpr std::uint64_t kTellAgainUs = 10'000;

std::string folder_of(const Options& options) { return options.area + "/clients"; }

KeptClient::Output output_of(const Outbox& out) {
  return {out.first_kept(), out.end(), out.from(out.first_kept())};
}

std::uint64_t sent_of(const Outbox& out) { return out.end() - out.unsent().size(); }

}  // namespace

void Daemon::note_young(const Connection& conn) {
  if (clients_ == nullptr || clients_->is_gone()) return;
  young_.push_back({conn.id, now_us_ + kYoungUs});
  check_keeping_at(young_.back().due_us);
}

void Daemon::check_keeping_at(std::uint64_t us) {
  if (keep_check_us_ == 0 || us < keep_check_us_) keep_check_us_ = us;
}

/// Who asks a second thing is more than a command that asks one: a toolstack, say, which
/// gives up with its connection.
void Daemon::note_request(Connection& conn) {
  constexpr std::uint32_t kRequests = 2;
  if (++conn.requests == kRequests) note_worth_keeping(conn);
}

/// It would miss something that the next process cannot give it.
void Daemon::note_worth_keeping(const Connection& conn) {
  if (clients_ == nullptr || conn.is_stored() || conn.is_put_off) return;
  worth_keeping_.push_back(conn.id);
}

/// Of few requests each may cost what makes sure that a crash closes nobody. Many are served
/// by calls that cost less: a crash closes one client at most, the one that is being received
/// from or sent to at that instant.
void Daemon::choose_calls() {
  if (now_us_ < calls_since_us_ + kChooseCallsUs) return;
  const std::uint64_t rate = kept_received_ * 1'000'000 / (now_us_ - calls_since_us_);
  kept_calls_ = rate >= options_.sure_rate ? KeptClient::Calls::kPlain : KeptClient::Calls::kNoted;
  kept_received_ = 0;
  calls_since_us_ = now_us_;
}

void Daemon::keep_clients() {
  if (keep_check_us_ != 0 && keep_check_us_ <= now_us_) {
    note_due(put_off_);
    note_due(young_);
    keep_check_us_ = 0;
    const bool is_full = worth_keeping_.size() >= kKeptATurn;
    for (const std::deque<Waiting>* waiting : {&put_off_, &young_}) {
      if (waiting->empty()) continue;
      check_keeping_at(is_full ? now_us_ : std::max(waiting->front().due_us, now_us_ + kCheckUs));
    }
  }
  for (const store::ConnId id : std::exchange(worth_keeping_, {})) {
    Connection* conn = find(id);
    if (conn == nullptr || conn->is_stored() || conn->is_closing || conn->is_put_off) continue;
    if (!keep(*conn)) put_off_keeping(*conn);
  }
  if (tell_keeper_us_ != 0 && tell_keeper_us_ <= now_us_) tell_keeper();
}

void Daemon::note_due(std::deque<Waiting>& waiting) {
  while (!waiting.empty() && waiting.front().due_us <= now_us_ &&
         worth_keeping_.size() < kKeptATurn) {
    worth_keeping_.push_back(waiting.front().id);
    Connection* conn = find(waiting.front().id);
    if (conn != nullptr && &waiting == &put_off_) conn->is_put_off = false;
    waiting.pop_front();
  }
}

/// Whatever the reason: attempts cost something, and the client goes on meanwhile.
void Daemon::put_off_keeping(Connection& conn) {
  if (clients_->is_gone() || std::exchange(conn.is_put_off, true)) return;
  put_off_.push_back({conn.id, now_us_ + kPutOffUs});
  check_keeping_at(put_off_.back().due_us);
}

/// From the commit of this turn on. A death before it closes the client, with what it
/// asked in this turn. False: not now.
bool Daemon::keep(Connection& conn) {
  if (now_us_ < keep_again_us_ || conn.in.size() > KeptClient::kInboxBytes ||
      conn.transactions.size() > KeptClient::kOpenTxMax) {
    return false;
  }
  const auto watches = watches_.of(conn.id);
  journal::Space space;
  for (const store::Watch* watch : watches) {
    space += journal::Journal::space_for_put(watch->path.size() + watch->token.size());
  }
  if (!journal_.reserve(space)) return false;
  conn.kept = hand_over(conn);
  if (!conn.kept) {
    keep_again_us_ = now_us_ + kPutOffUs;
    return false;
  }
  for (const store::Watch* watch : watches) save_watch(*watch);
  mark_changed(conn);
  return true;
}

/// Null: the tmpfs, the system or the keeper has no room, and would not have for another
/// client.
std::unique_ptr<KeptClient> Daemon::hand_over(const Connection& conn) {
  if (!clients_->has_room()) return nullptr;
  auto kept = KeptClient::create(folder_of(options_), conn.id, conn.in, output_of(conn.out),
                                 sent_of(conn.out));
  if (!kept.has_value()) return nullptr;
  if (clients_->hold(conn.id, conn.fd.get())) return std::move(kept.value());
  kept.value()->forget();
  return nullptr;
}

/// The client goes on, but ends with this process, unless there is room again by then.
void Daemon::give_up_keeping(Connection& conn) {
  for (const store::Watch* watch : watches_.of(conn.id)) {
    journal_.erase_watch(conn.id, watch->seq);
  }
  let_go(conn);
  put_off_keeping(conn);
}

/// The keeper forgets the client, and so do we what it would have needed.
void Daemon::let_go(Connection& conn) {
  conn.kept->forget();
  conn.kept.reset();
  clients_->let_go(conn.id);
  tell_keeper();
}

void Daemon::tell_keeper() { tell_keeper_us_ = clients_->catch_up() ? 0 : now_us_ + kTellAgainUs; }

void Daemon::save_client(Connection& conn, std::uint64_t commit) {
  saved_turn_.last_tx = conn.last_tx;
  saved_turn_.is_closed = conn.is_closing;
  saved_turn_.open_tx.clear();
  for (const auto& [id, transaction] : conn.transactions) saved_turn_.open_tx.push_back(id);
  conn.kept->save(saved_turn_, output_of(conn.out), commit);
}

/// What is to be written of it has room; else it is not kept any more.
bool Daemon::can_be_saved(Connection& conn) {
  if (conn.transactions.size() <= KeptClient::kOpenTxMax &&
      conn.kept->make_room(output_of(conn.out))) {
    return true;
  }
  give_up_keeping(conn);
  return false;
}

/// Takes up those that the keeper has held. Closed are those of which nothing that was
/// committed is left (the server died in the turn that began to keep them), and one that it
/// died in a plain call for.
void Daemon::recover_clients(bool has_state) {
  const std::string folder = folder_of(options_);
  if (clients_ == nullptr) {
    KeptClient::sweep(folder, {});  // an earlier one's, which had a keeper
    return;
  }
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    log::warn("cannot make " + folder + ": socket clients end with this process");
  }
  std::vector<store::ConnId> ids;
  std::size_t closed = 0;
  for (HeldClients::Client& held : clients_->take()) {
    last_conn_ = std::max(last_conn_, raw(held.id));
    if (has_state && recover_client(held)) {
      ids.push_back(held.id);
      continue;
    }
    ++closed;
    ::shutdown(held.fd.get(), SHUT_RDWR);
    clients_->let_go(held.id);
  }
  tell_keeper();
  KeptClient::sweep(folder, ids);
  if (!ids.empty() || closed != 0) {
    log::info("went on with " + std::to_string(ids.size()) + " socket clients, closed " +
              std::to_string(closed));
  }
}

bool Daemon::recover_client(HeldClients::Client& held) {
  auto opened = KeptClient::open(folder_of(options_), held.id, journal_.confirmed());
  if (!opened.has_value()) {
    log::info("a socket client is closed: " + opened.error());
    return false;
  }
  const KeptClient::Turn turn = opened.value()->turn();
  if (turn.is_closed) return false;
  Outbox out;
  std::string scratch;
  const KeptClient::Output output = opened.value()->output(scratch);
  const std::uint64_t sent = opened.value()->sent();
  if (!out.restore(output.first, output.bytes, sent - output.first, now_us_)) return false;

  Connection& conn = new_connection(held.id, {}, false);
  if (!poller_.add(held.fd.get(), EPOLLIN, &conn)) {
    trace_.destroy("connection", raw(held.id));
    conns_.erase(held.id);
    return false;
  }
  conn.interest = EPOLLIN;
  conn.fd = std::move(held.fd);
  conn.kept = std::move(opened.value());
  conn.out = std::move(out);
  conn.in = conn.kept->unexecuted();
  conn.last_tx = turn.last_tx;
  for (const store::TxId tx : turn.open_tx) conn.transactions.emplace(tx, store_.begin(true));
  mark_dirty(conn);
  if (!conn.in.empty()) mark_runnable(conn);
  return true;
}

}  // namespace xenstored
