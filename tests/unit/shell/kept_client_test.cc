// SPDX-License-Identifier: MIT
/// A kept client's file, as one process leaves it and the next finds it; and the keeper's
/// holding of sockets.
#include "xenstored/kept_client.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <iterator>
#include <memory>
#include <string>

#include "tests/unit/shell/temp_dir.h"
#include "xenstored/held_clients.h"

namespace xenstored {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Received = KeptClient::Received;

constexpr store::ConnId kId{7};

/// Whoever notes what a call has moved.
class KeptClientTest : public ::testing::TestWithParam<KeptClient::Calls> {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    server_.reset(ends[0]);
    client_.reset(ends[1]);
  }
  const std::string& directory() const { return dir_.path(); }

  std::unique_ptr<KeptClient> create(std::string_view in = {}, std::string_view out = {},
                                     std::uint64_t sent = 0) {
    auto made = KeptClient::create(directory(), kId, in, {0, out.size(), out}, sent);
    EXPECT_TRUE(made.has_value());
    return std::move(made.value());
  }
  /// As the next process does it. Null: it cannot be continued.
  std::unique_ptr<KeptClient> open(std::uint64_t confirmed) const {
    auto opened = KeptClient::open(directory(), kId, confirmed);
    return opened.has_value() ? std::move(opened.value()) : nullptr;
  }
  /// All output so far is `stream`.
  static void save(KeptClient& kept, std::string_view stream, std::uint64_t commit) {
    const KeptClient::Output out{0, stream.size(), stream};
    EXPECT_TRUE(kept.make_room(out));
    kept.save({}, out, commit);
  }
  static std::string output(const KeptClient& kept) {
    std::string scratch;
    return std::string(kept.output(scratch).bytes);
  }
  void ask(std::string_view bytes) const {
    ASSERT_EQ(::write(client_.get(), bytes.data(), bytes.size()),
              static_cast<ssize_t>(bytes.size()));
  }

  TempDir dir_;
  UniqueFd server_;
  UniqueFd client_;
  std::string_view bytes_;
};

TEST_P(KeptClientTest, NothingIsValidBeforeItsCommit) {
  const auto kept = create();
  EXPECT_EQ(open(5), nullptr);
  save(*kept, "reply", 6);
  EXPECT_EQ(open(5), nullptr);
}

TEST_P(KeptClientTest, AVersionIsValidFromItsCommitOn) {
  const auto kept = create();
  save(*kept, "one", 6);
  kept->save({.last_tx = 9, .open_tx = {store::TxId{4}, store::TxId{9}}}, {0, 6, "onetwo"}, 7);
  const auto next = open(7);
  ASSERT_NE(next, nullptr);
  EXPECT_EQ(output(*next), "onetwo");
  EXPECT_EQ(next->turn().last_tx, 9u);
  EXPECT_THAT(next->turn().open_tx, ElementsAre(store::TxId{4}, store::TxId{9}));
  EXPECT_FALSE(next->turn().is_closed);
}

TEST_P(KeptClientTest, WhatWasNotCommittedIsNeverValid) {
  const auto kept = create();
  save(*kept, "one", 6);
  save(*kept, "one and what came to nothing", 7);
  ASSERT_NE(open(6), nullptr);
  // Another turn becomes commit 7 now.
  const auto next = open(7);
  ASSERT_NE(next, nullptr);
  EXPECT_EQ(output(*next), "one");
}

TEST_P(KeptClientTest, ACommitThatCameToNothingMakesItValidAllTheSame) {
  const auto kept = create();
  save(*kept, "one", 7);
  kept->committed(6);
  ASSERT_NE(open(6), nullptr);
}

