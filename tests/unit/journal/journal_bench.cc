// SPDX-License-Identifier: MIT
// What a commit costs (the figures of journal/README.md). Not a test: built and run
// by hand, `ninja -C build/release journal_bench && build/release/bin/journal_bench`.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "journal/journal.h"
#include "tests/unit/journal/support.h"

namespace journal::testing {
namespace {

constexpr std::uint64_t kNodes = 100'000;
constexpr int kRounds = 20'000;
constexpr int kParts = 5;

void must(bool is_good) {
  if (!is_good) std::abort();
}

class Bench {
 public:
  explicit Bench(Journal& journal) : journal_(journal) {}

  /// Runs `turn` with ascending numbers and prints the median, of the best part of
  /// several: the others were disturbed.
  void run(const char* name, const std::function<void(std::uint64_t)>& turn) {
    using Clock = std::chrono::steady_clock;
    double best = 1e9;
    std::vector<double> times(kRounds);
    for (int part = 0; part < kParts; ++part) {
      for (double& time : times) {
        const auto begin = Clock::now();
        turn(++number_);
        must(journal_.commit().has_value());
        time = std::chrono::duration<double, std::nano>(Clock::now() - begin).count();
      }
      std::nth_element(times.begin(), times.begin() + kRounds / 2, times.end());
      best = std::min(best, times[kRounds / 2]);
    }
    std::printf("%-40s %7.0f ns\n", name, best);
  }

  void connection(std::uint64_t guest, std::uint64_t number, std::size_t bytes) {
    must(journal_.reserve(Journal::space_for_put(bytes), Purpose::kReply));
    record_.conn = ConnId{1000 + guest};
    record_.in_off = record_.out_off = static_cast<std::uint32_t>(number);
    record_.out.assign(bytes, static_cast<char>('a' + number % 26));
    journal_.put(record_);
  }

  void node(std::uint64_t number) {
    must(journal_.reserve(Journal::space_for_put(40)));
    node_.generation = number;
    journal_.put(node_.record(1 + number * 7919 % kNodes));
  }

 private:
  Journal& journal_;
  std::uint64_t number_ = 0;
  ConnectionRecord record_{};
  Node node_{.parent = 1, .name = "nodename", .value = "0123456789"};
};

void run_all() {
  const TestArea area;
  const auto journal = open_loaded(area.options());
  for (std::uint64_t id = 1; id <= kNodes; ++id) {
    must(journal->reserve(Journal::space_for_put(40)));
    journal->put(Node{.generation = id, .name = "nodename", .value = "0123456789"}.record(id));
    if (id % 100 == 0) must(journal->commit().has_value());
  }
  Bench bench(*journal);
  for (std::uint64_t guest = 0; guest < 64; ++guest) bench.connection(guest, 0, 100);

  const auto all = [](const auto& one) {
    for (std::uint64_t guest = 0; guest < 16; ++guest) one(guest);
  };
  bench.run("connection with 100 bytes", [&](auto n) { bench.connection(5, n, 100); });
  bench.run("connection with 40 to 300 bytes",
            [&](auto n) { bench.connection(5, n, 40 + n * 37 % 260); });
  bench.run("connection with 4 KB", [&](auto n) { bench.connection(5, n, 4000); });
  bench.run("16 connections with 100 bytes",
            [&](auto n) { all([&](auto guest) { bench.connection(guest * 4, n, 100); }); });
  bench.run("node", [&](auto n) { bench.node(n); });
  bench.run("node and connection", [&](auto n) {
    bench.node(n);
    bench.connection(5, n, 19);
  });
  bench.run("16 random nodes and connections", [&](auto n) {
    all([&](auto guest) {
      bench.node(n * 16 + guest);
      bench.connection(guest * 4, n, 19);
    });
  });
}

}  // namespace
}  // namespace journal::testing

int main() { journal::testing::run_all(); }
