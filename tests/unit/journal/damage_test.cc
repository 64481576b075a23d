// SPDX-License-Identifier: MIT
// What a damaged, foreign or outdated file does: a message, never a wrong tree,
// never a crash of this process (which runs everything here in itself).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>

#include "journal/image.h"
#include "journal/journal.h"
#include "tests/unit/journal/support.h"

namespace journal::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A state with some history: pages used, free, and overflowing.
class Damage : public ::testing::Test {
 protected:
  Damage() {
    {
      const auto journal = open_loaded(area_.options());
      fill(*journal, 1500);
      for (std::uint64_t id = 100; id < 900; id += 2) journal->erase_node(NodeId{id});
      journal->put(Node{.value = std::string(kValueMax, 'b')}.record(5));
      commit(*journal);
      for (std::uint64_t id = 1; id <= 40; ++id) {
        journal->put(Node{.generation = id, .value = "changed"}.record(id * 30));
        commit(*journal);
      }
      State shown;
      EXPECT_TRUE(journal->verify(shown).has_value());
      expected_ = shown;
    }
    data_ = read_file(area_.data());
    seal_ = read_file(area_.seal());
  }

  void restore() {
    write_file(area_.data(), data_);
    write_file(area_.seal(), seal_);
  }

  /// Opens and loads. A state that is accepted must be the right one, and stay
  /// so through commits: they use the free pages, which no digest covers.
  bool is_noticed_or_harmless() {
    State state;
    if (!try_load(area_.options(), state).empty()) return true;
    if (!state.same(expected_)) return false;
    {
      const auto journal = open_loaded(area_.options());
      for (std::uint64_t id = 1; id < 60; ++id) {
        const Node node{.generation = 1, .value = std::string(id * 7, 'x')};
        journal->put(node.record(id * 20));
        commit(*journal);
      }
      State shown;
      if (!journal->verify(shown).has_value()) return false;
    }
    State again;
    return try_load(area_.options(), again).empty();
  }

  const TestArea area_;
  State expected_;
  std::string data_;
  std::string seal_;
};

TEST_F(Damage, NoneIsNoticedWithoutAny) {
  State state;
  EXPECT_EQ(try_load(area_.options(), state), "");
  EXPECT_TRUE(state.same(expected_));
  EXPECT_TRUE(is_noticed_or_harmless());
}

TEST_F(Damage, TruncationAtEveryPageIsNoticedOrHarmless) {
  // The pages in use one by one, the empty tail in larger steps.
  for (std::size_t size = 0; size < data_.size();
       size += (size < 100 * kPageBytes ? 1 : 20) * kPageBytes * kSanitizerFactor) {
    restore();
    std::filesystem::resize_file(area_.data(), size);
    ASSERT_TRUE(is_noticed_or_harmless()) << size;
  }
}

TEST_F(Damage, AnEmptyOrShortFileIsNoticed) {
  for (const std::size_t size : {0U, 1U, 100U, 4095U, 4096U, 8191U, 8192U, 12288U}) {
    restore();
    std::filesystem::resize_file(area_.data(), size);
    State state;
    EXPECT_THAT(try_load(area_.options(), state), HasSubstr("the database file")) << size;
  }
}

TEST_F(Damage, FlippedBitsAreNoticedOrHarmless) {
  std::mt19937_64 random(11);
  for (int i = 0; i < 400 / kSanitizerFactor; ++i) {
    restore();
    // A third in the metas, a third in page headers and their node offsets.
    const std::size_t page = random() % 80 * kPageBytes;
    const std::size_t at = i % 3 == 0   ? random() % (2 * kPageBytes) % (random() % 2 ? 8192 : 160)
                           : i % 3 == 1 ? page + random() % 64
                                        : page + random() % kPageBytes;
    write_at(area_.data(), at, std::string(1, static_cast<char>(data_[at] ^ (1 << random() % 8))));
    ASSERT_TRUE(is_noticed_or_harmless()) << "byte " << at << " in round " << i;
  }
}

TEST_F(Damage, OverwrittenStretchesAreNoticedOrHarmless) {
  std::mt19937_64 random(12);
  for (int i = 0; i < 200 / kSanitizerFactor; ++i) {
    restore();
    const std::size_t length = 1 + random() % (3 * kPageBytes);
    const std::size_t at = random() % (90 * kPageBytes);
    const char with = i % 2 == 0 ? '\0' : static_cast<char>(random());
    write_at(area_.data(), at, std::string(length, with));
    ASSERT_TRUE(is_noticed_or_harmless()) << at << " + " << length;
  }
}

TEST_F(Damage, SwappedPagesAreNoticed) {
  std::string changed = data_;
  changed.replace(3 * kPageBytes, kPageBytes, data_, 4 * kPageBytes, kPageBytes);
  changed.replace(4 * kPageBytes, kPageBytes, data_, 3 * kPageBytes, kPageBytes);
  write_file(area_.data(), changed);
  EXPECT_TRUE(is_noticed_or_harmless());
}

TEST_F(Damage, EveryFlippedBitOfTheSealIsNoticedOrHarmless) {
  // If not each, then another one of each byte.
  constexpr std::size_t kStep = kSanitizerFactor == 1 ? 1 : 7;
  for (std::size_t bit = 0; bit < std::size_t{130} * 8; bit += kStep) {
    restore();
    write_at(area_.seal(), bit / 8,
             std::string(1, static_cast<char>(seal_[bit / 8] ^ (1 << bit % 8))));
    State state;
    ASSERT_TRUE(!try_load(area_.options(), state).empty() || state.same(expected_)) << bit;
  }
}