TEST_P(KeptClientTest, WhatWasReceivedAndNotExecutedIsFoundAgain) {
  const auto kept = create("left over, ");
  ask("first, second");
  EXPECT_EQ(kept->receive(server_.get(), bytes_, GetParam()), Received::kBytes);
  EXPECT_EQ(bytes_, "first, second");
  kept->executed(std::string("left over, first, ").size());
  save(*kept, "", 1);
  EXPECT_EQ(kept->receive(server_.get(), bytes_, GetParam()), Received::kNothing);
  const auto next = open(1);
  ASSERT_NE(next, nullptr);
  EXPECT_EQ(next->unexecuted(), "second");
}

TEST_P(KeptClientTest, ReceivesAroundTheEndOfItsInboxAndNoMoreThanItHolds) {
  const auto kept = create();
  std::string all;
  std::string received;
  for (int i = 0; i < 100; ++i) {
    const std::string part(1000, static_cast<char>('a' + i % 26));
    ask(part);
    all += part;
    for (const std::size_t end = received.size() + part.size(); received.size() < end;) {
      ASSERT_EQ(kept->receive(server_.get(), bytes_, GetParam()), Received::kBytes);
      received += bytes_;
    }
    if (kept->room() < 2000) {
      EXPECT_EQ(open(0), nullptr);
      kept->executed(received.size() - 500);
      received.erase(0, received.size() - 500);
      save(*kept, "", 1);
      const auto next = open(1);
      ASSERT_NE(next, nullptr);
      EXPECT_EQ(next->unexecuted(), received);
      EXPECT_EQ(received, all.substr(all.size() - 500));
    }
  }
  ask(std::string(2 * KeptClient::kInboxBytes, 'x'));
  while (kept->room() != 0) {
    EXPECT_EQ(kept->receive(server_.get(), bytes_, GetParam()), Received::kBytes);
  }
  EXPECT_EQ(kept->receive(server_.get(), bytes_, GetParam()), Received::kNothing);
}

TEST_P(KeptClientTest, TheEndOfTheStreamIsNotNothing) {
  const auto kept = create();
  EXPECT_EQ(kept->receive(server_.get(), bytes_, GetParam()), Received::kNothing);
  client_.reset();
  EXPECT_EQ(kept->receive(server_.get(), bytes_, GetParam()), Received::kEnd);
}

TEST_P(KeptClientTest, HowMuchWasSentIsKnownWithoutAnotherWord) {
  const auto kept = create({}, "0123456789", 4);
  save(*kept, "0123456789", 1);
  EXPECT_EQ(kept->sent(), 4u);
  EXPECT_EQ(kept->send(server_.get(), "456", GetParam()), 3);
  const auto next = open(1);
  ASSERT_NE(next, nullptr);
  EXPECT_EQ(next->sent(), 7u);
  EXPECT_EQ(next->send(server_.get(), "789", GetParam()), 3);
  EXPECT_EQ(next->sent(), 10u);
}

