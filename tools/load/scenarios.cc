// SPDX-License-Identifier: MIT
#include "tools/load/scenarios.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <utility>

#include "tools/load/node_sessions.h"
#include "tools/load/report.h"
#include "tools/load/server_process.h"
#include "tools/load/transaction_sessions.h"

namespace load {
namespace {

using xenstored::Op;
using namespace std::string_view_literals;

constexpr std::string_view kNul = "\0"sv;
constexpr unsigned kSetupInflight = 64;

/// The server's pid. Asked after a first reply: a keeper listens before its server has begun.
pid_t find_serving(const std::string& socket_path, Connection& connection) {
  connection.ask(Op::kRead, {"/", kNul});
  return find_server(socket_path, connection.fd());
}

/// A connection for setting up, checking and clearing away, and the server's pid.
class Bench {
 public:
  explicit Bench(const Options& options)
      : control_(options.socket),
        server_(options.pid != 0 ? options.pid : find_serving(options.socket, control_)) {}

  pid_t server() const { return server_; }

  void write(const std::string& path, std::string_view value) {
    if (!is_ok(control_.ask(Op::kWrite, {path, kNul, value}), Op::kWrite)) {
      die("setting up: WRITE " + path + " was refused");
    }
  }

  std::string read(const std::string& path) {
    const Frame reply = control_.ask(Op::kRead, {path, kNul});
    return reply.is(Op::kRead) ? std::string(reply.payload) : std::string();
  }

  void remove(const std::string& path) { control_.ask(Op::kRm, {path, kNul}); }

  /// How many children a node has, by as many DIRECTORY_PART as it takes.
  std::uint64_t count_children(const std::string& path);

 private:
  Connection control_;
  pid_t server_;
};

std::uint64_t Bench::count_children(const std::string& path) {
  std::uint64_t children = 0;
  std::size_t offset = 0;
  while (true) {
    const Frame reply =
        control_.ask(Op::kDirectoryPart, {path, kNul, std::to_string(offset), kNul});
    if (!reply.is(Op::kDirectoryPart)) return 0;
    // "<generation>\0" comes first; an empty name marks the end of the list.
    std::string_view names = reply.payload.substr(reply.payload.find('\0') + 1);
    const bool is_last = names == "\0"sv || names.ends_with("\0\0"sv);
    if (is_last) names.remove_suffix(1);
    children += static_cast<std::uint64_t>(std::count(names.begin(), names.end(), '\0'));
    offset += names.size();
    if (is_last) return children;
  }
}

/// WATCH on distinct paths where no scenario writes.
class WatchSession : public Session {
 public:
  explicit WatchSession(std::uint64_t first) : next_(first) {}

  void begin(Outbox& out) override {
    const std::string number = std::to_string(next_ % 1000);
    const std::string directory = "/bench-watched/" + std::to_string(next_ / 1000) + "/";
    ++next_;
    out.add(Op::kWatch, 0, {directory, number, kNul, "token", kNul});
  }
  Step on_reply(const Frame& reply, Outbox& /*out*/) override {
    return is_ok(reply, Op::kWatch) ? Step::kDone : Step::kWrong;
  }

