// SPDX-License-Identifier: MIT
#include "xenstored/options.h"

#include <getopt.h>

#include <algorithm>
#include <charconv>
#include <climits>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "xenstored/wire.h"

namespace xenstored {
namespace {

using Error = std::optional<std::string>;

/// Long options without a letter.
enum LongOnly {
  kArea = 1000,
  kHistory,
  kHistoryLimit,
  kHistoryArchive,
  kSupervise,
  kCloseClients,
  kSureRate,
  kLog,
  kKept,
};

constexpr const char* kShortOptions = "DE:e:F:HI::Km:NPp:RS:t:A:M:Q:q:T:UVW:w:";

const option kLongOptions[] = {
    {"no-domain-init", no_argument, nullptr, 'D'},
    {"entry-nb", required_argument, nullptr, 'E'},
    {"event", required_argument, nullptr, 'e'},
    {"pid-file", required_argument, nullptr, 'F'},
    {"help", no_argument, nullptr, 'H'},
    {"internal-db", optional_argument, nullptr, 'I'},
    {"keep-orphans", no_argument, nullptr, 'K'},
    {"master-domid", required_argument, nullptr, 'm'},
    {"no-fork", no_argument, nullptr, 'N'},
    {"output-pid", no_argument, nullptr, 'P'},
    {"priv-domid", required_argument, nullptr, 'p'},
    {"no-recovery", no_argument, nullptr, 'R'},
    {"entry-size", required_argument, nullptr, 'S'},
    {"transaction", required_argument, nullptr, 't'},
    {"perm-nb", required_argument, nullptr, 'A'},
    {"path-max", required_argument, nullptr, 'M'},
    {"quota", required_argument, nullptr, 'Q'},
    {"quota-soft", required_argument, nullptr, 'q'},
    {"trace-file", required_argument, nullptr, 'T'},
    {"live-update", no_argument, nullptr, 'U'},
    {"verbose", no_argument, nullptr, 'V'},
    {"watch-nb", required_argument, nullptr, 'W'},
    {"timeout", required_argument, nullptr, 'w'},
    {"area", required_argument, nullptr, kArea},
    {"history", required_argument, nullptr, kHistory},
    {"history-limit", required_argument, nullptr, kHistoryLimit},
    {"history-archive", required_argument, nullptr, kHistoryArchive},
    {"supervise", no_argument, nullptr, kSupervise},
    {"close-clients", no_argument, nullptr, kCloseClients},
    {"sure-rate", required_argument, nullptr, kSureRate},
    {"log", required_argument, nullptr, kLog},
    {"kept", required_argument, nullptr, kKept},
    {nullptr, 0, nullptr, 0},
};

/// 4.17 takes 0..INT_MAX everywhere.
std::optional<std::uint32_t> number(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value > INT_MAX) {
    return std::nullopt;
  }
  return value;
}

Error set_number(std::uint32_t& target, std::string_view option_name, std::string_view text) {
  const auto value = number(text);
  if (!value) {
    return std::string(option_name) + ": \"" + std::string(text) +
           "\" is not a number from 0 to 2147483647";
  }
  target = *value;
  return std::nullopt;
}

struct QuotaName {
  std::string_view name;
  std::uint32_t Quotas::*value;
};

constexpr QuotaName kHardQuotaNames[] = {
    {"nodes", &Quotas::nodes},
    {"watches", &Quotas::watches},
    {"transactions", &Quotas::transactions},
    {"outstanding", &Quotas::outstanding},
    {"memory", &Quotas::memory_hard},
    {"transaction-nodes", &Quotas::transaction_nodes},
    {"node-permissions", &Quotas::node_permissions},
    {"path-max", &Quotas::path_max},
    {"node-size", &Quotas::node_size},
};
constexpr QuotaName kSoftQuotaNames[] = {{"memory", &Quotas::memory_soft}};

template <std::size_t N>
Error set_quota_option(Quotas& quotas, const QuotaName (&names)[N], std::string_view option_name,
                       std::string_view text) {
  const auto equals = text.find('=');
  if (equals == std::string_view::npos) {
    return std::string(option_name) + ": \"" + std::string(text) + "\" is not <what>=<number>";
  }
  for (const QuotaName& known : names) {
    if (text.substr(0, equals) == known.name) {
      return set_number(quotas.*known.value,
                        std::string(option_name) + " " + std::string(known.name),
                        text.substr(equals + 1));
    }
  }
  return std::string(option_name) + ": there is no quota \"" + std::string(text.substr(0, equals)) +
         "\"";
}

Error set_timeout(std::uint32_t& seconds, std::string_view text) {
  constexpr std::string_view kWatchEvent = "watch-event=";
  if (!text.starts_with(kWatchEvent)) {
    return "--timeout: \"" + std::string(text) + "\" is not watch-event=<seconds>";
  }
  return set_number(seconds, "--timeout watch-event", text.substr(kWatchEvent.size()));
}

/// What parsing collects besides the options.
struct Parsing {
  Options options;
  std::string start_dir;
};

/// --kept=<listen fd>,<ready fd>,<lock fd>,<channel fd>,<table fd>,<directory of the first start>
Error set_inherited(Parsing& parsing, std::string_view text) {
  std::uint32_t fds[5] = {};
  for (std::uint32_t& fd : fds) {
    const auto comma = text.find(',');
    if (comma == std::string_view::npos || set_number(fd, "", text.substr(0, comma))) {
      return "--kept is for the keeper's use only";
    }
    text.remove_prefix(comma + 1);
  }
  parsing.options.inherited =
      Inherited{static_cast<int>(fds[0]), static_cast<int>(fds[1]), static_cast<int>(fds[2]),
                static_cast<int>(fds[3]), static_cast<int>(fds[4])};
  parsing.start_dir = text;
  return std::nullopt;
}

Error set_history(Options& options, std::string_view value) {
  if (value != "on" && value != "off") return "--history is on or off";
  options.history_is_off = value == "off";
  return std::nullopt;
}

Error set_history_limit(Options& options, std::string_view value) {
  std::uint32_t megabytes = 0;
  if (auto error = set_number(megabytes, "--history-limit", value)) return error;
  if (megabytes == 0) return "--history-limit is at least 1; --history=off writes none";
  options.history_limit_bytes = std::uint64_t{megabytes} << 20;
  return std::nullopt;
}

Error apply_number(Options& options, int letter, std::string_view value) {
  Quotas& quotas = options.quotas;
  switch (letter) {
    case 'E':
      return set_number(quotas.nodes, "--entry-nb", value);
    case 'S':
      return set_number(quotas.node_size, "--entry-size", value);
    case 't':
      return set_number(quotas.transactions, "--transaction", value);
    case 'A':
      return set_number(quotas.node_permissions, "--perm-nb", value);
    case 'M':
      return set_number(quotas.path_max, "--path-max", value);
    case 'W':
      return set_number(quotas.watches, "--watch-nb", value);
    case 'Q':
      return set_quota_option(quotas, kHardQuotaNames, "--quota", value);
    case 'q':
      return set_quota_option(quotas, kSoftQuotaNames, "--quota-soft", value);
    case 'w':
      return set_timeout(options.watch_event_timeout_s, value);
    case 'e':
      return set_number(options.event_port.emplace(), "--event", value);
    case 'm':
      return set_number(options.master_domid, "--master-domid", value);
    case 'p':
      return set_number(options.priv_domid, "--priv-domid", value);
    default:
      // '?', which getopt has reported; and -R, -I, -U, which change nothing here.
      return std::nullopt;
  }
}

Error apply(Parsing& parsing, int letter, const char* value) {
  Options& options = parsing.options;
  switch (letter) {
    case 'D':
      options.no_domain_init = true;
      break;
    case 'H':
      options.show_help = true;
      break;
    case 'K':
      options.keep_orphans = true;
      break;
    case 'N':
      options.foreground = true;
      break;
    case 'P':
      options.print_pid = true;
      break;
    case 'V':
      options.verbose = true;
      break;
    case 'F':
      options.pid_file = value;
      break;
    case 'T':
      options.trace_file = value;
      break;
    case kArea:
      options.area = value;
      break;
    case kHistory:
      return set_history(options, value);
    case kHistoryLimit:
      return set_history_limit(options, value);
    case kHistoryArchive:
      options.history_archive = value;
      break;
    case kSupervise:
      options.supervise = true;
      break;
    case kCloseClients:
      options.close_clients = true;
      break;
    case kSureRate:
      return set_number(options.sure_rate, "--sure-rate", value);
    case kLog:
      options.log_to = value;
      break;
    case kKept:
      return set_inherited(parsing, value);
    default:
      return apply_number(options, letter, value != nullptr ? value : "");
  }
  return std::nullopt;
}

void take_environment(Options& options) {
  if (const char* dir = std::getenv("XENSTORED_RUNDIR"); dir != nullptr && *dir != '\0') {
    options.run_dir = dir;
  }
  if (const char* path = std::getenv("XENSTORED_PATH"); path != nullptr && *path != '\0') {
    options.socket_path = path;
  }
}

/// A daemon's directory is /, so relative names must be settled before.
void make_absolute(std::string& path, const std::string& start_dir) {
  if (path.empty() || path.front() == '/') return;
  path.insert(0, start_dir + "/");
}

void fill_in(Parsing& parsing) {
  Options& options = parsing.options;
  if (parsing.start_dir.empty()) {
    std::error_code error;
    parsing.start_dir = std::filesystem::current_path(error).string();
  }
  if (options.area.empty()) options.area = options.run_dir + "/area";
  if (options.socket_path.empty()) options.socket_path = options.run_dir + "/socket";
  if (options.log_to.empty()) options.log_to = options.foreground ? "stderr" : "syslog";
  for (std::string* path : {&options.run_dir, &options.area, &options.socket_path,
                            &options.pid_file, &options.trace_file, &options.history_archive}) {
    make_absolute(*path, parsing.start_dir);
  }
  if (options.log_to != "stderr" && options.log_to != "syslog") {
    make_absolute(options.log_to, parsing.start_dir);
  }
  options.quotas.path_max =
      std::min(options.quotas.path_max, static_cast<std::uint32_t>(kRelativePathMax));
}

}  // namespace

