// SPDX-License-Identifier: MIT
/// One request: found in the table, checked in C xenstored's order (known?
/// privileged? transaction?), executed, answered once, from one place.
#include <array>
#include <cstdlib>

#include "store/path.h"
#include "xenstored/daemon.h"
#include "xenstored/log.h"

namespace xenstored {

using store::Answer;
using store::Quota;
using store::TreeOp;
using store::WireError;

const Daemon::Operation* Daemon::operation(std::uint32_t type) {
  static constexpr std::array<Operation, 27> kTable = [] {
    std::array<Operation, 27> table{};
    const auto set = [&table](Op op, Handler handler, bool privileged = false,
                              bool ignores_tx = false) {
      table[static_cast<std::size_t>(op)] = {handler, privileged, ignores_tx};
    };
    set(Op::kControl, &Daemon::do_control, true);
    set(Op::kDirectory, &Daemon::do_directory);
    set(Op::kRead, &Daemon::do_read);
    set(Op::kGetPerms, &Daemon::do_get_perms);
    set(Op::kWatch, &Daemon::do_watch, false, true);
    set(Op::kUnwatch, &Daemon::do_unwatch, false, true);
    set(Op::kTransactionStart, &Daemon::do_transaction_start);
    set(Op::kTransactionEnd, &Daemon::do_transaction_end);
    set(Op::kIntroduce, &Daemon::do_introduce, true);
    set(Op::kRelease, &Daemon::do_release, true);
    set(Op::kGetDomainPath, &Daemon::do_get_domain_path);
    set(Op::kWrite, &Daemon::do_write);
    set(Op::kMkdir, &Daemon::do_mkdir);
    set(Op::kRm, &Daemon::do_rm);
    set(Op::kSetPerms, &Daemon::do_set_perms);
    set(Op::kIsDomainIntroduced, &Daemon::do_is_domain_introduced, true);
    set(Op::kResume, &Daemon::do_resume, true);
    set(Op::kSetTarget, &Daemon::do_set_target, true);
    set(Op::kResetWatches, &Daemon::do_reset_watches);
    set(Op::kDirectoryPart, &Daemon::do_directory_part);
    set(Op::kGetFeature, &Daemon::do_get_feature, true);
    set(Op::kSetFeature, &Daemon::do_set_feature, true);
    set(Op::kGetQuota, &Daemon::do_get_quota, true);
    set(Op::kSetQuota, &Daemon::do_set_quota, true);
    return table;
  }();
  if (type >= kTable.size() || kTable[type].handler == nullptr) return nullptr;
  return &kTable[type];
}

/// Who a socket's client is is asked for once, and only if it changes something: most
/// one-shot clients do not.
const journal::HistoryAuthor& Daemon::author_of(Connection& conn) {
  using journal::HistoryAuthor;
  if (conn.author) return *conn.author;
  if (conn.is_domain) {
    conn.author = HistoryAuthor{HistoryAuthor::kDomain, conn.caller.domid, 0, 0, {}};
  } else {
    const Peer peer = peer_of(conn.fd.get());
    conn.author = HistoryAuthor{HistoryAuthor::kSocket, store::kDom0,
                                static_cast<std::uint32_t>(peer.pid), peer.uid, peer.command};
  }
  return *conn.author;
}

void Daemon::execute(Connection& conn, const Header& header, std::string_view payload) {
  trace_.in(conn.id, header.type, store::TxId{header.tx_id}, payload);
  reply_.clear();
  Session session{conn, header, payload, nullptr, reply_};
  if (!conn.caller.privileged) session.cause = {conn.id, conn.outstanding.begin()};
  cause_ = session.cause;
  if (poison_.is_poisoned(conn.caller.domid, header.type, payload)) {
    finish(session, tl::unexpected(WireError::kIo));
    cause_ = {};
    return;
  }
  poison_.note(conn.caller.domid, header.type, payload);
  const std::uint64_t refused = journal_.refused();
  const auto answer = dispatch(session);
  if (!answer.has_value() && answer.error() == WireError::kNospc && journal_.refused() != refused) {
    tell_of_no_room();
  }
  if (!store_.effects().changes.empty()) {
    carry_out_effects(author_of(conn), op_name(header.type));
  }
  finish(session, answer);
  cause_ = {};
  poison_.done();
}

/// The operator is to know that it is no quota, but not of each request.
void Daemon::tell_of_no_room() {
  constexpr std::uint64_t kNoRoomAgainUs = 60'000'000;
  if (now_us_ < tell_no_room_us_) return;
  tell_no_room_us_ = now_us_ + kNoRoomAgainUs;
  log::error("no room in " + options_.area + ": changes are refused (ENOSPC) until there is");
}

Answer<void> Daemon::dispatch(Session& session) {
  const Operation* op = operation(session.header.type);
  if (op == nullptr) return tl::unexpected(WireError::kNosys);
  if (op->privileged && !session.conn.caller.privileged) {
    return tl::unexpected(WireError::kAcces);
  }
  const store::TxId tx{session.header.tx_id};
  if (tx != store::kNoTx && !op->ignores_tx) {
    const auto found = session.conn.transactions.find(tx);
    if (found == session.conn.transactions.end()) return tl::unexpected(WireError::kNoent);
    session.transaction = &found->second;
  }
  return (this->*op->handler)(session);
}

/// Every request gets its one reply here, after the events that it caused and
/// before the first event of a watch that it set.
void Daemon::finish(Session& session, const Answer<void>& answer) {
  Connection& conn = session.conn;
  if (conn.is_closing) return;
  std::uint32_t type = session.header.type;
  if (!answer.has_value()) {
    type = static_cast<std::uint32_t>(Op::kError);
    reply_.assign(error_name(answer.error()));
    reply_ += '\0';
  }
  trace_.out(conn.id, type, store::TxId{session.header.tx_id}, reply_);
  if (session.cause.conn != store::ConnId{}) conn.outstanding.hold(session.cause.request);
  conn.out.add_reply(session.header, type, reply_, session.cause);
  if (session.initial_event != nullptr) {
    const store::Watch& watch = *session.initial_event;
    queue_event(conn, watch, store::shown_path(watch, conn.caller.domid, watch.path));
  }
  mark_dirty(conn);
}

const store::Limits* Daemon::limits_of(const Connection& conn) {
  if (conn.caller.privileged) return nullptr;
  const Domain* domain = find_domain(conn.caller.domid);
  return domain == nullptr ? &limits_ : &domain->limits;
}

/// What the journal will have to write for this change fits, or it is refused
/// before anything has happened: nothing acknowledged is ever lost for want of
/// space. Removals may use what is kept back for them.
bool Daemon::reserve(const TreeOp& op) {
  const auto put = [this](std::size_t bytes) { return journal_.space_for_put(bytes); };
  if (op.kind == TreeOp::Kind::kRm) {
    return journal_.reserve(
        put(kPayloadMax) + journal_.space_for_removals(store_.subtree_nodes(op.path)),
        journal::Purpose::kRemoval);
  }
  const store::Node* node = store_.find(op.path);
  if (op.kind == TreeOp::Kind::kSetPerms) {
    return node == nullptr ||
           journal_.reserve(put(op.perms.size() * 3 + node->name().size() + node->value().size()));
  }
  if (node != nullptr) {
    const std::size_t perms = node->perms()->view().size() * 3;
    return journal_.reserve(put(op.value.size() + node->name().size() + perms));
  }
  // Each level that may be missing is a node with inherited permissions.
  journal::Space space = put(op.value.size() + op.path.size() + 64);
  const auto levels = std::count(op.path.begin(), op.path.end(), '/');
  for (auto level = levels; level > 1; --level) space += put(64);
  return journal_.reserve(space);
}

Answer<void> Daemon::tree_op(Session& session, const TreeOp& op) {
  Connection& conn = session.conn;
  const store::Limits* limits = limits_of(conn);
  if (limits != nullptr && is_mutation(op.kind) && op.kind != TreeOp::Kind::kRm &&
      over_memory(conn)) {
    return tl::unexpected(WireError::kNospc);
  }
  if (session.transaction == nullptr && is_mutation(op.kind) && !reserve(op)) {
    return tl::unexpected(WireError::kNospc);
  }
  auto answer = session.transaction == nullptr
                    ? store_.execute(op, conn.caller, limits, reply_)
                    : store_.execute_in(*session.transaction, op, conn.caller, limits, reply_);
  if (!answer.has_value()) {
    note_refusal(conn, answer.error(), op.kind);
    return answer;
  }
  if (is_mutation(op.kind)) reply_.assign("OK", 3);
  return answer;
}

std::uint64_t Daemon::memory_of(const Connection& conn) const {
  std::uint64_t bytes = store_.usage().of(conn.caller.domid).bytes + conn.watch_bytes +
                        conn.out.unsent().size() + conn.in.size();
  for (const auto& [id, transaction] : conn.transactions) bytes += transaction.bytes();
  if (conn.lost) bytes += conn.lost->bytes();
  return bytes;
}

/// Beyond the hard limit a domain gets nothing new. Limits of 0 are none.
bool Daemon::over_memory(const Connection& conn) {
  const store::Limits& limits = *limits_of(conn);
  const std::uint64_t bytes = memory_of(conn);
  if (limits[Quota::kSoftMemory] != 0 && bytes > limits[Quota::kSoftMemory]) {
    note_refusal(conn, Quota::kSoftMemory);
  }
  if (limits[Quota::kMemory] == 0 || bytes <= limits[Quota::kMemory]) return false;
  note_refusal(conn, Quota::kMemory);
  return true;
}

void Daemon::note_refusal(const Connection& conn, WireError error, TreeOp::Kind kind) {
  if (conn.caller.privileged || error != WireError::kNospc) return;
  const store::Limits& limits = *limits_of(conn);
  const bool has_all_nodes = store_.usage().of(conn.caller.domid).nodes >= limits[Quota::kNodes];
  for (const auto& [id, transaction] : conn.transactions) {
    if (transaction.failed()) return note_refusal(conn, Quota::kTransactionNodes);
  }
  note_refusal(conn,
               has_all_nodes && kind != TreeOp::Kind::kSetPerms ? Quota::kNodes : Quota::kNodeSize);
}

/// Operators learn of a quota from the log, once a domain and kind.
void Daemon::note_refusal(const Connection& conn, Quota quota) {
  Domain* domain = find_domain(conn.caller.domid);
  if (domain == nullptr || !domain->refused.insert(quota).second) return;
  log::warn("domain " + std::to_string(raw(domain->domid)) + " hit its quota \"" +
            std::string(quota_name(quota)) + "\" (" + std::to_string(domain->limits[quota]) +
            "); told once");
}

/// Losers of a conflict take turns; others' changes to what the holder of a turn
/// has asked about wait for its end.
bool Daemon::must_wait(Connection& conn, const Header& header, std::string_view payload) {
  const auto op = static_cast<Op>(header.type);
  if (op == Op::kTransactionStart) {
    if (header.tx_id != 0) return false;  // will be refused
    const bool may_start = contention_.may_start(conn.id, now_us_);
    const bool is_timed = !may_start || contention_.has_turn(conn.id);
    if (is_timed && next_expiry_us_ == 0) next_expiry_us_ = now_us_ + store::Contention::kTurnMax;
    return !may_start;
  }
  // Also of one turn after another nobody has to wait for longer.
  const bool has_waited =
      conn.held_since_us != 0 && now_us_ >= conn.held_since_us + store::Contention::kTurnMax;
  if (has_waited) return false;
  if (!contention_.anyone_has_turn() || contention_.has_turn(conn.id)) return false;
  if (op == Op::kTransactionEnd) {
    const auto found = conn.transactions.find(store::TxId{header.tx_id});
    if (found == conn.transactions.end() || !payload.starts_with('T')) return false;
    bool waits = false;
    found->second.each_change([&](const TreeOp& change) {
      waits = waits || wait_for_turn_on(conn, change.path, change.kind == TreeOp::Kind::kRm);
    });
    return waits;
  }
  const bool changes = op == Op::kWrite || op == Op::kMkdir || op == Op::kRm || op == Op::kSetPerms;
  if (!changes || header.tx_id != 0) return false;
  const std::string_view wire = payload.substr(0, payload.find('\0'));
  return wait_for_turn_on(conn, store::absolute_path(wire, conn.caller.domid, scratch_),
                          op == Op::kRm);
}

bool Daemon::wait_for_turn_on(Connection& conn, std::string_view path, bool is_removal) {
  Connection* blocking = nullptr;
  contention_.each_turn([&](store::ConnId id) {
    Connection* holder = find(id);
    // What its lost transaction asked about it will ask about again.
    bool concerned = holder->lost && holder->lost->concerned_by(path, is_removal);
    for (const auto& [tx, transaction] : holder->transactions) {
      concerned = concerned || transaction.concerned_by(path, is_removal);
    }
    if (concerned) blocking = holder;
  });
  if (blocking == nullptr) return false;
  contention_.wait_for(conn.id, blocking->id);
  if (conn.held_since_us == 0) conn.held_since_us = now_us_;
  return true;
}

}  // namespace xenstored
