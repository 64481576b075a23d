// SPDX-License-Identifier: MIT
// What a commit of history costs (the figures of journal/README.md). Not a test: built
// and run by hand,
//   ninja -C build/release history_bench && build/release/bin/history_bench
//   build/release/bin/history_bench bound CHANGES DOMAINS   (how the limit holds)
// Times are the thread's own CPU; commits are of traffic like a toolstack's.
#include <time.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "journal/history_repository.h"

namespace journal::testing {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::exit(1);
}

template <class Result>
void must(const Result& result) {
  if (!result.has_value()) give_up(result.error());
}

double cpu_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

/// What xl makes of a domain with a disk, a network card and a console, about.
const std::vector<std::string> kGuestNodes = {"",
                                              "/name",
                                              "/domid",
                                              "/vm",
                                              "/cpu",
                                              "/cpu/0",
                                              "/cpu/0/availability",
                                              "/memory",
                                              "/memory/static-max",
                                              "/memory/target",
                                              "/memory/videoram",
                                              "/control",
                                              "/control/shutdown",
                                              "/control/feature-poweroff",
                                              "/control/feature-reboot",
                                              "/control/feature-suspend",
                                              "/control/platform-feature-multiprocessor-suspend",
                                              "/data",
                                              "/drivers",
                                              "/feature",
                                              "/attr",
                                              "/error",
                                              "/store",
                                              "/store/port",
                                              "/store/ring-ref",
                                              "/console",
                                              "/console/port",
                                              "/console/ring-ref",
                                              "/console/limit",
                                              "/console/type",
                                              "/device",
                                              "/device/vbd",
                                              "/device/vbd/51712",
                                              "/device/vbd/51712/backend",
                                              "/device/vbd/51712/backend-id",
                                              "/device/vbd/51712/state",
                                              "/device/vbd/51712/virtual-device",
                                              "/device/vbd/51712/device-type",
                                              "/device/vbd/51712/event-channel",
                                              "/device/vbd/51712/ring-ref",
                                              "/device/vif",
                                              "/device/vif/0",
                                              "/device/vif/0/backend",
                                              "/device/vif/0/backend-id",
                                              "/device/vif/0/state",
                                              "/device/vif/0/handle",
                                              "/device/vif/0/mac",
                                              "/device/vif/0/tx-ring-ref",
                                              "/device/vif/0/rx-ring-ref",
                                              "/device/vif/0/event-channel"};

/// Requests on so many domains.
class Traffic {
 public:
  explicit Traffic(unsigned domains) : domains_(domains) {}

  Result<void, std::string> show(const HistoryNodeSink& sink) {
    const store::Perms perms = {{store::kDom0, store::Access::kRead}};
    for (const char* path : {"/", "/local", "/local/domain"}) {
      must(sink({.path = path, .value = "", .perms = perms}));
    }
    for (unsigned domain = 1; domain <= domains_; ++domain) {
      for (const std::string& node : kGuestNodes) {
        const HistoryChange change = set(domain, node);
        must(sink({.path = change.path, .value = change.value, .perms = change.perms}));
      }
    }
    return {};
  }