TEST_P(KeptClientTest, AFullSocketTakesAPartOrNothing) {
  const auto kept = create();
  std::string stream(std::size_t{4} << 20, 's');
  save(*kept, stream, 1);
  std::uint64_t sent = 0;
  ssize_t count;
  while ((count = kept->send(server_.get(), std::string_view(stream).substr(sent), GetParam())) >
         0) {
    sent += static_cast<std::uint64_t>(count);
  }
  EXPECT_EQ(count, -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_GT(sent, 0u);
  const auto next = open(1);
  ASSERT_NE(next, nullptr);
  EXPECT_EQ(next->sent(), sent);
}

TEST_P(KeptClientTest, ALargerOutboxSaysTheSameAsTheSmallOne) {
  const auto kept = create();
  std::string stream = "small";
  save(*kept, stream, 1);
  for (std::uint64_t commit = 2; stream.size() < 300'000; ++commit) {
    std::string grown = stream + std::string(stream.size(), static_cast<char>('a' + commit));
    const KeptClient::Output out{0, grown.size(), grown};
    ASSERT_TRUE(kept->make_room(out));
    EXPECT_EQ(output(*open(commit - 1)), stream);
    kept->save({}, out, commit);
    EXPECT_EQ(output(*open(commit)), grown);
    stream = std::move(grown);
  }
}

TEST_P(KeptClientTest, AnEmptyOutboxBecomesSmallAgain) {
  const auto kept = create();
  const std::string stream(std::size_t{3} << 20, 's');
  save(*kept, stream, 1);
  const auto file = std::filesystem::path(directory()) / "7";
  const auto large = std::filesystem::file_size(file);
  const KeptClient::Output rest{stream.size(), stream.size(), {}};
  kept->save({}, rest, 2);
  ASSERT_TRUE(kept->make_room(rest));
  EXPECT_LT(std::filesystem::file_size(file), large / 10);
  ASSERT_TRUE(kept->make_room({stream.size(), stream.size() + 3, "new"}));
  kept->save({}, {stream.size(), stream.size() + 3, "new"}, 3);
  EXPECT_EQ(kept->send(server_.get(), "new", GetParam()), 3);
}

TEST_P(KeptClientTest, AFileThatIsNoneIsRefused) {
  {
    const auto kept = create();
    save(*kept, "x", 1);
  }
  const auto file = std::filesystem::path(directory()) / "7";
  std::filesystem::resize_file(file, 5000);
  EXPECT_EQ(open(1), nullptr);
  std::filesystem::resize_file(file, 0);
  EXPECT_EQ(open(1), nullptr);
  std::filesystem::remove(file);
  EXPECT_EQ(open(1), nullptr);
}

TEST_P(KeptClientTest, TheSweepSparesThoseItIsTold) {
  const auto kept = create();
  const auto other = KeptClient::create(directory(), store::ConnId{8}, {}, {0, 0, {}}, 0);
  ASSERT_TRUE(other.has_value());
  const store::ConnId ids[] = {kId};
  KeptClient::sweep(directory(), ids);
  EXPECT_TRUE(std::filesystem::exists(dir_.path("7")));
  EXPECT_FALSE(std::filesystem::exists(dir_.path("8")));
}

std::string name_of(const ::testing::TestParamInfo<KeptClient::Calls>& calls) {
  return calls.param == KeptClient::Calls::kNoted ? "Noted" : "Plain";
}
INSTANTIATE_TEST_SUITE_P(Calls, KeptClientTest,
                         ::testing::Values(KeptClient::Calls::kNoted, KeptClient::Calls::kPlain),
                         name_of);

/// A process that dies within that system call.
class KeptClientDeathTest : public KeptClientTest {
 protected:
  void die_in(int number, const std::function<void()>& call) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      sock_filter filter[] = {
          BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 1),
          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      };
      const sock_fprog program{std::size(filter), filter};
      const bool is_set = ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                          ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
      if (is_set) call();
      ::_exit(1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "it came back";
  }
};

TEST_P(KeptClientDeathTest, InACallThatReceives) {
  const auto kept = create();
  save(*kept, "", 1);
  ask("a request");
  const bool is_plain = GetParam() == KeptClient::Calls::kPlain;
  die_in(is_plain ? SYS_recvfrom : SYS_recvmmsg,
         [&] { kept->receive(server_.get(), bytes_, GetParam()); });
  const auto next = open(1);
  ASSERT_EQ(next == nullptr, is_plain);
  if (next) {
    EXPECT_EQ(next->unexecuted(), "");
  }
}

