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
  bool has_kernel = false;
  std::string simxen;
  std::int64_t window_us = 4000;
  std::int64_t calm_ms = 300;
};

/// The program's end, or nothing when it shall run.
std::optional<int> parse(int argc, char** argv, Options& options) {
  CLI::App app{"Kills a xenstored under load and checks that nothing acknowledged was lost"};
  app.add_option("--xenstored", options.binary, "the daemon")->capture_default_str();
  app.add_option("--kills", options.campaign.kills, "how many kills")->capture_default_str();
  app.add_option("--seed", options.campaign.seed, "of traffic and kills")->capture_default_str();
  app.add_option("--clients", options.campaign.clients)->capture_default_str();
  auto* guests = app.add_option("--guests", options.campaign.guests,
                                "domains on rings, on a machine of the stand-in hypervisor")
                     ->capture_default_str();
  auto* kernel = app.add_flag("--dom0-kernel", options.has_kernel,
                              "rings, if only dom0's own (with --guests: implied)");
  auto* sockets = app.add_option("--sockets", options.campaign.sockets,
                                 "clients on sockets whose connections outlive the server")
                      ->capture_default_str()
                      ->check(CLI::PositiveNumber)
                      ->excludes(guests)
                      ->excludes(kernel);
  app.add_option("--newcomers", options.campaign.newcomers,
                 "beside --sockets, clients that leave and come again")
      ->capture_default_str()
      ->needs(sockets);
  app.add_option("--sure-rate", options.campaign.sure_rate,
                 "of the daemon: beyond so many requests a second each kill may close one")
      ->capture_default_str()
      ->needs(sockets);
  app.add_option("--calm-ms", options.calm_ms, "how long these play before the first kill")
      ->capture_default_str();
  app.add_option("--simxen", options.simxen, "libsimxen.so (that of this build)");
  app.add_option("--window-us", options.window_us, "a kill comes within this time")
      ->capture_default_str();
  app.add_flag("--plain", options.is_plain, "no keeper: xs-crash restarts the server itself")
      ->excludes(sockets);
  app.add_option("--argument", options.campaign.server.arguments,
                 "one more for the daemon, e.g. --argument=--trace-file=/dev/shm/trace");
  app.add_option("--preload", options.preload, "LD_PRELOAD of the server");
  app.add_flag("--every-effect", options.every_effect,
               "kill before and after each effect of a scripted run, and while recovering")
      ->excludes(sockets);
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

std::string find_simxen(const Options& options) {
  if (!options.simxen.empty()) return std::filesystem::absolute(options.simxen).string();
  const auto own = std::filesystem::read_symlink("/proc/self/exe");
  return (own.parent_path().parent_path() / "lib" / "libsimxen.so").string();
}

nlohmann::json stream_summary(const RingStatistics& s) {
  return {{"requests", s.requests},
          {"replies", s.replies},
          {"longer_than_a_ring", s.large},
          {"events", s.events},
          {"events_of_others", s.foreign_events},
          {"transactions",
           {{"committed", s.committed},
            {"conflicts", s.conflicts},
            {"aborted", s.aborted},
            {"doomed", s.doomed}}}};
}

nlohmann::json ring_summary(const RingStatistics& s) {
  nlohmann::json summary = stream_summary(s);
  summary["domains"] = {{"introduced", s.introductions},
                        {"ended", s.deaths},
                        {"suspended", s.shutdowns},
                        {"introduced_again", s.reintroductions},
                        {"reconnected", s.reconnections}};
  return summary;
}

nlohmann::json summary(const Options& options, const Result& result, double seconds) {
  const Statistics& s = result.statistics;
  if (options.campaign.sockets > 0)
    return {{"seed", options.campaign.seed},
            {"kills", result.kills + result.kills_while_starting},
            {"kills_while_starting", result.kills_while_starting},
            {"busy_at_kill", result.sockets.busy_at_kill},
            {"closed", result.sockets.closed},
            {"closed_kept", result.sockets.closed_kept},
            {"newcomers_closed", result.sockets.newcomers_closed},
            {"newcomers_left", result.sockets.newcomers_left},
            {"streams", stream_summary(result.rings)},
            {"violations", result.violation.empty() ? 0 : 1},
            {"seconds", std::round(seconds * 10) / 10}};
  if (options.campaign.has_rings)
    return {{"seed", options.campaign.seed},
            {"kills", result.kills + result.kills_while_starting},
            {"kills_while_starting", result.kills_while_starting},
            {"effects", result.effects},
            {"rings", ring_summary(result.rings)},
            {"violations", result.violation.empty() ? 0 : 1},
            {"seconds", std::round(seconds * 10) / 10}};
  return {
      {"seed", options.campaign.seed},
      {"kills", result.kills},
      {"kills_while_starting", result.kills_while_starting},
      {"effects", result.effects},
      {"requests", s.requests},
      {"acknowledged", s.acknowledged},
      {"unacknowledged", {{"applied", s.applied}, {"absent", s.absent}, {"unclear", s.unclear}}},
      {"transactions",
       {{"committed", s.committed}, {"conflicts", s.conflicts}, {"aborted", s.aborted}}},
      {"events", s.events},
      {"poisoned", s.poisoned},
      {"violations", result.violation.empty() ? 0 : 1},
      {"seconds", std::round(seconds * 10) / 10}};
}

Result run_campaign(const Options& options) {
  const bool has_rings = options.campaign.has_rings;
  if (options.campaign.sockets > 0) return run_random_socket_kills(options.campaign);
  if (options.every_effect)
    return has_rings ? run_every_ring_effect(options.campaign) : run_every_effect(options.campaign);
  return has_rings ? run_random_ring_kills(options.campaign) : run_random_kills(options.campaign);
}

int run(Options& options) {
  ServerOptions& server = options.campaign.server;
  server.binary = std::filesystem::absolute(options.binary).string();
  server.directory = make_directory();
  server.has_keeper = !options.is_plain && !options.every_effect;
  server.closes_clients = options.campaign.sockets == 0;
  if (server.directory.empty()) {
    std::fprintf(stderr, "xs-crash: no directory in /dev/shm\n");
    return 2;
  }
  std::string preload;
  if (!options.preload.empty()) preload = std::filesystem::absolute(options.preload).string();
  options.campaign.has_rings = server.has_rings = options.has_kernel || options.campaign.guests > 0;
  if (server.has_rings) {
    options.campaign.simxen_library = find_simxen(options);
    if (!preload.empty()) options.campaign.simxen_library.insert(0, preload + ":");
  } else if (!preload.empty()) {
    server.environment.push_back("LD_PRELOAD=" + preload);
  }
  options.campaign.window = Microseconds(options.window_us);
  options.campaign.calm = Milliseconds(options.calm_ms);

  const auto start = Clock::now();
  const Result result = run_campaign(options);
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
