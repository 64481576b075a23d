// SPDX-License-Identifier: MIT
#include "tools/load/report.h"

#include <cmath>
#include <cstdio>

#include "tools/load/server_process.h"

namespace load {
namespace {

bool g_has_failed = false;

/// Three decimals: more would be noise.
double rounded(double value) { return std::round(value * 1000) / 1000; }

double per_operation_us(std::uint64_t total_ns, std::uint64_t ops) {
  return ops == 0 ? 0 : rounded(static_cast<double>(total_ns) / 1000 / static_cast<double>(ops));
}

double us(std::uint64_t ns) { return rounded(static_cast<double>(ns) / 1000); }

}  // namespace

Json describe(const Options& options, const Outcome& outcome, pid_t server) {
  Json line;
  line["scenario"] = options.scenario;
  line["clients"] = options.clients;
  line["inflight"] = options.inflight;
  line["nodes"] = options.nodes;
  line["value_bytes"] = options.value_bytes;
  line["idle"] = options.idle;
  line["watches"] = options.watches;
  line["seconds"] = rounded(outcome.seconds);
  line["ops"] = outcome.ops;
  line["rate"] = std::round(static_cast<double>(outcome.ops) / outcome.seconds);
  line["p50_us"] = us(outcome.latency_ns.at(0.5));
  line["p99_us"] = us(outcome.latency_ns.at(0.99));
  line["p999_us"] = us(outcome.latency_ns.at(0.999));
  line["max_us"] = us(outcome.latency_ns.max());
  line["server_cpu_us_per_op"] = per_operation_us(outcome.server_cpu_ns, outcome.ops);
  line["client_cpu_us_per_op"] = per_operation_us(outcome.client_cpu_ns, outcome.ops);
  const Memory memory = memory_of(server);
  line["server_pid"] = server;
  line["server_rss_kib"] = memory.rss_kib;
  line["server_anon_kib"] = memory.anon_kib;
  line["events"] = outcome.events;
  line["errors"] = outcome.errors;
  if (outcome.errors > 0) line["error_names"] = outcome.error_names;
  return line;
}

void print(const Json& line) {
  std::printf("%s\n", line.dump().c_str());
  std::fflush(stdout);
  const bool is_bad = line.value("errors", std::uint64_t{0}) > 0 || !line.value("ok", true);
  g_has_failed = g_has_failed || is_bad;
}

bool has_failed() { return g_has_failed; }

}  // namespace load