 private:
  std::uint64_t next_;
};

/// Connections that only exist while something else is measured.
struct Background {
  std::vector<Connection> silent;
  std::vector<Lane> watchers;
};

Background make_background(const Options& options) {
  constexpr unsigned kWatchers = 4;
  Background background;
  for (unsigned i = 0; i < options.idle; ++i) background.silent.emplace_back(options.socket);
  if (options.watches == 0) return background;

  background.watchers.reserve(kWatchers);
  const std::uint64_t each = (options.watches + kWatchers - 1) / kWatchers;
  for (unsigned i = 0; i < kWatchers; ++i) {
    background.watchers.emplace_back(options.socket, std::make_unique<WatchSession>(i * each));
  }
  Options setup = options;
  setup.ops = options.watches;
  setup.inflight = kSetupInflight;
  if (Driver(background.watchers, 0).run(setup).errors > 0) die("setting up: WATCH was refused");
  return background;
}

std::string directory_of(const Options& options, unsigned client) {
  return "/bench/" + options.scenario + "/" + std::to_string(client);
}

std::string root_of(const Options& options) { return "/bench/" + options.scenario; }

/// Gives every client a directory of its own, holding the nodes 0 to `nodes` - 1.
void make_directories(Bench& bench, const Options& options) {
  for (unsigned client = 0; client < options.clients; ++client) {
    for (std::uint64_t node = 0; node < options.nodes; ++node) {
      bench.write(directory_of(options, client) + "/" + std::to_string(node),
                  plain_value(options.value_bytes));
    }
  }
}

/// A lane for each client, with the session that `make(client)` gives.
template <class Make>
std::vector<Lane> make_lanes(const Options& options, Make make) {
  std::vector<Lane> lanes;
  lanes.reserve(options.clients);
  for (unsigned client = 0; client < options.clients; ++client) {
    lanes.emplace_back(options.socket, make(client));
  }
  return lanes;
}

void run_read(const Options& options) {
  Bench bench(options);
  make_directories(bench, options);
  const Background background = make_background(options);
  auto lanes = make_lanes(options, [&](unsigned client) {
    return std::make_unique<ReadSession>(directory_of(options, client), options.nodes,
                                         options.value_bytes);
  });
  const Outcome outcome = Driver(lanes, bench.server()).run(options);
  print(describe(options, outcome, bench.server()));
  bench.remove(root_of(options));
}

void run_write(const Options& options) {
  Bench bench(options);
  make_directories(bench, options);
  const Background background = make_background(options);
  auto lanes = make_lanes(options, [&](unsigned client) {
    return std::make_unique<WriteSession>(directory_of(options, client), options.nodes,
                                          options.value_bytes);
  });
  const Outcome outcome = Driver(lanes, bench.server()).run(options);

  Json line = describe(options, outcome, bench.server());
  for (unsigned client = 0; options.check && client < options.clients; ++client) {
    const auto& session = static_cast<const WriteSession&>(*lanes[client].session);
    const std::string path =
        directory_of(options, client) + "/" + std::to_string(session.last_node());
    if (!bench.read(path).ends_with(session.last_digits())) line["ok"] = false;
  }
  print(line);
  bench.remove(root_of(options));
}

void run_mixed(const Options& options) {
  Bench bench(options);
  make_directories(bench, options);
  const Background background = make_background(options);
  auto lanes = make_lanes(options, [&](unsigned client) {
    return std::make_unique<MixedSession>(directory_of(options, client), options.nodes,
                                          options.value_bytes, client);
  });
  // Two clients see every change, as toolstack daemons do.
  for (unsigned client = 0; client < std::min(options.clients, 2u); ++client) {
    Lane& lane = lanes[client];
    lane.out.add(Op::kWatch, 0, {root_of(options), kNul, "all", kNul});
    lane.connection.flush(lane.out);
    if (!is_ok(lane.connection.reply(), Op::kWatch)) die("setting up: WATCH was refused");
    ++lane.next_reply_id;
  }
  const Outcome outcome = Driver(lanes, bench.server()).run(options);
  print(describe(options, outcome, bench.server()));
  bench.remove(root_of(options));
}

/// Adds the conflicts to a transaction scenario's line, and how the clients fared against each
/// other. Returns the commits of all phases.
std::uint64_t describe_transactions(const std::vector<Lane>& lanes, Json& line) {
  std::uint64_t commits = 0;
  std::uint64_t conflicts = 0;
  std::uint64_t p99_ns = 0;
  std::uint64_t slowest_ns = 0;
  std::uint64_t fewest = lanes.front().ops;
  std::uint64_t most = 0;
  for (const Lane& lane : lanes) {
    const auto& session = static_cast<const TransactionSession&>(*lane.session);
    commits += session.commits();
    conflicts += session.conflicts();
    p99_ns = std::max(p99_ns, lane.latency_ns.at(0.99));
    slowest_ns = std::max(slowest_ns, lane.latency_ns.max());
    fewest = std::min(fewest, lane.ops);
    most = std::max(most, lane.ops);
  }
  line["conflicts"] = conflicts;
  line["attempts_per_commit"] =
      commits == 0 ? 0 : static_cast<double>(commits + conflicts) / static_cast<double>(commits);
  line["worst_client_p99_us"] = static_cast<double>(p99_ns) / 1000;
  line["slowest_us"] = static_cast<double>(slowest_ns) / 1000;
  line["fewest_commits_of_a_client"] = fewest;
  line["most_commits_of_a_client"] = most;
  return commits;
}

void run_rmw(const Options& options) {
  Bench bench(options);
  const std::string counter = root_of(options) + "/counter";
  bench.write(counter, "0");
  const Background background = make_background(options);
  auto lanes = make_lanes(
      options, [&](unsigned /*client*/) { return std::make_unique<IncrementSession>(counter); });
  const Outcome outcome = Driver(lanes, bench.server()).run(options);

  Json line = describe(options, outcome, bench.server());
  const std::uint64_t commits = describe_transactions(lanes, line);
  if (options.check) line["ok"] = bench.read(counter) == std::to_string(commits);
  print(line);
  bench.remove(root_of(options));
}

void run_siblings(const Options& options) {
  Bench bench(options);
  const std::string parent = root_of(options);
  bench.write(parent, "");
  const Background background = make_background(options);
  auto lanes = make_lanes(
      options, [&](unsigned client) { return std::make_unique<SiblingSession>(parent, client); });
  const Outcome outcome = Driver(lanes, bench.server()).run(options);

  Json line = describe(options, outcome, bench.server());
  const std::uint64_t commits = describe_transactions(lanes, line);
  if (options.check) {
    line["ok"] = line["conflicts"] == 0 && bench.count_children(parent) == commits;
  }
  print(line);
  bench.remove(root_of(options));
}

/// All the server holds, shared out to the tree's nodes: what it held before the first is counted
/// too, so the figures err upwards, the more so the smaller the tree.
void describe_size(const Options& options, pid_t server, std::uint64_t nodes, Json& line) {
  const auto per_node = [nodes](std::uint64_t bytes) {
    return std::round(static_cast<double>(bytes) / static_cast<double>(nodes) * 10) / 10;
  };
  line["nodes_in_tree"] = nodes;
  line["anon_bytes_per_node"] = per_node(memory_of(server).anon_kib * 1024);
  if (!options.area.empty()) line["area_bytes_per_node"] = per_node(allocated_bytes(options.area));
}

// A prime that divides no power of ten, so every leaf is met once.
constexpr std::uint64_t kScatter = 7919;

std::vector<Lane> make_inserter(const Options& options) {
  return make_lanes(options, [&](unsigned /*client*/) {
    return std::make_unique<InsertSession>(options.nodes, options.scattered ? kScatter : 0);
  });
}

void run_insert(const Options& options) {
  if (options.clients != 1) die("insert has one client");
  Bench bench(options);
  const Background background = make_background(options);
  auto lanes = make_inserter(options);
  Driver driver(lanes, bench.server());
  std::uint64_t done = 0;
  for (std::uint64_t target = 1000; done < options.nodes; target *= 10) {
    Options step = options;
    step.ops = std::min(target, options.nodes) - done;
    const Outcome outcome = driver.run(step);
    Json line = describe(step, outcome, bench.server());
    line["from"] = done;
    done += step.ops;
    line["to"] = done;
    line["us_per_insert"] = outcome.seconds * 1e6 / static_cast<double>(step.ops);
    if (!options.scattered || done == options.nodes) {
      describe_size(options, bench.server(), tree_nodes(done), line);
    }
    print(line);
  }
}

void run_oneshot(const Options& options) {
  Bench bench(options);
  const std::string path = root_of(options) + "/node";
  const std::string value = plain_value(options.value_bytes);
  bench.write(path, value);
  const Background background = make_background(options);

  Outcome outcome;
  const std::uint64_t cpu_before = cpu_ns(bench.server());
  const std::uint64_t from = now_ns();
  const std::uint64_t until = from + static_cast<std::uint64_t>(options.seconds * 1e9);
  std::uint64_t now = from;
  while (options.ops != 0 ? outcome.ops < options.ops : now < until) {
    Connection connection(options.socket);
    const Frame reply = connection.ask(Op::kRead, {path, kNul});
    if (!reply.is(Op::kRead) || reply.payload != value) ++outcome.errors;
    ++outcome.ops;
    const std::uint64_t end = now_ns();
    outcome.latency_ns.add(end - now);
    now = end;
  }
  outcome.seconds = static_cast<double>(now - from) / 1e9;
  outcome.server_cpu_ns = cpu_ns(bench.server()) - cpu_before;
  print(describe(options, outcome, bench.server()));
  bench.remove(root_of(options));
}

void sleep_for(double seconds) {
  timespec time{};
  time.tv_sec = static_cast<time_t>(seconds);
  time.tv_nsec = static_cast<long>((seconds - static_cast<double>(time.tv_sec)) * 1e9);
  nanosleep(&time, nullptr);
}

/// Kills the process and waits until it is gone, all its descriptors closed.
void kill_and_wait(pid_t pid) {
  const int handle = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (handle < 0) die("pidfd_open " + std::to_string(pid), errno);
  if (kill(pid, SIGKILL) != 0) die("kill", errno);
  pollfd gone{handle, POLLIN, 0};
  while (poll(&gone, 1, -1) < 0 && errno == EINTR) {
  }
  close(handle);
}

/// The pid in the pid file, once it is not `dead`.
pid_t wait_for_successor(const std::string& socket_path, pid_t dead) {
  const std::uint64_t until = now_ns() + 10'000'000'000;
  while (now_ns() < until) {
    const pid_t pid = server_pid_from_file(socket_path);
    if (pid != 0 && pid != dead) return pid;
    sleep_for(0.001);
  }
  die("no new server in xenstored-server.pid; is there a keeper?");
}

std::string digits_of(std::uint64_t leaf) {
  std::string digits = std::to_string(leaf);
  return std::string(10 - digits.size(), '0') + digits;
}

void run_restart(const Options& options) {
  pid_t server = 0;
  {
    const Bench bench(options);
    server = server_pid_from_file(options.socket);
    if (server == 0) die("restart needs a supervised server (xenstored-server.pid)");
    auto lanes = make_inserter(options);
    Options setup = options;
    setup.ops = options.nodes;
    setup.inflight = kSetupInflight;
    if (Driver(lanes, 0).run(setup).errors > 0) die("setting up: WRITE was refused");
  }
  std::vector<double> answer_ms;
  std::vector<double> gone_ms;
  std::uint64_t wrong = 0;
  for (unsigned i = 0; i < options.kills; ++i) {
    sleep_for(options.pause);
    const std::uint64_t leaf = options.nodes * (i + 1) / (options.kills + 1);
    const std::uint64_t killed = now_ns();
    kill_and_wait(server);
    const std::uint64_t gone = now_ns();
    Connection connection(options.socket);
    const Frame reply = connection.ask(Op::kRead, {leaf_path(leaf), kNul});
    const std::uint64_t answered = now_ns();
    if (!reply.is(Op::kRead) || reply.payload != digits_of(leaf)) ++wrong;
    answer_ms.push_back(static_cast<double>(answered - killed) / 1e6);
    gone_ms.push_back(static_cast<double>(gone - killed) / 1e6);
    server = wait_for_successor(options.socket, server);
  }
  Json line;
  line["scenario"] = options.scenario;
  line["nodes"] = tree_nodes(options.nodes);
  line["kills"] = options.kills;
  line["answer_ms"] = answer_ms;
  std::sort(answer_ms.begin(), answer_ms.end());
  std::sort(gone_ms.begin(), gone_ms.end());
  line["answer_ms_p50"] = answer_ms[answer_ms.size() / 2];
  line["answer_ms_max"] = answer_ms.back();
  line["gone_ms_p50"] = gone_ms[gone_ms.size() / 2];
  line["server_anon_kib"] = memory_of(server).anon_kib;
  line["errors"] = wrong;
  print(line);
}

constexpr std::array kScenarios = {
    Scenario{"read", "READ of existing nodes", 1, 1, run_read},
    Scenario{"write", "WRITE to existing nodes", 1, 1, run_write},
    Scenario{"rmw", "read-modify-write transactions on one node", 16, 1, run_rmw},
    Scenario{"siblings", "transactions creating children of one parent", 16, 1, run_siblings},
    Scenario{"insert", "a growing tree, a line each decade", 1, 1'000'000, run_insert},
    Scenario{"mixed", "reads, writes, directories and watches", 16, 20, run_mixed},
    Scenario{"oneshot", "connect, READ, close", 1, 1, run_oneshot},
    Scenario{"restart", "kill -9 to the first answer", 1, 100'000, run_restart},
};

}  // namespace

std::span<const Scenario> scenarios() { return kScenarios; }

}  // namespace load
