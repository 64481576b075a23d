// SPDX-License-Identifier: MIT
// SIGKILL at random instants: an acknowledged commit is never lost, and half a
// commit is never seen.
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <random>

#include "journal/journal.h"
#include "tests/unit/journal/support.h"

namespace journal::testing {
namespace {

/// What the child tells about its commits, in memory that outlives it.
struct Shared {
  std::atomic<std::uint64_t> begun;
  std::atomic<std::uint64_t> acknowledged;
};

constexpr std::uint64_t kGroup = 40;
constexpr std::uint64_t kGrowths = 400;

/// Commit number `n`: all nodes of the group get this number as their value;
/// one output comes, an earlier one goes, large values change their sizes; and
/// at first the tree grows now and then, so that the file does too.
void put_turn(Journal& journal, std::uint64_t n) {
  const std::string value = std::to_string(n);
  for (std::uint64_t id = 1; id <= kGroup; ++id) {
    journal.put(Node{.generation = n, .value = value}.record(id * 13));
  }
  journal.put(Node{.generation = n, .value = std::string(n * 131 % kValueMax, 'l')}.record(2));
  journal.put(OutputRecord{ConnId{1}, n, value});
  journal.put(ConnectionRecord{.conn = ConnId{1},
                               .in_off = static_cast<std::uint32_t>(n),
                               .partial = std::string(n * 977 % kFrameMax, 'p'),
                               .out = std::string(n * 577 % kInlineOutMax, 'o')});
  if (n > 5) journal.erase_output(ConnId{1}, n - 5);
  if (n % 4 == 0 && n / 4 <= kGrowths) {
    for (std::uint64_t i = 0; i < 50; ++i) {
      journal.put(Node{.name = "grown", .value = value}.record(1'000'000 + n * 100 + i));
    }
  }
}

[[noreturn]] void commit_for_ever(const Options& options, Shared& shared) {
  std::vector<std::string> notes;
  State state;
  const auto journal = Journal::open(options, notes);
  if (!journal.has_value() || !journal.value()->load(state).has_value()) ::_exit(1);
  for (std::uint64_t n = shared.acknowledged + 1;; ++n) {
    shared.begun = n;
    put_turn(*journal.value(), n);
    if (!journal.value()->commit().has_value()) ::_exit(2);
    shared.acknowledged = n;
  }
}

/// The number of the commit that the state shows; all of it must.
std::uint64_t number_of(const State& state) {
  if (state.nodes.empty()) return 0;
  const std::uint64_t n = state.nodes.at(13).generation;
  for (std::uint64_t id = 1; id <= kGroup; ++id) {
    EXPECT_EQ(state.nodes.at(id * 13).value, std::to_string(n));
  }
  EXPECT_EQ(state.nodes.at(2).value.size(), n * 131 % kValueMax);
  const ConnectionRecord& connection = state.connections.at(ConnId{1});
  EXPECT_EQ(connection.in_off, n);
  EXPECT_EQ(connection.partial.size(), n * 977 % kFrameMax);
  EXPECT_EQ(connection.out.size(), n * 577 % kInlineOutMax);
  EXPECT_EQ(state.outputs.size(), std::min<std::uint64_t>(n, 5));
  EXPECT_EQ(state.outputs.rbegin()->first.second, n);
  EXPECT_EQ(state.nodes.size(), kGroup + 1 + std::min(n / 4, kGrowths) * 50);
  return n;
}

/// Waits until the child commits; false when it never does.
bool await_commits(pid_t child, const Shared& shared, std::uint64_t before) {
  while (shared.acknowledged == before) {
    if (::waitpid(child, nullptr, WNOHANG) != 0) return false;
    ::sched_yield();
  }
  return true;
}

TEST(Kill, AcknowledgedCommitsAreThereAndNoneIsHalfThere) {
  const TestArea area;
  auto* const shared = static_cast<Shared*>(
      ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(shared, MAP_FAILED);
  std::mt19937_64 random(5);
  constexpr int kRounds = 80 / kSanitizerFactor;
  int killed_at_work = 0;
  for (int round = 0; round < kRounds; ++round) {
    const std::uint64_t before = shared->acknowledged;
    const pid_t child = ::fork();
    if (child == 0) commit_for_ever(area.options(), *shared);
    // A random instant: of the opening and loading in one round of four, of the
    // commits in the others.
    if (round % 4 != 0) {
      ASSERT_TRUE(await_commits(child, *shared, before));
    }
    const timespec instant{.tv_sec = 0, .tv_nsec = static_cast<long>(random() % 1'000'000)};
    ::nanosleep(&instant, nullptr);
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child gave up: " << WEXITSTATUS(status);

    State state;
    ASSERT_EQ(try_load(area.options(), state), "") << "round " << round;
    const std::uint64_t found = number_of(state);
    ASSERT_GE(found, shared->acknowledged);
    ASSERT_LE(found, shared->begun);
    shared->acknowledged = found;
    if (found > before) ++killed_at_work;
    if (::testing::Test::HasFailure()) break;
  }
  ::munmap(shared, 4096);
  EXPECT_GE(killed_at_work, kRounds * 3 / 4);
}

}  // namespace
}  // namespace journal::testing