TEST_P(KeptClientDeathTest, InACallThatSends) {
  const auto kept = create({}, "reply");
  save(*kept, "reply", 1);
  const bool is_plain = GetParam() == KeptClient::Calls::kPlain;
  die_in(is_plain ? SYS_sendto : SYS_sendmmsg,
         [&] { kept->send(server_.get(), "reply", GetParam()); });
  const auto next = open(1);
  ASSERT_EQ(next == nullptr, is_plain);
  if (next) {
    EXPECT_EQ(next->sent(), 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Calls, KeptClientDeathTest,
                         ::testing::Values(KeptClient::Calls::kNoted, KeptClient::Calls::kPlain),
                         name_of);

class HeldClientsTest : public ::testing::Test {
 protected:
  HeldClientsTest() : holder_(std::move(ClientHolder::make().value())) {}
  /// A server that the holder starts: what it inherits are descriptors of its own.
  HeldClients start() {
    holder_.listen();
    auto server = HeldClients::open(::dup(holder_.server_channel_fd()), ::dup(holder_.table_fd()));
    EXPECT_TRUE(server.has_value());
    return std::move(server.value());
  }
  /// Its inherited numbers are the keeper's here: not to be closed twice.
  static std::vector<std::uint64_t> ids_of(HeldClients& server) {
    std::vector<std::uint64_t> ids;
    for (HeldClients::Client& client : server.take()) {
      ids.push_back(raw(client.id));
      (void)client.fd.release();
    }
    return ids;
  }

  ClientHolder holder_;
};

TEST_F(HeldClientsTest, WhatIsHeldLivesOnWithTheNextServer) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  UniqueFd near(ends[0]);
  const UniqueFd far(ends[1]);
  {
    HeldClients first = start();
    EXPECT_THAT(first.take(), IsEmpty());
    EXPECT_TRUE(first.hold(store::ConnId{3}, near.get()));
    near.reset();
  }
  HeldClients second = start();
  auto held = second.take();
  ASSERT_THAT(held, SizeIs(1));
  EXPECT_EQ(raw(held[0].id), 3u);
  EXPECT_EQ(::write(held[0].fd.get(), "x", 1), 1);
  char byte = 0;
  EXPECT_EQ(::read(far.get(), &byte, 1), 1);
  (void)held[0].fd.release();

  second.let_go(store::ConnId{3});
  EXPECT_TRUE(second.catch_up());
  HeldClients third = start();
  EXPECT_THAT(third.take(), IsEmpty());
  EXPECT_EQ(::read(far.get(), &byte, 1), 0) << "the keeper has it still";
}

TEST_F(HeldClientsTest, AHolderThatDoesNotListenIsToldLater) {
  HeldClients server = start();
  const UniqueFd null(::open("/dev/null", O_RDWR));
  std::uint64_t held = 0;
  while (server.hold(store::ConnId{held + 1}, null.get())) ++held;
  EXPECT_FALSE(server.is_gone());
  server.let_go(store::ConnId{1});
  EXPECT_FALSE(server.catch_up());
  EXPECT_FALSE(server.has_room());
  holder_.listen();
  EXPECT_TRUE(server.has_room());
  HeldClients next = start();
  const auto ids = ids_of(next);
  EXPECT_EQ(ids.size(), held - 1);
  EXPECT_EQ(ids.front(), 2u);
}

TEST_F(HeldClientsTest, AHolderHoldsSoManyAndNoMore) {
  constexpr rlim_t kDescriptors = kHeldMax + 100;
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = std::max(limit.rlim_cur, kDescriptors);
  limit.rlim_max = std::max(limit.rlim_max, kDescriptors);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0) << "too few descriptors are allowed here";
  HeldClients server = start();
  const UniqueFd null(::open("/dev/null", O_RDWR));
  for (std::uint64_t id = 1; id <= kHeldMax; ++id) {
    ASSERT_TRUE(server.has_room());
    ASSERT_TRUE(server.hold(store::ConnId{id}, null.get()));
    holder_.listen();
  }
  EXPECT_FALSE(server.has_room());
  server.let_go(store::ConnId{1});
  EXPECT_TRUE(server.has_room());
}

TEST_F(HeldClientsTest, NobodyIsTheKeeperAnyMore) {
  HeldClients server = start();
  const UniqueFd null(::open("/dev/null", O_RDWR));
  { const ClientHolder gone = std::move(holder_); }
  EXPECT_FALSE(server.hold(store::ConnId{1}, null.get()));
  EXPECT_TRUE(server.is_gone());
  EXPECT_FALSE(server.has_room());
  server.let_go(store::ConnId{1});
  EXPECT_TRUE(server.catch_up());
}

}  // namespace
}  // namespace xenstored
