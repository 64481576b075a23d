// SPDX-License-Identifier: MIT
/// Advisories about memory: what guests can make the daemon keep is bounded.
#include <atomic>
#include <thread>

#include "rings/ring_page.h"
#include "tests/security/world.h"

namespace security {
namespace {

/// What one hostile guest may cost, beyond what there was before: its quota, and what
/// the allocator makes of it.
constexpr std::uint64_t kBoundKb = std::uint64_t{12} * 1024;

class MemoryTest : public World {
 protected:
  MemoryTest() {
    add(3);
    add(7);
    for (const std::string& request : {"/big\0"s + std::string(1900, 'v')}) {
      EXPECT_EQ(ask(Op::kWrite, request), "OK\0"s);
    }
    EXPECT_EQ(ask(Op::kSetPerms, "/big\0r0\0"s), "OK\0"s);
    others_are_served_quickly();
    before_ = anonymous_kb();
    journal_before_ = report("journal bytes");
  }

  void others_are_served_quickly() {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < 50; ++i) {
      EXPECT_EQ(ask(7, Op::kRead, "/big\0"s).size(), 1900U);
      EXPECT_EQ(ask(Op::kRead, "/big\0"s).size(), 1900U);
    }
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
  }
  void memory_is_bounded() {
    others_are_served_quickly();
    const std::uint64_t now = anonymous_kb();
    EXPECT_LT(now, before_ + kBoundKb);
    EXPECT_LT(report("journal bytes"), journal_before_ + kBoundKb * 1024);
    RecordProperty("grown_kb", static_cast<int>(now) - static_cast<int>(before_));
  }
  /// Offers `request` so often, without ever taking a reply. How often it was taken.
  int offer(const std::string& request, int times) {
    Guest& guest = this->guest(3).guest();
    int taken = 0;
    std::string rest;
    for (int i = 0; i < times; ++i) {
      if (rest.empty()) rest = request;
      rest.erase(0, guest.write(rest));
      guest.notify();
      if (rest.empty()) ++taken;
    }
    return taken;
  }

  std::uint64_t before_ = 0;
  std::uint64_t journal_before_ = 0;
};

class Xsa326 : public MemoryTest {
 protected:
  /// Many long events for each node that is written.
  void watch_everything() {
    EXPECT_EQ(ask(Op::kSetPerms, "/\0r0\0"s), "OK\0"s);
    for (int i = 0; i < 50; ++i) {
      const std::string token = std::string(1900, 't') + std::to_string(i);
      EXPECT_EQ(ask(3, Op::kWatch, "/\0"s + token + '\0'), "OK\0"s);
    }
  }
  void write_nodes(int count) {
    for (int i = 0; i < count; ++i) {
      const std::string name = "/big/" + std::to_string(i) + '\0';
      ASSERT_EQ(ask(Op::kWrite, name), "OK\0"s);
    }
  }
};

TEST_F(Xsa326, AMillionReadsOfWhichNoReplyIsTaken) {
  EXPECT_LT(offer(frame(Op::kRead, "/big\0"s), 1'000'000), 1000);
  memory_is_bounded();
}

TEST_F(Xsa326, AWatchOnEverythingWhileOthersWrite) {
  watch_everything();
  write_nodes(2000);
  memory_is_bounded();
}

TEST_F(Xsa326, WhatTheDeadWereToBeSentIsGone) {
  std::uint64_t journal_bytes = 0;
  for (int round = 0; round < 10; ++round) {
    watch_everything();
    write_nodes(100);
    EXPECT_GT(usage(3, "memory"), 1000'000U);
    if (round % 2 == 0) restart();
    end(3);
    add(3);
    if (round < 2) journal_bytes = std::max(journal_bytes, report("journal bytes"));
  }
  EXPECT_LE(report("journal bytes"), journal_bytes + (std::uint64_t{1} << 20));
  memory_is_bounded();
}

TEST_F(Xsa326, TransactionsFullOfNodes) {
  for (std::uint32_t tx = 1; tx <= 10; ++tx) {
    ask(3, Op::kTransactionStart, "\0"s);
    for (int i = 0; i < 1024; ++i) {
      const std::string name = "d" + std::to_string(i % 20) + "/n" + std::to_string(i) + '\0';
      if (ask(3, Op::kWrite, name + std::string(1900, 'v'), tx) == "ENOSPC") break;
    }
  }
  memory_is_bounded();
}

TEST_F(Xsa326, LongWatches) {
  for (int i = 0; i < 200; ++i) {
    const std::string path = "a" + std::to_string(i) + '\0';
    const std::string answer = ask(3, Op::kWatch, path + std::string(4000, 't') + '\0');
    EXPECT_EQ(answer, i < 129 ? "OK\0"s : "E2BIG"s) << i;
  }
  guest(3).take_events();
  memory_is_bounded();
}

class Xsa416 : public MemoryTest {};

TEST_F(Xsa416, LongRequestsOfAGuestThatNeverReads) {
  EXPECT_LT(offer(frame(Op::kWrite, "a\0"s + std::string(1990, 'v')), 100'000), 1000);
  EXPECT_EQ(introduce(3), "OK\0"s);
  EXPECT_LT(offer(frame(Op::kControl, std::string(4096, 'x')), 100'000), 1000);
  memory_is_bounded();
}

class Xsa512 : public MemoryTest {};

TEST_F(Xsa512, EverNewWatchesLeaveNothing) {
  const std::string token(3000, 't');
  int serial = 0;
  const auto watch = [&] {
    std::string path = "p" + std::to_string(++serial) + "/q\0"s;
    EXPECT_EQ(ask(3, Op::kWatch, path + token + '\0'), "OK\0"s);
    return path;
  };
  const auto unwatched = [&] {
    const std::string path = watch();
    EXPECT_EQ(ask(3, Op::kUnwatch, path + token + '\0'), "OK\0"s);
  };
  const auto reset = [&] {
    watch();
    watch();
    EXPECT_EQ(ask(3, Op::kResetWatches, "\0"s), "OK\0"s);
  };
  const auto introduced_again = [&] {
    watch();
    EXPECT_EQ(introduce(3), "OK\0"s);
    replace_guest(3);
  };
  const auto released = [&] {
    watch();
    EXPECT_EQ(ask(Op::kRelease, "3\0"s), "OK\0"s);
    EXPECT_EQ(introduce(3), "OK\0"s);
    give_home(3);
    replace_guest(3);
  };
  for (const std::function<void()>& round :
       std::vector<std::function<void()>>{unwatched, reset, introduced_again, released}) {
    for (int i = 0; i < 400; ++i) round();
    const std::uint64_t before = anonymous_kb();
    for (int i = 0; i < 1000; ++i) round();
    EXPECT_LT(anonymous_kb(), before + 2048);
    EXPECT_EQ(usage(3, "watches"), 0U);
    guest(3).take_events();
  }
}

/// Half requests at the guest's leisure, for ever: a ring's worth, and no more of it kept.
TEST_F(Xsa326, PiecesOfRequestsThatNeverEnd) {
  for (int i = 0; i < 50; ++i) {
    const std::string whole = frame(Op::kWrite, "a\0"s + std::string(4000, 'v'));
    offer(whole.substr(0, 4000), 200);
    EXPECT_EQ(introduce(3), "OK\0"s);
  }
  memory_is_bounded();
}

}  // namespace
}  // namespace security
