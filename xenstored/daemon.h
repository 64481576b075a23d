// SPDX-License-Identifier: MIT
/// The daemon: clients, domains and the store, driven in turns.
///
/// A turn gathers what is readable, executes it in memory, commits every effect
/// in one journal transaction, and only then lets replies and events out. So a
/// crash at any instant loses nothing that anybody has seen (ARCHITECTURE.md).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "journal/journal.h"
#include "store/contention.h"
#include "store/store.h"
#include "store/watch.h"
#include "xenstored/connection.h"
#include "xenstored/domains.h"
#include "xenstored/options.h"
#include "xenstored/poison.h"
#include "xenstored/poller.h"
#include "xenstored/trace.h"
#include "xenstored/wire.h"

namespace xenstored {

class Daemon {
 public:
  /// Borrows all; they outlive the daemon.
  Daemon(const Options& options, journal::Journal& journal, PoisonGuard& poison, Trace& trace,
         DomainOracle& oracle);
  ~Daemon();

  /// Takes over what the journal holds; an empty one gets the initial tree.
  /// Error: a sentence; the daemon then is of no use.
  store::Result<void, std::string> recover();

  /// Serves a connected stream socket as a privileged client.
  void accept_client(UniqueFd fd);
  /// Serves a stream as the connection of an introduced domain, in place of an
  /// earlier stream. False: not introduced.
  bool attach_domain(store::Domid domid, UniqueFd fd);
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
  void serve(Connection& conn);
  void serve_left_over();
  void doom_old_transactions();
  bool serve_next(Connection& conn, std::string_view& rest);
  bool can_read(const Connection& conn) const;
  void commit();
  void publish();
  void send(Connection& conn);
  void reap();
  int timeout_ms() const;
  void drop_stream(Connection& conn);
  void close(Connection& conn);
  void update_interest(Connection& conn);
  void mark_dirty(Connection& conn);
  void mark_runnable(Connection& conn);
  void accept_all(int fd);
  void poll_listener(std::uint32_t events);
  void pause_accepting(int error);
  void resume_accepting();
  Connection& new_connection(store::ConnId id, store::Caller caller, bool is_domain);
  Connection* find(store::ConnId id);

  // One request (execute.cc).
  void execute(Connection& conn, const Header& header, std::string_view payload);
  store::Answer<void> dispatch(Session& session);
  void finish(Session& session, const store::Answer<void>& answer);
  bool must_wait(Connection& conn, const Header& header, std::string_view payload);
  bool wait_for_turn_on(Connection& conn, std::string_view path, bool is_removal);
  store::Answer<void> tree_op(Session& session, const store::TreeOp& op);
  bool reserve(const store::TreeOp& op);
  bool reserve(const store::Transaction& transaction);
  void wake(const std::vector<store::ConnId>& conns);
  const store::Limits* limits_of(const Connection& conn);
  void note_refusal(const Connection& conn, store::WireError error, store::TreeOp::Kind kind);
  void note_refusal(const Connection& conn, store::Quota quota);
  std::uint64_t memory_of(const Connection& conn) const;
  bool over_memory(const Connection& conn);

  // Effects (effects.cc).
  void carry_out_effects();
  void fire(const store::Fired& fired);
  void fire_special(std::string_view name, store::Domid domid);
  void send_special(const store::Watch& watch, std::string_view shown);
  void queue_event(Connection& conn, const store::Watch& watch, std::string_view shown);
  void save_domain(const Domain& domain);
  void save_connection(const Connection& conn);
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
  void release(Domain& domain);
  store::Caller domain_caller(store::Domid domid);
  void refresh_callers();
  void make_initial_tree();
  void recover_connection(const journal::ConnectionRecord& record);
  store::Result<void, std::string> recover_domain(const journal::DomainRecord& record);
  store::Result<void, std::string> recover_watch(const journal::WatchRecord& record);
  void set_global_quota(store::Quota quota, std::uint32_t value);
  void refresh_limits(Domain& domain);
  std::string control_quota_list(bool soft) const;
  store::Answer<void> control_quota(const std::vector<std::string_view>& args, bool soft);
  store::Answer<void> control_check();
  store::Answer<void> control_memreport(const std::vector<std::string_view>& args);
  std::string memory_report() const;
  std::vector<std::string> compare_with_journal() const;

  const Options& options_;
  journal::Journal& journal_;
  PoisonGuard& poison_;
  Trace& trace_;
  DomainOracle& oracle_;

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

  std::vector<Connection*> runnable_;
  std::vector<Connection*> dirty_;
  std::vector<Connection*> closing_;
  std::string reply_;    ///< of the request under execution
  std::string scratch_;  ///< for making paths absolute
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
