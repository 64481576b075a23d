// SPDX-License-Identifier: MIT
/// xs-load: drives a xenstore server and measures it. One JSON line a measurement on standard
/// output. Exit status: 0 all as expected, 1 a reply or a final check was wrong, 2 no measurement.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>

#include "tools/load/report.h"
#include "tools/load/scenarios.h"

namespace {

using load::Options;

void add_options(CLI::App& app, Options& options) {
  const auto at_least = [](double low) { return CLI::Range(low, 1e9); };
  app.add_option("--socket", options.socket, "the server's unix socket")->required();
  app.add_option("--machine", options.machine,
                 "the stand-in machine it runs on (tests/simxen): clients are domains of it");
  app.add_option("--scenario", options.scenario, "what to measure")->required();
  app.add_option("--seconds", options.seconds, "length of the measurement")->check(at_least(0.01));
  app.add_option("--warmup", options.warmup, "seconds before it that do not count");
  app.add_option("--ops", options.ops, "measure so many operations instead of --seconds");
  app.add_option("--clients", options.clients, "connections that work")->check(at_least(1));
  app.add_option("--inflight", options.inflight, "requests on their way on each")
      ->check(CLI::Range(1, 512));
  app.add_option("--idle", options.idle, "silent connections beside them");
  app.add_option("--watches", options.watches, "unrelated watches held by 4 more connections");
  app.add_option("--nodes", options.nodes, "nodes of each client; insert, restart: leaves");
  app.add_option("--value", options.value_bytes, "bytes of a value")->check(CLI::Range(10, 2000));
  app.add_option("--area", options.area, "the server's area, for its bytes a node (insert)");
  app.add_flag("--scattered", options.scattered, "insert leaves out of order");
  app.add_option("--kills", options.kills, "restart: how many")->check(at_least(1));
  app.add_option("--pause", options.pause, "restart: seconds before each kill");
  app.add_option("--pid", options.pid, "the server's process, if the socket does not tell");
  app.add_flag("!--no-check", options.check, "do not compare what was stored in the end");
}

std::string footer() {
  std::string text = "Scenarios:";
  for (const auto& scenario : load::scenarios()) {
    text.append("\n  ").append(scenario.name).append(": ").append(scenario.summary);
  }
  return text;
}

void raise_file_limit() {
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
}

int run(int argc, char** argv) {
  Options options;
  CLI::App app{"Drives a xenstore server and measures it."};
  app.footer(footer());
  add_options(app, options);
  CLI11_PARSE(app, argc, argv);

  const auto all = load::scenarios();
  const auto found = std::find_if(all.begin(), all.end(), [&](const load::Scenario& scenario) {
    return scenario.name == options.scenario;
  });
  if (found == all.end()) load::die("no such scenario: " + options.scenario);
  if (found->whose == load::Clients::kSockets && !options.machine.empty()) {
    load::die("the clients of this scenario are sockets: no --machine");
  }
  if (found->whose == load::Clients::kGuests && options.machine.empty()) {
    load::die("the clients of this scenario are domains: --machine is needed");
  }
  if (options.clients == 0) options.clients = found->clients;
  if (options.nodes == 0) options.nodes = found->nodes;
  raise_file_limit();
  found->run(options);
  return load::has_failed() ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  // Only the libraries throw: bad_alloc, and what the option parser does not report itself.
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "xs-load: %s\n", error.what());
    return 2;
  }
}
