// SPDX-License-Identifier: MIT
/// The command line and environment of xenstored: all of C xenstored 4.17's
/// options, so that /etc/default/xen and every launch script go on working, and
/// a few of our own. Parsing has no effect but messages of getopt on stderr.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "store/result.h"

namespace xenstored {

/// How the process ends. The keeper and the systemd unit look at these.
inline constexpr int kExitFailed = 1;
/// A start that would fail again in the same way and must not be retried: bad
/// option, no Xen, another daemon on the socket or area, newer area format.
inline constexpr int kExitRefused = 3;

/// What one unprivileged domain may hold; defaults are those of 4.17.
struct Quotas {
  std::uint32_t nodes = 1000;
  std::uint32_t watches = 128;
  std::uint32_t transactions = 10;
  /// Requests a domain may have waiting for something before it is not read.
  std::uint32_t outstanding = 20;
  /// Bytes; 0 switches the limit off.
  std::uint32_t memory_hard = 2 * 1024 * 1024 + 512 * 1024;
  std::uint32_t memory_soft = 2 * 1024 * 1024;
  std::uint32_t transaction_nodes = 1024;
  std::uint32_t node_permissions = 5;
  /// Characters of a relative path; never above 2048.
  std::uint32_t path_max = 2048;
  /// Bytes of a node's whole record, as 4.17 counts it.
  std::uint32_t node_size = 2048;
};

/// Descriptors that a server inherits from its keeper (internal option --kept).
struct Inherited {
  int listen_fd;
  /// One byte is written here when the server serves.
  int ready_fd;
  /// Holds the socket's lock for as long as keeper or server lives.
  int lock_fd;
  /// Of the clients that the keeper holds (held_clients.h).
  int channel_fd;
  int table_fd;
};

/// Paths are absolute: relative ones are taken from the directory of the start.
struct Options {
  bool no_domain_init = false;  ///< -D: sockets only, no Xen needed
  bool foreground = false;      ///< -N
  bool supervise = false;       ///< --supervise: a keeper also with -N
  bool close_clients = false;   ///< --close-clients: sockets end with their server
  /// --sure-rate: requests a second of kept clients up to which a crash closes none of them.
  std::uint32_t sure_rate = 25'000;
  bool print_pid = false;     ///< -P
  bool keep_orphans = false;  ///< -K
  bool verbose = false;       ///< -V; with -N the trace goes to stdout
  bool show_help = false;     ///< -H

  std::string pid_file;    ///< -F; empty: none
  std::string trace_file;  ///< -T; empty: none
  std::string run_dir = "/run/xenstored";
  std::string socket_path;     ///< run_dir/socket unless XENSTORED_PATH says otherwise
  std::string area;            ///< --area; run_dir/area by default
  bool history_is_off = true;  ///< unless --history=on
  std::uint64_t history_limit_bytes = std::uint64_t{64} << 20;  ///< --history-limit
  std::string history_archive;  ///< --history-archive; empty: old history is dropped
  /// "stderr", "syslog" or an absolute file name; the default is filled in.
  std::string log_to;

  std::uint32_t watch_event_timeout_s = 20;  ///< -w watch-event=S; 0 = never
  Quotas quotas;

  /// For a daemon in a stub domain; parsed, no use in dom0.
  std::optional<std::uint32_t> event_port;  ///< -e
  std::uint32_t master_domid = 0;           ///< -m
  std::uint32_t priv_domid = 0;             ///< -p: also privileged, unless 0

  std::optional<Inherited> inherited;

  /// The server's own pid, whoever keeps it: run_dir/xenstored-server.pid.
  std::string server_pid_file() const { return run_dir + "/xenstored-server.pid"; }
};

/// Error: a sentence for the operator (bad number, unknown quota, positional
/// argument). An unknown option is reported by getopt on stderr and ignored, as
/// 4.17 does. -R, -I and -U are accepted and have no effect: recovery is never
/// off, there is no TDB, and live update is "start again".
store::Result<Options, std::string> parse_options(int argc, char* argv[]);

/// The text of --help.
std::string usage();

}  // namespace xenstored
