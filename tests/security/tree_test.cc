// SPDX-License-Identifier: MIT
/// Advisories about the tree, as far as rings or the daemon's process matter to them.
#include <atomic>
#include <thread>

#include "tests/security/world.h"

namespace security {
namespace {

using testing::IsEmpty;

class Xsa72 : public World {};

TEST_F(Xsa72, AListTooLongForAReplyIsAnErrorAndTheRingGoesOn) {
  add(3);
  for (int i = 0; i < 1000; ++i) {
    ask(Op::kMkdir, "/d/" + std::to_string(100000 + i) + '\0');
  }
  EXPECT_EQ(ask(Op::kSetPerms, "/d\0r0\0"s), "OK\0"s);
  EXPECT_EQ(ask(3, Op::kDirectory, "/d\0"s), "E2BIG");
  EXPECT_EQ(ask(3, Op::kRead, "/d\0"s), "");
}

class Xsa206 : public World {};

TEST_F(Xsa206, AGuestThatWritesForEverStopsNobodysTransaction) {
  add(3);
  add(7);
  ask(Op::kWrite,
      "/shared\0"
      "0"s);
  ask(Op::kSetPerms, "/shared\0b0\0"s);
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    while (!stop) ask(3, Op::kWrite, "/shared\0mine"s);
  });
  // Each of several tries of the toolstack, and of another guest on its ring.
  const auto commits = [](const std::function<std::string(Op, std::string, std::uint32_t)>& say) {
    const auto begin = std::chrono::steady_clock::now();
    std::string answer;
    do {
      const auto tx = static_cast<std::uint32_t>(std::stoul(say(Op::kTransactionStart, "\0"s, 0)));
      say(Op::kRead, "/shared\0"s, tx);
      say(Op::kWrite, "/shared\0changed"s, tx);
      answer = say(Op::kTransactionEnd, "T\0"s, tx);
    } while (answer == "EAGAIN");
    EXPECT_EQ(answer, "OK\0"s);
    return std::chrono::steady_clock::now() - begin;
  };
  for (int i = 0; i < 20; ++i) {
    EXPECT_LT(commits([&](Op op, const std::string& what, std::uint32_t tx) {
                return ask(op, what, tx);
              }),
              std::chrono::seconds(1));
    EXPECT_LT(commits([&](Op op, const std::string& what, std::uint32_t tx) {
                return ask(7, op, what, tx);
              }),
              std::chrono::seconds(1));
  }
  stop = true;
  writer.join();
}

class Xsa324 : public World {};

TEST_F(Xsa324, AnEventTooLongForAMessageIsNotSent) {
  add(3);
  const std::string name(2048, 'n');
  EXPECT_EQ(ask(3, Op::kWatch, "/local/domain/3\0"s + std::string(2060, 't') + '\0'), "OK\0"s);
  ask(3, Op::kGetDomainPath, "3\0"s);
  guest(3).take_events();
  EXPECT_EQ(ask(Op::kWrite, "/local/domain/3/" + name + '\0'), "OK\0"s);
  EXPECT_EQ(ask(3, Op::kGetDomainPath, "3\0"s), "/local/domain/3\0"s);
  EXPECT_THAT(guest(3).take_events(), IsEmpty());
}

/// Below this nothing of ours runs with ASan, whose frames are larger.
#ifdef XENSTORED_IS_SANITIZED
constexpr std::uint64_t kSmallStack = 256 * 1024;
#else
constexpr std::uint64_t kSmallStack = 64 * 1024;
#endif

class Xsa418 : public World {
 protected:
  Xsa418() : World(kSmallStack) {}
};

std::string deep_path(const std::string& above) {
  std::string path = above;
  for (int level = 0; level < 1000; ++level) path += "/a";
  return path + '\0';
}

TEST_F(Xsa418, ATreeOfAThousandLevelsOnASmallStack) {
  const std::string deep = deep_path("");
  EXPECT_EQ(ask(Op::kWrite, deep + "value"), "OK\0"s);
  EXPECT_EQ(ask(Op::kWatch, deep + "token\0"s), "OK\0"s);
  EXPECT_EQ(ask(Op::kControl, "check\0"s), "OK\0"s);
  restart();
  EXPECT_EQ(ask(Op::kRead, deep), "value");
  EXPECT_EQ(ask(Op::kControl, "check\0"s), "OK\0"s);
  const auto tx = static_cast<std::uint32_t>(std::stoul(ask(Op::kTransactionStart, "\0"s)));
  EXPECT_EQ(ask(Op::kRm, "/a\0"s, tx), "OK\0"s);
  EXPECT_EQ(ask(Op::kWrite, deep + "other", tx), "OK\0"s);
  EXPECT_EQ(ask(Op::kTransactionEnd, "T\0"s, tx), "OK\0"s);
  EXPECT_EQ(ask(Op::kRead, deep), "other");
  EXPECT_EQ(ask(Op::kRm, "/a\0"s), "OK\0"s);
  restart();
  EXPECT_EQ(ask(Op::kRead, "/a\0"s), "ENOENT");
}

TEST_F(Xsa418, OneThatAGuestMadeWhoThenDies) {
  add(3);
  EXPECT_EQ(ask(Op::kSetQuota,
                "3\0nodes\0"
                "2000\0"s),
            "OK\0"s);
  const std::string deep = deep_path("/local/domain/3");
  EXPECT_EQ(ask(3, Op::kWrite, deep + "value"), "OK\0"s);
  restart();
  EXPECT_EQ(ask(3, Op::kRead, deep), "value");
  kill_daemon();
  replace_guest(3);
  machine().destroy({3});
  start_daemon();
  EXPECT_TRUE(eventually([this] { return !is_introduced(3); }));
  EXPECT_EQ(ask(Op::kRead, "/local/domain/3\0"s), "ENOENT");
}

}  // namespace
}  // namespace security