TEST_F(Damage, AnOlderDatabaseIsNoticed) {
  {
    const auto journal = open_loaded(area_.options());
    for (int i = 0; i < 4; ++i) {
      journal->put(Node{.generation = 99, .value = std::to_string(i)}.record(1));
      commit(*journal);
    }
  }
  write_file(area_.data(), data_);
  State state;
  EXPECT_THAT(try_load(area_.options(), state), HasSubstr("was made"));
}

// The last transaction undone in the meta pages, as one flipped bit can do it.
TEST_F(Damage, TheLastCommitCannotBeTakenBack) {
  const std::size_t txn_at = 16 + 128;
  const std::size_t last = static_cast<unsigned char>(data_[txn_at]) >
                                   static_cast<unsigned char>(data_[kPageBytes + txn_at])
                               ? txn_at
                               : kPageBytes + txn_at;
  std::string changed = data_;
  changed[last] = static_cast<char>(changed[last] - 2);
  write_file(area_.data(), changed);
  State state;
  EXPECT_THAT(try_load(area_.options(), state), HasSubstr("was made"));
}

TEST_F(Damage, ForeignAndMissingFilesAreNoticed) {
  const auto kind = [&] {
    std::vector<std::string> notes;
    const auto opened = Journal::open(area_.options(), notes);
    return opened.has_value() ? OpenError::Kind::kSystem : opened.error().kind;
  };
  write_file(area_.data(), "#!/bin/sh\necho I am no database\n" + std::string(100'000, '#'));
  EXPECT_EQ(kind(), OpenError::Kind::kDamaged);
  std::filesystem::remove(area_.data());
  EXPECT_EQ(kind(), OpenError::Kind::kDamaged);
  std::filesystem::create_directory(area_.data());
  EXPECT_EQ(kind(), OpenError::Kind::kDamaged);
  std::filesystem::remove(area_.data());
  restore();
  std::filesystem::remove(area_.seal());
  EXPECT_EQ(kind(), OpenError::Kind::kDamaged);
  write_file(area_.seal(), std::string(4096, 's'));
  EXPECT_EQ(kind(), OpenError::Kind::kDamaged);
}

TEST_F(Damage, AnotherStatesDatabaseIsNoticed) {
  const TestArea other;
  fill(*open_loaded(other.options()), 10);
  write_file(area_.data(), read_file(other.data()));
  State state;
  EXPECT_NE(try_load(area_.options(), state), "");
}

TEST_F(Damage, SetAsideMakesRoomForAFreshState) {
  std::filesystem::remove(area_.data());
  std::vector<std::string> notes;
  ASSERT_TRUE(Journal::set_aside(area_.options(), notes).has_value());
  EXPECT_THAT(notes.at(0), HasSubstr("state.damaged-1"));
  State state;
  open_loaded(area_.options(), state);
  EXPECT_EQ(state.order, "");
  EXPECT_THAT(area_.names("state."), ElementsAre("state.damaged-1"));
}

/// Dies of a signal while it is shown the first record.
class DyingSink : public State {
 public:
  explicit DyingSink(int signal_number) : signal_number_(signal_number) {}
  Shown node(const NodeRecord&) override {
    if (signal_number_ == SIGALRM) {
      for (;;) ::pause();  // until the time for loading is over
    }
    ::raise(signal_number_);
    return {};
  }

 private:
  int signal_number_;
};

/// Loads in a child that dies of a signal; which one.
int die_loading(const Options& options, int signal_number) {
  const pid_t child = ::fork();
  if (child == 0) {
    DyingSink sink(signal_number);
    Options hurried = options;
    hurried.load_seconds_max = 1;
    try_load(hurried, sink);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST_F(Damage, AStateThatTwiceKilledItsReaderIsTakenForDamaged) {
  ASSERT_EQ(die_loading(area_.options(), SIGSEGV), SIGSEGV);
  ASSERT_EQ(die_loading(area_.options(), SIGALRM), SIGALRM);
  std::vector<std::string> notes;
  const auto refused = Journal::open(area_.options(), notes);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, OpenError::Kind::kDamaged);
  EXPECT_THAT(refused.error().message, HasSubstr("killed the process 2 times"));
  const auto aside = Journal::set_aside(area_.options(), notes);
  ASSERT_TRUE(aside.has_value());
  EXPECT_THAT(area_.names("state."), ElementsAre("state.damaged-1"));
  EXPECT_EQ(aside.value().filename(), "state.damaged-1");
  State state;
  EXPECT_EQ(try_load(area_.options(), state), "");
  EXPECT_EQ(state.order, "");
}

TEST_F(Damage, OneDeathOfTheReaderIsForgivenOnceItSucceeds) {
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(die_loading(area_.options(), SIGBUS), SIGBUS);
    State state;
    ASSERT_EQ(try_load(area_.options(), state), "");
    EXPECT_TRUE(state.same(expected_));
  }
}

TEST_F(Damage, BeingKilledWhileLoadingIsNoSign) {
  for (int i = 0; i < 5; ++i) ASSERT_EQ(die_loading(area_.options(), SIGKILL), SIGKILL);
  State state;
  EXPECT_EQ(try_load(area_.options(), state), "");
  EXPECT_TRUE(state.same(expected_));
}

}  // namespace
}  // namespace journal::testing