store::Result<Options, std::string> parse_options(int argc, char* argv[]) {
  Parsing parsing;
  take_environment(parsing.options);
  optind = 0;  // glibc: begin anew, whoever used getopt before
  int letter;
  while ((letter = getopt_long(argc, argv, kShortOptions, kLongOptions, nullptr)) != -1) {
    if (auto error = apply(parsing, letter, optarg)) return tl::unexpected(*error);
  }
  if (optind < argc) {
    return tl::unexpected("no arguments are expected, but there is \"" + std::string(argv[optind]) +
                          "\"");
  }
  fill_in(parsing);
  return parsing.options;
}

std::string usage() {
  return R"(Usage: xenstored [option...]
Serves Xen's xenstore. Without -N it becomes a daemon: a keeper process, and the
server that the keeper starts again whenever it dies.

Process
  -N, --no-fork             stay in the foreground: one process, no keeper
      --supervise           with -N: put a keeper in front of the server
      --close-clients       when the server dies close its socket clients; else the
                            keeper holds long-lived ones for the next server
      --sure-rate N         above so many requests a second the kept clients are served
                            faster, but when the server dies one of them may be closed:
                            the one just being received from or sent to (25000)
  -F, --pid-file FILE       write the pid (the keeper's, where there is one)
  -P, --output-pid          print that pid
  -D, --no-domain-init      serve the socket only; needs no Xen
  -H, --help                show this

State
      --area DIR            where the state lives, on tmpfs (default: RUNDIR/area)
      --history on|off      keep the tree's history in AREA/history.git (off)
      --history-limit MIB   what it may take; the oldest goes first (64)
      --history-archive DIR where the oldest goes, instead of nowhere
  -K, --keep-orphans        nodes of a dead domain go to dom0 instead of away

Limits of an unprivileged domain
  -E, --entry-nb N          nodes it may own (1000)
  -S, --entry-size N        bytes of one node (2048)
  -W, --watch-nb N          watches (128)
  -t, --transaction N       transactions at a time (10)
  -A, --perm-nb N           permissions of one node (5)
  -M, --path-max N          characters of a path (2048)
  -Q, --quota WHAT=N        nodes, watches, transactions, outstanding (20),
                            memory (2621440 bytes; 0: no limit),
                            transaction-nodes (1024), node-permissions,
                            path-max, node-size
  -q, --quota-soft WHAT=N   memory (2097152 bytes): a warning in the log
  -w, --timeout watch-event=S  seconds a watch event may wait to be read
                            before it is dropped (20; 0: for ever)

Logging
      --log WHERE           stderr (default with -N), syslog (default without),
                            or a file, opened anew on SIGHUP
  -T, --trace-file FILE     write every request and reply there
  -V, --verbose             with -N: write them to standard output

Accepted for the sake of xenstored 4.17
  -e, --event PORT  -m, --master-domid N  -p, --priv-domid N  (stub domains)
  -I, --internal-db[=on|off]  -R, --no-recovery  -U, --live-update  (no effect)

Environment
  XENSTORED_RUNDIR          RUNDIR (/run/xenstored)
  XENSTORED_PATH            the socket (RUNDIR/socket)
  XENSTORED_ROOTDIR         accepted, no effect

Exit status: 0 after an orderly end; 3 when a start was refused and would be again
(bad option, no Xen, another daemon runs); anything else is a failure.
)";
}

}  // namespace xenstored
