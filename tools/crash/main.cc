// SPDX-License-Identifier: MIT
// xs-crash: kills a xenstored again and again under load and checks each time
// that it kept every promise. README.md in this folder tells how to read it.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "tools/crash/campaign.h"

namespace crash {
namespace {

struct Options {
  CampaignOptions campaign;
  std::string binary = "build/release/bin/xenstored";
  std::string preload;
  bool is_plain = false;
  bool every_effect = false;
  std::int64_t window_us = 4000;
};

/// The program's end, or nothing when it shall run.
std::optional<int> parse(int argc, char** argv, Options& options) {
  CLI::App app{"Kills a xenstored under load and checks that nothing acknowledged was lost"};
  app.add_option("--xenstored", options.binary, "the daemon")->capture_default_str();
  app.add_option("--kills", options.campaign.kills, "how many kills")->capture_default_str();
  app.add_option("--seed", options.campaign.seed, "of traffic and kills")->capture_default_str();
  app.add_option("--clients", options.campaign.clients)->capture_default_str();
  app.add_option("--guests", options.campaign.guests,
                 "domains; needs --xenstored .../xenstored-with-guests")
      ->capture_default_str();
  app.add_option("--window-us", options.window_us, "a kill comes within this time")
      ->capture_default_str();
  app.add_flag("--plain", options.is_plain, "no keeper: xs-crash restarts the server itself");
  app.add_option("--preload", options.preload, "LD_PRELOAD of the server");
  app.add_flag("--every-effect", options.every_effect,
               "kill before and after each effect of a scripted run, and while recovering");
  app.add_option("--counting-library", options.campaign.counting_library,
                 "libeffects.so, for --every-effect");
  app.add_option("--stride", options.campaign.stride, "try each n-th effect only")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  return {};
}

std::string make_directory() {
  std::string name = "/dev/shm/xs-crash.XXXXXX";
  return ::mkdtemp(name.data()) == nullptr ? "" : name;
}

nlohmann::json summary(const Options& options, const Result& result, double seconds) {
  const Statistics& s = result.statistics;
  return {
      {"seed", options.campaign.seed},
      {"kills", result.kills},
      {"kills_while_starting", result.kills_while_starting},
      {"effects", result.effects},
      {"requests", s.requests},
      {"acknowledged", s.acknowledged},
      {"unacknowledged", {{"applied", s.applied}, {"absent", s.absent}, {"unclear", s.unclear}}},
      {"transactions",
       {{"committed", s.committed},
        {"conflicts", s.conflicts},
        {"aborted", s.aborted},
        {"doomed", s.doomed}}},
      {"events", s.events},
      {"poisoned", s.poisoned},
      {"violations", result.violation.empty() ? 0 : 1},
      {"seconds", std::round(seconds * 10) / 10}};
}

int run(Options& options) {
  ServerOptions& server = options.campaign.server;
  server.binary = std::filesystem::absolute(options.binary).string();
  server.directory = make_directory();
  server.has_keeper = !options.is_plain && !options.every_effect;
  if (server.directory.empty()) {
    std::fprintf(stderr, "xs-crash: no directory in /dev/shm\n");
    return 2;
  }
  if (!options.preload.empty())
    server.environment.push_back("LD_PRELOAD=" +
                                 std::filesystem::absolute(options.preload).string());
  options.campaign.window = Microseconds(options.window_us);

  const auto start = Clock::now();
  const Result result = options.every_effect ? run_every_effect(options.campaign)
                                             : run_random_kills(options.campaign);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();

  std::printf("%s\n", summary(options, result, seconds).dump().c_str());
  if (result.violation.empty()) {
    std::filesystem::remove_all(server.directory);
    return 0;
  }
  std::printf("VIOLATION (seed %llu, directory kept: %s)\n%s\n",
              static_cast<unsigned long long>(options.campaign.seed), server.directory.c_str(),
              result.violation.c_str());
  return 1;
}

}  // namespace
}  // namespace crash

// Libraries throw when memory or the directory is gone: nothing was found out then.
int main(int argc, char** argv) try {
  crash::Options options;
  if (const std::optional<int> end = crash::parse(argc, argv, options)) return *end;
  if (options.every_effect && options.campaign.counting_library.empty()) {
    std::fprintf(stderr, "xs-crash: --every-effect needs --counting-library\n");
    return 2;
  }
  return crash::run(options);
} catch (const std::exception& error) {
  std::fprintf(stderr, "xs-crash: %s\n", error.what());
  return 2;
}
