// SPDX-License-Identifier: MIT
// xs-step: kills a xenstored at one instruction after another of a request and checks
// that its guests notice nothing. README.md in this folder tells how to read it.
#include <sched.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/step/campaign.h"

namespace step {
namespace {

struct Arguments {
  CampaignOptions campaign;
  std::string binary = "build/release/bin/xenstored";
  std::string simxen;
  std::string preload;
  std::vector<std::string> cases;
  std::int64_t patience_s = 10;
  bool is_recovering = false;
};

void add_options(CLI::App& app, Arguments& arguments) {
  CampaignOptions& campaign = arguments.campaign;
  app.add_option("--xenstored", arguments.binary, "the daemon")->capture_default_str();
  app.add_option("--simxen", arguments.simxen, "libsimxen.so; by default that of this build");
  app.add_option("--preload", arguments.preload, "another library for the daemon");
  app.add_option("--case", arguments.cases, "only these cases, or those that begin so");
  app.add_flag("--recovery", arguments.is_recovering,
               "kill it while it recovers, with the case's request cut off");
  app.add_option("--dense-stride", campaign.dense_stride,
                 "from a commit to the last notify, around what sockets receive and send")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--stride", campaign.stride, "elsewhere")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--recovery-stride", campaign.recovery_stride)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--first", campaign.first, "only from this instruction of a turn on");
  app.add_option("--last", campaign.last, "only up to this one");
  app.add_option("--violations", campaign.violations_max, "leave a case after so many")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--patience", arguments.patience_s, "seconds that a guest waits in vain")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

nlohmann::ordered_json summary(const Case& tried, bool is_recovering, const CaseResult& result) {
  nlohmann::ordered_json line = {{"case", tried.name()},
                                 {"killed", is_recovering ? "recovery" : "request"},
                                 {"instructions", result.instructions}};
  if (is_recovering) {
    line["double_kills"] = result.double_kills;
  } else {
    line["turns"] = result.turns;
    line["dense_instructions"] = result.dense_instructions;
    line["dense_kill_points"] = result.dense_kill_points;
    line["dense_missed"] = result.dense_missed;
  }
  line["kill_points"] = result.kill_points;
  line["strayed"] = result.strayed;
  line["violations"] = result.violations;
  line["seconds"] = std::round(result.seconds * 10) / 10;
  return line;
}

bool is_wanted(const Arguments& arguments, std::string_view name) {
  const auto& wanted = arguments.cases;
  return wanted.empty() || std::ranges::any_of(wanted, [name](const std::string& one) {
           return name.starts_with(one);
         });
}

/// The number of violations.
std::size_t run(const Arguments& arguments) {
  std::size_t violations = 0;
  auto cases = ring_cases();
  std::ranges::move(socket_cases(), std::back_inserter(cases));
  for (const auto& tried : cases) {
    if (!is_wanted(arguments, tried->name())) continue;
    const CaseResult result = arguments.is_recovering ? run_recoveries(arguments.campaign, *tried)
                                                      : run_requests(arguments.campaign, *tried);
    std::printf("%s\n", summary(*tried, arguments.is_recovering, result).dump().c_str());
    std::fflush(stdout);
    violations += result.violations;
  }
  return violations;
}

void set_world(Arguments& arguments) {
  namespace fs = std::filesystem;
  World::Options& world = arguments.campaign.world;
  if (arguments.simxen.empty()) {
    arguments.simxen = fs::read_symlink("/proc/self/exe").parent_path() / "../lib/libsimxen.so";
  }
  world.binary = fs::absolute(arguments.binary).string();
  world.preload = fs::canonical(arguments.simxen).string();
  if (!arguments.preload.empty()) world.preload += ":" + fs::canonical(arguments.preload).string();
  world.patience = std::chrono::seconds(arguments.patience_s);
}

/// The alarm interrupts the wait for a server that does not come to a stop.
void take_alarms() {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  sigaction(SIGALRM, &action, nullptr);
}

/// The stepper and the stepped one take turns: on two processors each step would wait for the
/// other one to wake up, which takes four times as long.
void share_one_processor() {
  cpu_set_t here;
  CPU_ZERO(&here);
  CPU_SET(static_cast<std::size_t>(sched_getcpu()), &here);
  sched_setaffinity(0, sizeof here, &here);
}

}  // namespace
}  // namespace step

// Libraries throw when memory or a file is not there: nothing was found out then.
int main(int argc, char** argv) try {
  step::Arguments arguments;
  CLI::App app{"Kills a xenstored at one instruction after another"};
  step::add_options(app, arguments);
  CLI11_PARSE(app, argc, argv);
  step::set_world(arguments);
  step::take_alarms();
  step::share_one_processor();
  std::string directory = "/dev/shm/xs-step.XXXXXX";
  if (::mkdtemp(directory.data()) == nullptr) {
    std::perror("xs-step: no directory in /dev/shm");
    return 2;
  }
  arguments.campaign.world.directory = directory + "/world";
  const std::size_t violations = step::run(arguments);
  std::filesystem::remove_all(directory);
  return violations == 0 ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "xs-step: %s\n", error.what());
  return 2;
}
