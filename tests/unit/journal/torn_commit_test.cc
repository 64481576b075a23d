// SPDX-License-Identifier: MIT
// Killed inside LMDB's commit: Debian's build stores a meta's number before the
// root of its tree, so the newest meta can be half that of an older commit.
#include <gtest/gtest.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "journal/image.h"
#include "journal/journal.h"
#include "journal/seal.h"
#include "tests/unit/journal/support.h"

namespace journal::testing {
namespace {

// In a meta page, behind its header of 16 bytes.
constexpr std::size_t kEntriesAndRoot = 16 + 104;
constexpr std::size_t kTxn = 16 + 128;
// In the seal.
constexpr std::size_t kConfirmed = 64;
constexpr std::size_t kConfirmedToo = 136;

std::uint64_t txn_of(const std::string& data, std::size_t meta) {
  std::uint64_t txn = 0;
  std::memcpy(&txn, data.data() + meta * kPageBytes + kTxn, sizeof txn);
  return txn;
}

void put_setting(Journal& journal, const std::string& value) {
  journal.put(SettingRecord{"quota/nodes", value});
  journal.put(Node{.name = "new" + value, .value = value}.record(5000 + value.size()));
}

/// The files as the kill left them: the last commit done but for `confirmed`.
class TornCommit : public ::testing::Test {
 protected:
  TornCommit() {
    std::string seal_before;
    {
      const auto journal = open_loaded(area_.options());
      fill(*journal, 300);
      commit(*journal);
      put_setting(*journal, "1");
      commit(*journal);
      EXPECT_TRUE(journal->verify(before_).has_value());
      older_ = read_file(area_.data());
      seal_before = read_file(area_.seal());
      put_setting(*journal, "22");
      commit(*journal);
    }
    data_ = read_file(area_.data());
    seal_ = read_file(area_.seal());
    for (const std::size_t at : {kConfirmed, kConfirmedToo}) {
      seal_.replace(at, 8, seal_before, at, 8);
    }
    newest_ = txn_of(data_, 1) > txn_of(data_, 0) ? 1 : 0;
  }

  void expect_the_commit_before() {
    write_file(area_.data(), data_);
    write_file(area_.seal(), seal_);
    State after;
    {
      State found;
      const auto journal = open_loaded(area_.options(), found);
      EXPECT_TRUE(found.same(before_));
      put_setting(*journal, "333");
      commit(*journal);
      EXPECT_TRUE(journal->verify(after).has_value());
    }
    State again;
    open_loaded(area_.options(), again);
    EXPECT_TRUE(again.same(after));
    EXPECT_EQ(again.settings.at("quota/nodes").value, "333");
  }

  std::uint64_t newest_txn() const { return txn_of(data_, newest_); }
  std::string seal_with(std::uint64_t confirmed, std::uint64_t confirmed_too) const {
    std::string seal = seal_;
    std::memcpy(seal.data() + kConfirmed, &confirmed, sizeof confirmed);
    std::memcpy(seal.data() + kConfirmedToo, &confirmed_too, sizeof confirmed_too);
    return seal;
  }

  TestArea area_;
  State before_;
  std::string older_;  ///< the data before the last commit
  std::string data_;
  std::string seal_;
  std::size_t newest_ = 0;
};

TEST_F(TornCommit, WholeButNotConfirmedIsTakenBack) { expect_the_commit_before(); }

TEST_F(TornCommit, WithTheRootOfAnOlderTreeIsTakenBack) {
  const std::size_t at = newest_ * kPageBytes + kEntriesAndRoot;
  ASSERT_NE(data_.compare(at, 16, older_, at, 16), 0);
  data_.replace(at, 16, older_, at, 16);
  expect_the_commit_before();
}

TEST_F(TornCommit, OfWhichOnlyTheNumberIsMissingIsNotThereEither) {
  const std::size_t at = newest_ * kPageBytes + kTxn;
  data_.replace(at, 8, older_, at, 8);
  expect_the_commit_before();
}

TEST_F(TornCommit, ConfirmedButForTheSecondTimeIsThere) {
  write_file(area_.data(), data_);
  write_file(area_.seal(), seal_with(newest_txn(), newest_txn() - 1));
  State found;
  open_loaded(area_.options(), found);
  EXPECT_EQ(found.settings.at("quota/nodes").value, "22");
}

/// Confirms `txn` in a child, an instruction at a time, and calls `look` before each.
template <typename Look>
void confirm_by_steps(Seal& seal, std::uint64_t txn, Look look) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    raise(SIGSTOP);
    seal.confirm(txn);
    raise(SIGSTOP);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  int steps = 0;
  do {
    look();
    ASSERT_EQ(ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr), 0);
    ASSERT_EQ(waitpid(child, &status, 0), child);
  } while (WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP && ++steps < 100000);
  EXPECT_EQ(WSTOPSIG(status), SIGSTOP);
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
}

TEST_F(TornCommit, ConfirmedAfterAKillInConfirmingIsSoundAtEveryInstruction) {
  const Digest digest{.sum = 7, .count = 3};
  const std::uint64_t last = newest_txn();
  // Killed between the two stores of the commit before.
  write_file(area_.seal(), seal_with(last, last - 1));
  auto seal = Seal::open(area_.seal(), Seal::Use::kServe);
  ASSERT_TRUE(seal.has_value());
  seal->prepare(last, digest, 0);
  seal->prepare(last + 1, digest, 0);
  confirm_by_steps(*seal, last + 1, [&] {
    const std::uint64_t now = seal->confirmed();
    EXPECT_TRUE(now == last || now == last + 1);
    const auto sound = seal->check(now, digest);
    EXPECT_TRUE(sound.has_value()) << sound.error();
  });
  EXPECT_EQ(seal->confirmed(), last + 1);
}

}  // namespace
}  // namespace journal::testing
