// SPDX-License-Identifier: MIT
// The writer is killed at each of its system calls that change files, in turn. Files
// are written by system calls only (nothing is mapped for writing), so these are all
// the states that a death can leave.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <set>
#include <sstream>

#include "tests/unit/journal/history_support.h"
#include "tests/unit/journal/support.h"

namespace journal::testing {
namespace {

namespace fs = std::filesystem;

/// What the child tells, in memory that outlives it.
struct Shared {
  std::atomic<std::uint64_t> flushed;  ///< entries, confirmed by flush
};

/// Adds the entries up to `last`, flushing after every seventh.
void add_up_to(const HistoryRepository::Options& options, std::uint64_t last, Shared& shared) {
  auto opened = HistoryRepository::open(options);
  if (!opened.has_value()) ::_exit(2);
  HistoryRepository& history = *opened.value();
  const TestTree root = {{"/", {}}};
  if (history.is_fresh() && !history.add_whole(0, 0, "first", source_of(root)).has_value()) {
    ::_exit(3);
  }
  RandomRequests requests(31);
  while (requests.number() < last) {
    const HistoryEntry entry = requests.next();
    if (!history.add(std::span(&entry, 1)).has_value()) ::_exit(4);
    if (requests.number() % 7 != 0 && requests.number() != last) continue;
    if (!history.flush().has_value()) ::_exit(5);
    shared.flushed = history.flushed_entry();
  }
}

bool changes_files(const user_regs_struct& registers) {
  static const std::set<unsigned long long> kCalls = {
      SYS_write,  SYS_pwrite64, SYS_rename,    SYS_renameat, SYS_renameat2,      SYS_unlink,
      SYS_rmdir,  SYS_unlinkat, SYS_mkdir,     SYS_mkdirat,  SYS_ftruncate,      SYS_truncate,
      SYS_writev, SYS_sendfile, SYS_fallocate, SYS_fchmod,   SYS_copy_file_range};
  if (registers.orig_rax == SYS_openat) return (registers.rdx & (O_CREAT | O_TRUNC)) != 0;
  return kCalls.contains(registers.orig_rax);
}

/// Runs add_up_to in a child and kills it before its call `deadly` (from 1). False
/// if it came to its end before.
bool run_killed(const HistoryRepository::Options& options, std::uint64_t last, int deadly,
                Shared& shared) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    ::raise(SIGSTOP);
    add_up_to(options, last, shared);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ::ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
  bool is_entry = true;
  for (int calls = 0;;) {
    ::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status)) {
      EXPECT_EQ(WEXITSTATUS(status), 0);
      return false;
    }
    EXPECT_TRUE(WIFSTOPPED(status) && WSTOPSIG(status) == (SIGTRAP | 0x80));
    user_regs_struct registers{};
    ::ptrace(PTRACE_GETREGS, child, nullptr, &registers);
    if (is_entry && changes_files(registers) && ++calls == deadly) {
      ::kill(child, SIGKILL);
      ::waitpid(child, &status, 0);
      return true;
    }
    is_entry = !is_entry;
  }
}

/// Numbers of the entries in all commits, oldest first.
std::string entries_by_git(const fs::path& repository) {
  return git(repository,
             "log --reverse --format='%(trailers:key=Xenstore-Entry,valueonly,separator=)' main");
}

class HistoryKill : public ::testing::Test {
 protected:
  HistoryKill()
      : shared_(*static_cast<Shared*>(
            ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {}
  ~HistoryKill() override { ::munmap(&shared_, 4096); }

  HistoryRepository::Options options() const {
    return {.folder = folder_.repository(),
            .limit_bytes = 1 << 20,
            .archive = folder_.path() / "archive.git"};
  }

  /// All that must hold after a kill, at once and after going on to the end.
  void check(std::uint64_t last) {
    if (fs::exists(folder_.repository() / "HEAD")) {
      // Killed just before the branch moved, what was to come is dangling.
      expect_readable(folder_.repository());
    }
    {
      auto history = open_history(options());
      ASSERT_NE(history, nullptr);
      ASSERT_GE(history->last_entry(), shared_.flushed.load());
      ASSERT_LE(history->last_entry(), last);
      RandomRequests requests(31);
      while (requests.number() < history->last_entry()) requests.next();
      if (!history->is_fresh()) {
        ASSERT_EQ(tree_at_tip(*history), requests.tree());
        expect_sound(folder_.repository());
      }
    }
    add_up_to(options(), last, shared_);
    expect_sound(folder_.repository());
    std::istringstream lines(entries_by_git(folder_.repository()));
    std::uint64_t before = 0;
    for (std::uint64_t number = 0; lines >> number; before = number) {
      if (before != 0) {
        ASSERT_EQ(number, before + 1);
      }
    }
    ASSERT_EQ(before, last);
    for (const auto& file : fs::directory_iterator(folder_.repository() / "objects/pack")) {
      ASSERT_FALSE(file.path().filename().string().starts_with("tmp_"));
    }
    if (fs::exists(folder_.path() / "archive.git/HEAD"))
      expect_sound(folder_.path() / "archive.git");
  }

  /// Kills at each call in turn between the entries `from` and `to`; how many there are.
  int kill_everywhere(std::uint64_t from, std::uint64_t to) {
    const fs::path kept = folder_.path() / "kept";
    fs::create_directories(kept);
    if (from > 0) {
      add_up_to(options(), from, shared_);
      fs::copy(folder_.repository(), kept / "history.git", fs::copy_options::recursive);
      if (fs::exists(*options().archive)) {
        fs::copy(*options().archive, kept / "archive.git", fs::copy_options::recursive);
      }
    }
    // All of them take minutes.
    const int step = std::getenv("HISTORY_KILL_EACH") != nullptr ? 1 : 5 * kSanitizerFactor;
    for (int deadly = 1;; deadly += step) {
      SCOPED_TRACE(::testing::Message() << "killed before call " << deadly);
      fs::remove_all(folder_.repository());
      fs::remove_all(*options().archive);
      fs::copy(kept, folder_.path(), fs::copy_options::recursive);
      shared_.flushed = from;
      if (!run_killed(options(), to, deadly, shared_)) return deadly - 1;
      check(to);
      if (HasFatalFailure()) return 0;
    }
  }

  const TestFolder folder_;
  Shared& shared_;
};

TEST_F(HistoryKill, WhileARepositoryComesIntoBeing) { EXPECT_GT(kill_everywhere(0, 10), 20); }

/// The first entry with which something is archived, if nobody is killed.
std::uint64_t first_archived(const HistoryRepository::Options& options) {
  auto history = begin_history(options);
  RandomRequests requests(31);
  while (!fs::exists(*options.archive / "HEAD")) {
    const HistoryEntry entry = requests.next();
    expect_done(history->add(std::span(&entry, 1)));
    if (requests.number() % 7 == 0) expect_done(history->flush());
    if (::testing::Test::HasFailure()) break;
  }
  fs::remove_all(options.folder);
  fs::remove_all(*options.archive);
  return requests.number();
}

// Among the entries are those with which a part is closed, a segment begun, and the
// oldest archived and dropped: the limit of 1 MiB makes all of them frequent.
TEST_F(HistoryKill, WhileASegmentIsBegunAndTheOldestIsArchived) {
  const std::uint64_t archived = first_archived(options());
  EXPECT_GT(kill_everywhere(archived - 12, archived + 9), 60);
  // The last run came to its end.
  EXPECT_TRUE(fs::exists(*options().archive / "HEAD"));
}

}  // namespace
}  // namespace journal::testing
