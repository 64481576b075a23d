// SPDX-License-Identifier: MIT
/// The daemon: clients, domains and the store, driven in turns.
///
/// A turn gathers what is readable, executes it in memory, commits every effect
/// in one journal transaction, and only then lets replies and events out. So a
/// crash at any instant loses nothing that anybody has seen (ARCHITECTURE.md).
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "journal/journal.h"
#include "rings/hypervisor.h"
#include "store/contention.h"
#include "store/store.h"
#include "store/watch.h"
#include "xenstored/connection.h"
#include "xenstored/domains.h"
#include "xenstored/held_clients.h"
#include "xenstored/history.h"
#include "xenstored/options.h"
#include "xenstored/poison.h"
#include "xenstored/poller.h"
#include "xenstored/trace.h"
#include "xenstored/wire.h"

namespace xenstored {

class Daemon {
 public:
  /// Borrows all; they outlive the daemon. No hypervisor (-D): domains have no
  /// rings, and any that is named is taken to exist. No `clients`: sockets are closed
  /// when this process dies.
  Daemon(const Options& options, journal::Journal& journal, History& history, PoisonGuard& poison,
         Trace& trace, rings::Hypervisor* hypervisor, HeldClients* clients);
  ~Daemon();

  /// Takes over what the journal holds; an empty one gets the initial tree.
  /// Error: a sentence; the daemon then is of no use.
  store::Result<void, std::string> recover();

  /// Serves a connected stream socket as a privileged client.
  void accept_client(UniqueFd fd);
  /// Calls `on_ready` in the turns in which `fd` is readable.
  void add_source(int fd, std::function<void()> on_ready);
  /// Accepts clients from a listening socket.
  void listen(int fd);

  /// One turn; waits for something to do unless told not to.
  void turn(bool may_wait = true);
  /// A last attempt to send what is queued; for an orderly end.
  void flush();

 private:
  /// A request under execution.
  struct Session {
    Connection& conn;
    Header header;
    std::string_view payload;
    store::Transaction* transaction;  ///< null outside one
    std::string& reply;
    /// Set by WATCH: the event that follows its own reply.
    const store::Watch* initial_event = nullptr;
    Cause cause{};
  };
  using Handler = store::Answer<void> (Daemon::*)(Session&);
  struct Operation {
    Handler handler = nullptr;
    bool privileged = false;
    bool ignores_tx = false;
  };
  static const Operation* operation(std::uint32_t type);

  struct Source : PollTarget {
    Source(int fd_arg, std::function<void()> on_ready_arg)
        : PollTarget{Kind::kSource}, fd(fd_arg), on_ready(std::move(on_ready_arg)) {}
    int fd;
    std::function<void()> on_ready;
  };

  // The turn (daemon.cc).
  void receive(Connection& conn);
  std::string_view take_bytes(Connection& conn);
  void serve(Connection& conn);
  void serve_left_over();
  void doom_old_transactions();
  bool serve_next(Connection& conn, std::string_view& rest);
  bool can_read(const Connection& conn) const;
  bool can_receive(const Connection& conn) const;
  void commit();
  void publish();
  void send(Connection& conn);
  void reap();
  int timeout_ms() const;
  void refuse_frame(Connection& conn, std::uint32_t len);
  void close(Connection& conn);
  void park(Connection& conn);
  void update_interest(Connection& conn);
  void mark_dirty(Connection& conn);
  void mark_changed(Connection& conn);
  void mark_runnable(Connection& conn);
  void accept_some(int fd);
  void poll_listener(std::uint32_t events);
  void pause_accepting(int error);
  void resume_accepting();
  Connection& new_connection(store::ConnId id, store::Caller caller, bool is_domain);
  Connection* find(store::ConnId id);

