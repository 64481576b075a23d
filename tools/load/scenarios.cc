// SPDX-License-Identifier: MIT
#include "tools/load/scenarios.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "tools/load/bench.h"
#include "tools/load/node_sessions.h"
#include "tools/load/report.h"
#include "tools/load/ring_scenarios.h"
#include "tools/load/server_process.h"
#include "tools/load/transaction_sessions.h"

namespace load {
namespace {

using xenstored::Op;
using namespace std::string_view_literals;

void run_read(const Options& options) {
  Bench bench(options);
  bench.make_directories();
  const Background background = bench.make_background();
  auto lanes = bench.make_lanes([&](unsigned client) {
    return std::make_unique<ReadSession>(directory_of(options, client), options.nodes,
                                         options.value_bytes);
  });
  const Outcome outcome = bench.run(lanes);
  print(describe(options, outcome, bench.server()));
  bench.remove(root_of(options));
}

void run_write(const Options& options) {
  Bench bench(options);
  bench.make_directories();
  const Background background = bench.make_background();
  auto lanes = bench.make_lanes([&](unsigned client) {
    return std::make_unique<WriteSession>(directory_of(options, client), options.nodes,
                                          options.value_bytes);
  });
  const Outcome outcome = bench.run(lanes);

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
  bench.make_directories();
  const Background background = bench.make_background();
  auto lanes = bench.make_lanes([&](unsigned client) {
    return std::make_unique<MixedSession>(directory_of(options, client), options.nodes,
                                          options.value_bytes, client);
  });
  // Two clients see every change, as toolstack daemons do.
  for (unsigned client = 0; client < std::min(options.clients, 2u); ++client) {
    Lane& lane = lanes[client];
    lane.out.add(Op::kWatch, 0, {root_of(options), kNul, "all", kNul});
    lane.connection->flush(lane.out);
    if (!is_ok(lane.connection->reply(), Op::kWatch)) die("setting up: WATCH was refused");
    ++lane.next_reply_id;
  }
  const Outcome outcome = bench.run(lanes);
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
  bench.let(counter, "b0");
  const Background background = bench.make_background();
  auto lanes = bench.make_lanes(
      [&](unsigned /*client*/) { return std::make_unique<IncrementSession>(counter); });
  const Outcome outcome = bench.run(lanes);

  Json line = describe(options, outcome, bench.server());
  const std::uint64_t commits = describe_transactions(lanes, line);
  if (options.check) line["ok"] = bench.read(counter) == std::to_string(commits);
  print(line);
  bench.remove(root_of(options));
}

void run_rmw_own(const Options& options) {
  Bench bench(options);
  bench.make_directories();
  const auto counter_of = [&](unsigned client) { return directory_of(options, client) + "/0"; };
  for (unsigned client = 0; client < options.clients; ++client)
    bench.write(counter_of(client), "0");
  const Background background = bench.make_background();
  auto lanes = bench.make_lanes(
      [&](unsigned client) { return std::make_unique<IncrementSession>(counter_of(client)); });
  const Outcome outcome = bench.run(lanes);

  Json line = describe(options, outcome, bench.server());
  describe_transactions(lanes, line);
  bool is_right = line["conflicts"] == 0;
  for (unsigned client = 0; client < options.clients; ++client) {
    const auto& session = static_cast<const IncrementSession&>(*lanes[client].session);
    is_right = is_right && bench.read(counter_of(client)) == std::to_string(session.commits());
  }
  if (options.check) line["ok"] = is_right;
  print(line);
  bench.remove(root_of(options));
}

void run_siblings(const Options& options) {
  Bench bench(options);
  const std::string parent = root_of(options);
  bench.write(parent, "");
  const Background background = bench.make_background();
  auto lanes = bench.make_lanes(
      [&](unsigned client) { return std::make_unique<SiblingSession>(parent, client); });
  const Outcome outcome = bench.run(lanes);

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
  std::vector<Lane> lanes;
  lanes.emplace_back(
      std::make_unique<SocketConnection>(options.socket),
      std::make_unique<InsertSession>(options.nodes, options.scattered ? kScatter : 0));
  return lanes;
}

void run_insert(const Options& options) {
  if (options.clients != 1) die("insert has one client");
  Bench bench(options);
  const Background background = bench.make_background();
  auto lanes = make_inserter(options);
  Driver driver(lanes, bench.server(), nullptr);
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
  const Background background = bench.make_background();

  Outcome outcome;
  const std::uint64_t cpu_before = cpu_ns(bench.server());
  const std::uint64_t from = now_ns();
  const std::uint64_t until = from + static_cast<std::uint64_t>(options.seconds * 1e9);
  std::uint64_t now = from;
  while (options.ops != 0 ? outcome.ops < options.ops : now < until) {
    SocketConnection connection(options.socket);
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
    if (Driver(lanes, 0, nullptr).run(setup).errors > 0) die("setting up: WRITE was refused");
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
    SocketConnection connection(options.socket);
    const Frame reply = connection.ask(Op::kRead, {leaf_path(leaf), kNul});
    const std::uint64_t answered = now_ns();
    if (!reply.is(Op::kRead) || reply.payload != ten_digits(leaf)) ++wrong;
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

void run_restart_of_any(const Options& options) {
  if (options.machine.empty()) return run_restart(options);
  run_ring_restart(options);
}

constexpr Clients kAny = Clients::kAny;
constexpr Clients kSockets = Clients::kSockets;
constexpr Clients kGuests = Clients::kGuests;
constexpr std::array kScenarios = {
    Scenario{"read", "READ of existing nodes", kAny, 1, 1, run_read},
    Scenario{"write", "WRITE to existing nodes", kAny, 1, 1, run_write},
    Scenario{"rmw", "read-modify-write transactions on one node", kAny, 16, 1, run_rmw},
    Scenario{"rmw-own", "the same, each client on a node of its own", kAny, 16, 1, run_rmw_own},
    Scenario{"siblings", "transactions creating children of one parent", kSockets, 16, 1,
             run_siblings},
    Scenario{"insert", "a growing tree, a line each decade", kSockets, 1, 1'000'000, run_insert},
    Scenario{"mixed", "reads, writes, directories and watches", kAny, 16, 20, run_mixed},
    Scenario{"oneshot", "connect, READ, close", kSockets, 1, 1, run_oneshot},
    Scenario{"restart", "kill -9 to the first answer (on every ring)", kAny, 1, 100'000,
             run_restart_of_any},
    Scenario{"deaths", "all domains destroyed at once", kGuests, 500, 5, run_deaths},
};

}  // namespace

std::span<const Scenario> scenarios() { return kScenarios; }

}  // namespace load