  /// Mostly a write; now and then a device's transaction, or a domain gone and back.
  HistoryEntry next() {
    HistoryEntry entry{.number = ++number_, .time_us = 1'763'741'111'000'000 + number_ * 40};
    entry.author = {.kind = HistoryAuthor::kSocket, .pid = 1234, .command = "xl"};
    entry.what = "WRITE";
    const auto domain = static_cast<unsigned>(1 + random_() % domains_);
    const std::uint64_t dice = random_() % 100;
    if (dice < 90) {
      entry.author = {.kind = HistoryAuthor::kDomain,
                      .domid = Domid{static_cast<std::uint16_t>(domain)}};
      entry.changes = {set(domain, kGuestNodes[1 + random_() % (kGuestNodes.size() - 1)])};
    } else {
      entry.what = "TRANSACTION_END";
      const bool is_all = dice == 99;
      if (is_all) entry.changes.push_back({.path = path(domain, ""), .is_removal = true});
      for (std::size_t i = is_all ? 0 : 30; i < (is_all ? kGuestNodes.size() : 40); ++i) {
        entry.changes.push_back(set(domain, kGuestNodes[i]));
      }
    }
    return entry;
  }

 private:
  static std::string path(unsigned domain, const std::string& node) {
    return "/local/domain/" + std::to_string(domain) + node;
  }
  HistoryChange set(unsigned domain, const std::string& node) {
    std::string value = std::to_string(random_() % 1'000'000);
    if (node.ends_with("backend")) value = "/local/domain/0/backend" + node + "/" + value;
    if (node.ends_with("state")) value = std::to_string(1 + random_() % 6);
    return {.path = path(domain, node),
            .value = value,
            .perms = {{Domid{static_cast<std::uint16_t>(domain)}, store::Access::kNone},
                      {store::kDom0, store::Access::kRead}}};
  }

  unsigned domains_;
  std::mt19937_64 random_{1};
  std::uint64_t number_ = 0;
};

class Bench {
 public:
  Bench(unsigned domains, std::uint64_t limit) : domains_(domains), traffic_(domains) {
    std::string name = "/dev/shm/xs-history-bench-XXXXXX";
    folder_ = ::mkdtemp(name.data());
    options_ = {.folder = folder_ / "history.git", .limit_bytes = limit};
    auto opened = HistoryRepository::open(options_);
    if (!opened.has_value()) give_up(opened.error().message);
    history_ = std::move(opened.value());
    must(history_->add_whole(0, 0, "bench",
                             [&](const HistoryNodeSink& sink) { return traffic_.show(sink); }));
    must(history_->flush());
  }
  ~Bench() { fs::remove_all(folder_); }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  /// Commits of one request each, flushed whenever so much is waiting (0: always).
  void run(const char* name, std::uint64_t commits, std::uint64_t flush_bytes) {
    std::vector<HistoryEntry> entries;
    const std::uint64_t bytes_before = history_->bytes();
    double cpu = 0;
    double longest = 0;
    for (std::uint64_t done = 0; done < commits; done += entries.size()) {
      entries.clear();
      for (int i = 0; i < 1000; ++i) entries.push_back(traffic_.next());
      const double begin = cpu_seconds();
      for (const HistoryEntry& entry : entries) {
        const double one = cpu_seconds();
        must(history_->add(std::span(&entry, 1)));
        if (history_->unflushed_bytes() >= flush_bytes) must(history_->flush());
        longest = std::max(longest, cpu_seconds() - one);
      }
      cpu += cpu_seconds() - begin;
    }
    must(history_->flush());
    const double count = static_cast<double>(commits);
    std::printf(
        "%4u domains, %-28s %7.0f commits/s, %6.1f us each, longest %5.1f ms, %5.0f bytes each\n",
        domains_, name, count / cpu, cpu / count * 1e6, longest * 1e3,
        static_cast<double>(history_->bytes() - bytes_before) / count);
    std::fflush(stdout);
  }

  /// How far the limit is exceeded while so many changes are added.
  void bound(std::uint64_t changes) {
    std::uint64_t most = 0;
    const double begin = cpu_seconds();
    for (std::uint64_t i = 0; i < changes; ++i) {
      const HistoryEntry entry = traffic_.next();
      must(history_->add(std::span(&entry, 1)));
      if (history_->unflushed_bytes() >= 256 << 10) {
        must(history_->flush());
        most = std::max(most, history_->bytes());
      }
    }
    must(history_->flush());
    const std::string kept = "git -C " + options_.folder.string() + " rev-list --count main";
    std::printf(
        "%4u domains, %lu commits, %.1f us each; at most %.1f MiB of %.1f; now %.1f MiB. Commits "
        "kept: ",
        domains_, static_cast<unsigned long>(changes),
        (cpu_seconds() - begin) / static_cast<double>(changes) * 1e6,
        static_cast<double>(most) / (1 << 20),
        static_cast<double>(options_.limit_bytes) / (1 << 20),
        static_cast<double>(history_->bytes()) / (1 << 20));
    std::fflush(stdout);
    if (std::system(kept.c_str()) != 0) give_up("git failed");
    if (std::system(
            ("git -C " + options_.folder.string() + " fsck --strict --no-progress").c_str()) != 0) {
      give_up("git fsck failed");
    }
  }

 private:
  unsigned domains_;
  Traffic traffic_;
  fs::path folder_;
  HistoryRepository::Options options_;
  std::unique_ptr<HistoryRepository> history_;
};

}  // namespace
}  // namespace journal::testing

int main(int argc, char** argv) {
  using journal::testing::Bench;
  constexpr std::uint64_t kMiB = 1 << 20;
  if (argc == 4 && std::string_view(argv[1]) == "bound") {
    Bench(static_cast<unsigned>(std::atoi(argv[3])), 64 * kMiB)
        .bound(std::strtoull(argv[2], nullptr, 10));
    return 0;
  }
  for (const unsigned domains : {100U, 1000U}) {
    Bench bench(domains, 1024 * kMiB);
    bench.run("flushed every 256 KiB", 20'000, 256 << 10);
    bench.run("flushed after each commit", 2'000, 0);
  }
}