  // Clients that are kept (clients.cc).
  void note_young(const Connection& conn);
  void note_request(Connection& conn);
  void note_worth_keeping(const Connection& conn);
  void choose_calls();
  void keep_clients();
  bool keep(Connection& conn);
  std::unique_ptr<KeptClient> hand_over(const Connection& conn);
  void put_off_keeping(Connection& conn);
  void check_keeping_at(std::uint64_t us);
  struct Waiting {
    store::ConnId id;
    std::uint64_t due_us;
  };
  void note_due(std::deque<Waiting>& waiting);
  void give_up_keeping(Connection& conn);
  void let_go(Connection& conn);
  void tell_keeper();
  bool can_be_saved(Connection& conn);
  void save_client(Connection& conn, std::uint64_t commit);
  void recover_clients(bool has_state);
  bool recover_client(HeldClients::Client& held);

  // Rings (ring.cc).
  void take_events();
  void unmask_events();
  void receive_ring(Connection& conn);
  void take_partial(Connection& conn);
  void account_request(Connection& conn, std::size_t size);
  bool reserve_for_ring(Connection& conn);
  bool reserve_session_end(Connection& conn);
  void stall_for_space(Connection& conn);
  void retry_for_space();
  void fail_ring(Connection& conn, rings::RingError error);
  void drop_session(Connection& conn);
  void drop_output(Connection& conn, std::uint64_t position);
  void forget_stored_output(Connection& conn);
  void restart_stream(Connection& conn);
  void reset_rings();
  void tell_reset(Connection& conn);
  void retry_rings();
  void notify(Connection& conn);
  void publish_ring(Connection& conn);
  void settle();
  void watch_lateness(Connection& conn);
  void drop_late_events();
  void save_output(Connection& conn, journal::ConnectionRecord& record);
  void store_chunks(Connection& conn);

  // Domains' lives (domain_life.cc).
  store::Answer<void> introduce(store::Domid domid, std::uint64_t gfn, std::uint32_t port);
  store::Answer<Ring> bind_ring(store::Domid domid, std::uint32_t port,
                                rings::Hypervisor::MappedRing page, bool is_known);
  store::Answer<void> enter_domain(store::Domid domid, std::uint64_t gfn, std::uint32_t port,
                                   std::optional<Ring> ring);
  void give_ring(Connection& conn, Ring ring);
  void drop_ring(Connection& conn);
  void release(Domain& domain);
  void forget_target(store::Domid gone);
  bool reserve_release(store::Domid domid);
  void check_domains();
  void recover_rings();
  void recover_ring(const Domain& known);
  void continue_ring(Connection& conn, Ring ring);
  void recover_own_ring();

  // One request (execute.cc).
  const journal::HistoryAuthor& author_of(Connection& conn);
  void execute(Connection& conn, const Header& header, std::string_view payload);
  store::Answer<void> dispatch(Session& session);
  void finish(Session& session, const store::Answer<void>& answer);
  bool must_wait(Connection& conn, const Header& header, std::string_view payload);
  bool wait_for_turn_on(Connection& conn, std::string_view path, bool is_removal);
  store::Answer<void> tree_op(Session& session, const store::TreeOp& op);
  bool reserve(const store::TreeOp& op);
  void tell_of_no_room();
  bool reserve(const store::Transaction& transaction);
  void wake(const std::vector<store::ConnId>& conns);
  const store::Limits* limits_of(const Connection& conn);
  void note_refusal(const Connection& conn, store::WireError error, store::TreeOp::Kind kind);
  void note_refusal(const Connection& conn, store::Quota quota);
  std::uint64_t memory_of(const Connection& conn) const;
  bool over_memory(const Connection& conn);

  // Effects (effects.cc).
  void carry_out_effects(const journal::HistoryAuthor& author, std::string_view what);
  void fire(const store::Fired& fired);
  void fire_special(std::string_view name, store::Domid domid, bool tells_all = true);
  void send_special(const store::Watch& watch, std::string_view shown);
  void trace_event(store::ConnId conn, const store::Watch& watch, std::string_view shown,
                   bool is_new);
  void queue_event(Connection& conn, const store::Watch& watch, std::string_view shown);
  void save_domain(const Domain& domain);
  void save_connection(Connection& conn);
  void save_watch(const store::Watch& watch);
  void save_special(std::string_view name);
  void end_transactions(Connection& conn);
  void drop_watches(Connection& conn);

