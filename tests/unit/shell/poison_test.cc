// SPDX-License-Identifier: MIT
/// Servers are forked children: they open the guard, note a request, and end in
/// one way or another; the next one judges.
#include "xenstored/poison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>

#include "tests/unit/shell/temp_dir.h"
#include "xenstored/wire.h"

namespace xenstored {
namespace {

using store::Domid;

constexpr auto kWrite = static_cast<std::uint32_t>(Op::kWrite);
constexpr Domid kGuest{5};
const std::string kPayload("data/x\0evil", 11);

/// Runs `life` as a server of `area`; returns its wait status.
int server(const std::string& area, const std::function<void(PoisonGuard&)>& life) {
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    PoisonGuard guard(area);
    life(guard);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

/// What the next server says of the request.
bool is_poisoned(const std::string& area, Domid domid = kGuest, std::uint32_t op = kWrite,
                 const std::string& payload = kPayload) {
  const int status = server(
      area, [&](PoisonGuard& guard) { ::_exit(guard.is_poisoned(domid, op, payload) ? 10 : 11); });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) >= 10) << status;
  return WEXITSTATUS(status) == 10;
}

void die_executing(const std::string& area, int signal, const std::string& payload = kPayload) {
  const int status = server(area, [&](PoisonGuard& guard) {
    guard.note(kGuest, kWrite, payload);
    ::raise(signal);
  });
  EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
}

void survive_executing(const std::string& area, const std::string& payload = kPayload) {
  const int status = server(area, [&](PoisonGuard& guard) {
    guard.note(kGuest, kWrite, payload);
    guard.done();
  });
  EXPECT_EQ(status, 0);
}

class PoisonTest : public testing::Test {
 protected:
  TempDir dir_;
  const std::string& area_ = dir_.path();
};

class PoisonSignalTest : public PoisonTest, public testing::WithParamInterface<int> {};

TEST_P(PoisonSignalTest, TwoDeathsPoison) {
  die_executing(area_, GetParam());
  EXPECT_FALSE(is_poisoned(area_));
  die_executing(area_, GetParam());
  EXPECT_TRUE(is_poisoned(area_));
  EXPECT_TRUE(is_poisoned(area_));
}

INSTANTIATE_TEST_SUITE_P(Fatal, PoisonSignalTest,
                         testing::Values(SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE));

TEST_F(PoisonTest, TheSignalStillKills) {
  const int status = server(area_, [](PoisonGuard& guard) {
    guard.note(kGuest, kWrite, kPayload);
    std::abort();
  });
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGABRT);
}

TEST_F(PoisonTest, PlainKillsCountAgainstNobody) {
  for (int i = 0; i < 5; ++i) die_executing(area_, SIGKILL);
  EXPECT_FALSE(is_poisoned(area_));
}

TEST_F(PoisonTest, ADeathBetweenRequestsCountsAgainstNobody) {
  for (int i = 0; i < 3; ++i) {
    server(area_, [](PoisonGuard& guard) {
      guard.note(kGuest, kWrite, kPayload);
      guard.done();
      std::abort();
    });
  }
  EXPECT_FALSE(is_poisoned(area_));
}

TEST_F(PoisonTest, AnotherThreadsDeathCountsAgainstNobody) {
  for (int i = 0; i < 3; ++i) {
    server(area_, [](PoisonGuard& guard) {
      guard.note(kGuest, kWrite, kPayload);
      std::thread([] { std::abort(); }).join();
    });
  }
  EXPECT_FALSE(is_poisoned(area_));
}

TEST_F(PoisonTest, OnlyTheSameRequestOfTheSameDomain) {
  die_executing(area_, SIGABRT);
  die_executing(area_, SIGABRT);
  EXPECT_TRUE(is_poisoned(area_));
  EXPECT_FALSE(is_poisoned(area_, Domid{6}));
  EXPECT_FALSE(is_poisoned(area_, kGuest, static_cast<std::uint32_t>(Op::kRead)));
  EXPECT_FALSE(is_poisoned(area_, kGuest, kWrite, "data/x"));
}

TEST_F(PoisonTest, ExecutingWellClearsASuspect) {
  die_executing(area_, SIGABRT);
  survive_executing(area_, "another");
  survive_executing(area_);
  die_executing(area_, SIGABRT);
  EXPECT_FALSE(is_poisoned(area_));
}

TEST_F(PoisonTest, APoisonedRequestIsSavedOnce) {
  die_executing(area_, SIGABRT);
  die_executing(area_, SIGABRT);
  ASSERT_TRUE(is_poisoned(area_));
  const std::string saved = dir_.path("poisoned/0");
  EXPECT_EQ(contents(saved), "domain 5 WRITE (type 11), 11 bytes follow this line\n" + kPayload);
  std::filesystem::remove(saved);
  ASSERT_TRUE(is_poisoned(area_));
  EXPECT_FALSE(std::filesystem::exists(saved));
}

TEST_F(PoisonTest, AnEmptyAndALongestPayload) {
  for (const std::string& payload : {std::string(), std::string(kPayloadMax, '\xff')}) {
    die_executing(area_, SIGABRT, payload);
    die_executing(area_, SIGABRT, payload);
    EXPECT_TRUE(is_poisoned(area_, kGuest, kWrite, payload)) << payload.size();
  }
}

TEST_F(PoisonTest, TheOldestSuspectGivesWay) {
  for (int i = 0; i < 65; ++i) die_executing(area_, SIGABRT, std::to_string(i));
  die_executing(area_, SIGABRT, "0");
  EXPECT_FALSE(is_poisoned(area_, kGuest, kWrite, "0"));
  die_executing(area_, SIGABRT, "64");
  EXPECT_TRUE(is_poisoned(area_, kGuest, kWrite, "64"));
}

TEST_F(PoisonTest, GarbageInTheFileIsDropped) {
  die_executing(area_, SIGABRT);
  const std::string file = dir_.path("poison.map");
  const auto size = std::filesystem::file_size(file);
  for (const std::string& garbage : {std::string(size, '\xff'), std::string(size, '\x01'),
                                     std::string(3, 'x'), std::string(size * 2, '\xa5')}) {
    put(file, garbage);
    EXPECT_FALSE(is_poisoned(area_));
    die_executing(area_, SIGABRT);
    die_executing(area_, SIGABRT);
    EXPECT_TRUE(is_poisoned(area_));
  }
}

// The header is sound, everything behind it is not: no crash, no endless suspicion.
TEST_F(PoisonTest, GarbageBehindASoundHeaderIsHarmless) {
  survive_executing(area_);
  const std::string file = dir_.path("poison.map");
  std::string bytes = contents(file);
  for (std::size_t i = 40; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 37 + 1);
  put(file, bytes);
  EXPECT_FALSE(is_poisoned(area_));
  survive_executing(area_);
}

TEST_F(PoisonTest, WithoutAFileItWorksForTheLifeOfTheProcess) {
  const int status = server(dir_.path("no/such/area"), [](PoisonGuard& guard) {
    guard.note(kGuest, kWrite, kPayload);
    guard.done();
    ::_exit(guard.is_poisoned(kGuest, kWrite, kPayload) ? 1 : 0);
  });
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace xenstored