  // Handlers (handlers_*.cc).
  store::Answer<void> do_control(Session& session);
  store::Answer<void> do_read(Session& session);
  store::Answer<void> do_directory(Session& session);
  store::Answer<void> do_directory_part(Session& session);
  store::Answer<void> do_get_perms(Session& session);
  store::Answer<void> do_write(Session& session);
  store::Answer<void> do_mkdir(Session& session);
  store::Answer<void> do_rm(Session& session);
  store::Answer<void> do_set_perms(Session& session);
  store::Answer<void> do_watch(Session& session);
  store::Answer<void> do_unwatch(Session& session);
  store::Answer<void> do_reset_watches(Session& session);
  store::Answer<void> do_transaction_start(Session& session);
  store::Answer<void> do_transaction_end(Session& session);
  store::Answer<void> do_introduce(Session& session);
  store::Answer<void> do_release(Session& session);
  store::Answer<void> do_resume(Session& session);
  store::Answer<void> do_set_target(Session& session);
  store::Answer<void> do_is_domain_introduced(Session& session);
  store::Answer<void> do_get_domain_path(Session& session);
  store::Answer<void> do_get_feature(Session& session);
  store::Answer<void> do_set_feature(Session& session);
  store::Answer<void> do_get_quota(Session& session);
  store::Answer<void> do_set_quota(Session& session);

  store::Answer<void> one_path(Session& session, store::TreeOp::Kind kind);
  store::Answer<std::string_view> path_arg(const Session& session, std::string_view wire);
  store::Answer<void> set_special_perms(Session& session, std::string_view name,
                                        store::Perms perms);
  store::Answer<store::Perms> perms_arg(const Session& session,
                                        const std::vector<std::string_view>& entries);
  store::Answer<store::Domid> domid_arg(std::string_view text) const;
  store::Answer<Domain*> introduced_arg(Session& session);
  store::Answer<store::Domid> existing_arg(std::string_view text);
  bool exists(store::Domid domid);
  Domain* find_domain(store::Domid domid);
  Domain& domain(store::Domid domid);
  store::Caller domain_caller(store::Domid domid);
  void refresh_callers();
  void make_initial_tree();
  void begin_history(const StoredHistory& stored);
  bool restore_tree();
  store::Result<void, std::string> recover_connection(
      const journal::ConnectionRecord& record, const std::vector<journal::OutputRecord>& outputs);
  store::Result<void, std::string> recover_domain(const journal::DomainRecord& record);
  store::Result<void, std::string> recover_watch(const journal::WatchRecord& record);
  void give_to_client(const journal::WatchRecord& record);
  void set_global_quota(store::Quota quota, std::uint32_t value);
  void refresh_limits(Domain& domain);
  std::string control_quota_list(bool soft) const;
  store::Answer<void> control_quota(const std::vector<std::string_view>& args, bool soft);
  store::Answer<void> control_check();
  store::Answer<void> control_inspect(std::string_view from);
  store::Answer<void> control_memreport(const std::vector<std::string_view>& args);
  std::string memory_report() const;
  std::vector<std::string> compare_with_journal() const;

  const Options& options_;
  journal::Journal& journal_;
  History& history_;
  PoisonGuard& poison_;
  Trace& trace_;
  rings::Hypervisor* hypervisor_;
  HeldClients* clients_;  ///< null: no socket client outlives the process

  store::Store store_;
  store::WatchIndex watches_;
  store::Contention contention_;
  store::Limits limits_;
  std::map<store::Domid, Domain> domains_;
  std::map<std::string, store::Perms, std::less<>> specials_;

  Poller poller_;
  std::vector<std::unique_ptr<Source>> sources_;
  int listen_fd_ = -1;
  bool accept_is_failing_ = false;     ///< told once, until one succeeds
  std::uint64_t accept_again_us_ = 0;  ///< when accepting is tried again; 0: it goes on
  std::unordered_map<store::ConnId, std::unique_ptr<Connection>> conns_;
  std::uint64_t last_conn_ = 0;
  std::uint64_t last_watch_ = 0;
  std::uint64_t now_us_ = 0;          ///< steady clock, read once a turn
  std::uint64_t written_bytes_ = 0;   ///< of nodes, since the start
  std::uint64_t next_doom_at_ = 0;    ///< written_bytes_ when transactions are looked at
  std::uint64_t next_expiry_us_ = 0;  ///< when a held-up turn ends; 0: none

  std::unordered_map<rings::LocalPort, Connection*> by_port_;
  std::optional<rings::LocalPort> domain_exceptions_;
  std::vector<rings::LocalPort> taken_ports_;  ///< masked until the turn's end
  bool must_check_domains_ = false;
  std::uint64_t domains_again_us_ = 0;  ///< when the dead are looked for again; 0: when Xen tells
  std::uint64_t rings_again_us_ = 0;    ///< when rings are mapped that could not be; 0: all are
  std::vector<store::ConnId> resetting_;
  std::set<store::ConnId> waiting_for_space_;
  bool space_is_short_ = false;        ///< told once, until there is some
  std::uint64_t tell_no_room_us_ = 0;  ///< a refused change is told of from then on
  std::uint64_t space_again_us_ = 0;   ///< when those try again; 0: nobody waits
  std::vector<store::ConnId> late_;    ///< rings whose guest has left messages waiting
  std::uint64_t late_check_us_ = 0;
  std::uint64_t commits_ = 1;           ///< number of the next one
  std::uint64_t history_again_us_ = 0;  ///< when history is tended though nothing happens; 0: never
  Cause cause_{};                       ///< of the request under execution
  std::vector<Cause> done_;             ///< of messages that have just arrived

  std::vector<Connection*> runnable_;
  std::vector<Connection*> dirty_;
  std::vector<Connection*> closing_;
  KeptClient::Turn saved_turn_;      ///< for save_client()
  std::vector<Connection*> saving_;  ///< kept clients that the commit under way changes

  std::deque<Waiting> young_;                 ///< clients not kept yet, by age
  std::deque<Waiting> put_off_;               ///< those that could not be kept when they were to be
  std::uint64_t keep_check_us_ = 0;           ///< when it is looked at who is due; 0: nobody waits
  std::uint64_t keep_again_us_ = 0;           ///< the keeper or the tmpfs takes nobody before then
  std::vector<store::ConnId> worth_keeping_;  ///< from the commit of this turn on
  std::uint64_t tell_keeper_us_ = 0;          ///< when it may keep up again; 0: it does
  KeptClient::Calls kept_calls_ = KeptClient::Calls::kNoted;
  std::uint64_t kept_received_ = 0;   ///< calls since then
  std::uint64_t calls_since_us_ = 0;  ///< when it was last looked at how many there are
  std::string reply_;                 ///< of the request under execution
  std::string scratch_;               ///< for making paths absolute
  std::string recv_buffer_;
  std::vector<store::ConnId> wake_;
};

/// The NUL-terminated strings of a payload; what follows the last NUL is not one.
std::vector<std::string_view> split_strings(std::string_view payload);
/// A payload that is exactly one string, with its NUL at the very end. Error: kInval.
store::Answer<std::string_view> only_string(std::string_view payload);
/// A decimal number and nothing else, up to `max`. Error: kInval.
store::Answer<std::uint32_t> whole_number(std::string_view text, std::uint32_t max = 0xFFFFFFFF);
/// Leading decimal digits (with sign) as C's atoi reads them; 0 for none.
long leading_number(std::string_view text);

}  // namespace xenstored
