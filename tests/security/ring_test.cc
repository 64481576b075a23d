// SPDX-License-Identifier: MIT
/// Advisories about what a guest writes into its ring page.
#include <atomic>
#include <cstddef>
#include <cstring>

#include "rings/ring_page.h"
#include "tests/security/world.h"

namespace security {
namespace {

using rings::RingError;
using rings::RingPage;
using testing::ElementsAre;
using Index = std::atomic_ref<std::uint32_t>;

constexpr std::uint16_t kBad = 3;
constexpr std::uint16_t kGood = 7;
constexpr std::uint32_t kImpossibleLengths[] = {4097, 0x7fffffff, 0x80000000, 0xfffffff0,
                                                0xffffffff};

/// One guest breaks the rules; another watches that nothing happens to it.
class RingTest : public World {
 protected:
  RingTest() {
    add(kBad);
    add(kGood);
    EXPECT_EQ(ask(kGood, Op::kWrite, "key\0value"s), "OK\0"s);
    EXPECT_EQ(ask(kBad, Op::kWatch, "key\0token\0"s), "OK\0"s);
    EXPECT_EQ(ask(kBad, Op::kTransactionStart, "\0"s), "1\0"s);
  }

  RingPage& page() { return guest(kBad).guest().page(); }
  std::uint32_t error_in_page() { return Index(page().error).load(); }
  bool is_error(RingError error) {
    return eventually([&] { return error_in_page() == static_cast<std::uint32_t>(error); });
  }
  void send_header_with_length(std::uint32_t length) {
    std::string bytes = frame(Op::kRead, "");
    std::memcpy(bytes.data() + offsetof(xenstored::Header, len), &length, sizeof length);
    guest(kBad).guest().send(bytes + "and what follows");
  }
  /// Indices that lie, and a request that makes the daemon look at them.
  void set_and_notify(std::uint32_t& index, std::uint32_t value) {
    Index(index).store(value);
    guest(kBad).guest().notify();
  }
  void others_are_served() {
    EXPECT_EQ(ask(kGood, Op::kRead, "key\0"s), "value");
    EXPECT_EQ(ask(Op::kRead, "/local/domain/7/key\0"s), "value");
  }
  /// What it had on its connection is gone, and nothing goes on in its ring.
  void is_cut_off() {
    const std::uint32_t answered = Index(page().rsp_prod).load();
    others_are_served();
    EXPECT_EQ(usage(kBad, "watches"), 0U);
    EXPECT_EQ(usage(kBad, "transactions"), 0U);
    std::string request = frame(Op::kWrite, "after\0value"s);
    guest(kBad).guest().write(request);
    guest(kBad).guest().notify();
    others_are_served();
    EXPECT_EQ(ask(Op::kRead, "/local/domain/3/after\0"s), "ENOENT");
    EXPECT_EQ(Index(page().rsp_prod).load(), answered);
  }
  void is_served_after_introduction() {
    EXPECT_EQ(introduce(kBad), "OK\0"s);
    EXPECT_EQ(error_in_page(), 0U);
    EXPECT_EQ(ask(kBad, Op::kWrite, "again\0value"s), "OK\0"s);
    EXPECT_EQ(ask(kBad, Op::kUnwatch, "key\0token\0"s), "ENOENT");
    EXPECT_EQ(ask(kBad, Op::kWatch, "key\0token\0"s), "OK\0"s);
    EXPECT_EQ(ask(kBad, Op::kTransactionStart, "\0"s).back(), '\0');
  }
  void breaks(const std::function<void()>& act, RingError error) {
    act();
    EXPECT_TRUE(is_error(error)) << error_in_page();
    is_cut_off();
    is_served_after_introduction();
  }
};

class Xsa38 : public RingTest {
 protected:
  std::string requests_answered_;
};

TEST_F(Xsa38, MoreRequestsThanTheRingHolds) {
  for (const std::uint32_t more : {1025U, 2048U, 0x80000000U, 0xffffffffU}) {
    SCOPED_TRACE(more);
    breaks([&] { set_and_notify(page().req_prod, page().req_cons + more); }, RingError::kIndex);
  }
}

TEST_F(Xsa38, FullRingIsNotTakenForAnEmptyOne) {
  const std::string request = frame(Op::kRead, "key\0"s + std::string(12, '\0'));
  const std::string reply = frame(Op::kError, "EINVAL\0"s);
  std::string requests;
  std::string expected;
  while (requests.size() < rings::kRingBytes) {
    requests += request;
    expected += reply;
  }
  guest(kBad).guest().receive(requests_answered_);
  requests_answered_.clear();
  pause_daemon();
  EXPECT_EQ(guest(kBad).guest().send(requests), rings::kRingBytes);
  resume_daemon();
  EXPECT_TRUE(eventually([&] {
    guest(kBad).guest().receive(requests_answered_);
    return requests_answered_.size() >= expected.size();
  }));
  EXPECT_EQ(requests_answered_, expected);
}

TEST_F(Xsa38, MoreRepliesTakenThanWereSent) {
  for (const std::uint32_t ahead : {1U, 1025U, 0x80000000U}) {
    SCOPED_TRACE(ahead);
    const auto act = [&] {
      Index(page().rsp_cons).store(page().rsp_prod + ahead);
      guest(kBad).guest().send(frame(Op::kRead, "key\0"s));
    };
    breaks(act, RingError::kIndex);
  }
}

TEST_F(Xsa38, RepliesLeftThatWereNeverThere) {
  const auto act = [&] {
    Index(page().rsp_cons).store(page().rsp_prod - 1025);
    guest(kBad).guest().send(frame(Op::kRead, "key\0"s));
  };
  breaks(act, RingError::kIndex);
}

TEST_F(Xsa38, ImpossibleLengths) {
  for (const std::uint32_t length : kImpossibleLengths) {
    SCOPED_TRACE(length);
    breaks([&] { send_header_with_length(length); }, RingError::kProtocol);
  }
}

TEST_F(Xsa38, OurOwnIndicesInThePageAreNotBelieved) {
  for (const std::uint32_t value : {0U, 77U, 0x80000000U, 0xffffffffU}) {
    SCOPED_TRACE(value);
    Guest& bad = guest(kBad).guest();
    const std::uint32_t produced = Index(page().rsp_prod).load();
    const std::uint32_t consumed = Index(page().req_cons).load();
    const std::string request = frame(Op::kGetDomainPath, "3\0"s);
    const auto answer_bytes =
        static_cast<std::uint32_t>(frame(Op::kGetDomainPath, "/local/domain/3\0"s).size());
    ASSERT_EQ(bad.write(request), request.size());
    Index(page().req_cons).store(value);
    Index(page().rsp_prod).store(value);
    bad.notify();
    EXPECT_TRUE(eventually([&] {
      return Index(page().rsp_prod).load() == produced + answer_bytes &&
             Index(page().req_cons).load() == consumed + request.size();
    }));
    std::string answer;
    bad.read(answer);
    EXPECT_THAT(answer, testing::HasSubstr("/local/domain/3"));
    others_are_served();
  }
}

TEST_F(Xsa38, ErrorIsToldOnlyToWhoWasOfferedIt) {
  EXPECT_EQ(ask(Op::kSetFeature,
                "3\0"
                "13\0"s),
            "OK\0"s);
  set_and_notify(page().req_prod, page().req_cons + 1025);
  EXPECT_TRUE(eventually([&] { return usage(kBad, "watches") == 0; }));
  is_cut_off();
  EXPECT_EQ(error_in_page(), 0U);
  is_served_after_introduction();
}

TEST_F(Xsa38, BrokenRingStaysBrokenAcrossKills) {
  set_and_notify(page().req_prod, page().req_cons + 1025);
  EXPECT_TRUE(is_error(RingError::kIndex));
  restart();
  is_cut_off();
  is_served_after_introduction();
}

TEST_F(Xsa38, IndicesChangedWhileTheDaemonIsAway) {
  for (std::uint32_t RingPage::*index :
       {&RingPage::req_prod, &RingPage::rsp_prod, &RingPage::rsp_cons, &RingPage::req_cons}) {
    for (const std::uint32_t value : {1025U, 0x80000000U, 0xffffffffU}) {
      kill_daemon();
      Index(page().*index).store(page().*index + value);
      start_daemon();
      guest(kBad).guest().send(frame(Op::kRead, "key\0"s));
      others_are_served();
      is_served_after_introduction();
    }
  }
}

TEST_F(Xsa38, GuestMendsItsRingByReconnecting) {
  set_and_notify(page().req_prod, page().req_cons + 1025);
  EXPECT_TRUE(is_error(RingError::kIndex));
  Index(page().connection).store(rings::kReconnect);
  guest(kBad).guest().notify();
  EXPECT_TRUE(eventually([&] { return Index(page().connection).load() == rings::kConnected; }));
  EXPECT_EQ(error_in_page(), 0U);
  EXPECT_EQ(ask(kBad, Op::kWrite, "again\0value"s), "OK\0"s);
}

class Xsa420 : public RingTest {};

TEST_F(Xsa420, NegativeLengthsDoNotKeepTheDaemonBusy) {
  for (const std::uint32_t length : {0x80000000U, 0x80000010U, 0xffff0000U, 0xfffffff0U}) {
    SCOPED_TRACE(length);
    breaks([&] { send_header_with_length(length); }, RingError::kProtocol);
  }
}

TEST_F(Xsa420, NorDoLengthsOfWhichTheRestNeverComes) {
  send_header_with_length(4096);
  const auto busy = [this] { return ask(Op::kRead, "/\0"s); };
  for (int i = 0; i < 100; ++i) EXPECT_EQ(busy(), "");
  EXPECT_EQ(error_in_page(), 0U);
  others_are_served();
  is_served_after_introduction();
}

class Xsa325 : public RingTest {
 protected:
  Xsa325() {
    EXPECT_EQ(ask(Op::kWatch, "@releaseDomain\0token\0"s), "OK\0"s);
    ask(Op::kRead, "/\0"s);
    EXPECT_THAT(toolstack().take_events(), ElementsAre("@releaseDomain\0token\0"s));
    set_and_notify(page().req_prod, page().req_cons + 1025);
    EXPECT_TRUE(is_error(RingError::kIndex));
  }
  void release_is_told() {
    EXPECT_TRUE(eventually([this] { return !is_introduced(kBad); }));
    EXPECT_THAT(toolstack().take_events(), ElementsAre("@releaseDomain\0token\0"s));
    EXPECT_EQ(ask(Op::kRead, "/local/domain/3\0"s), "ENOENT");
    others_are_served();
  }
};

TEST_F(Xsa325, DomainWithABrokenRingIsReleasedWhenItIsDestroyed) {
  machine().destroy({kBad});
  release_is_told();
}

TEST_F(Xsa325, AlsoWhileItIsBeingDestroyed) {
  machine().start_dying(kBad);
  release_is_told();
}

TEST_F(Xsa325, AlsoWhenItDiesWhileTheDaemonIsAway) {
  kill_daemon();
  machine().destroy({kBad});
  start_daemon();
  EXPECT_TRUE(eventually([this] { return !is_introduced(kBad); }));
  EXPECT_EQ(ask(Op::kRead, "/local/domain/3\0"s), "ENOENT");
  others_are_served();
}

class Xsa425 : public RingTest {
 protected:
  /// Replies not taken, more than the ring holds; requests and half of one not looked at.
  void fill_both_rings() {
    EXPECT_EQ(ask(kBad, Op::kWrite, "big\0"s + std::string(900, 'b')), "OK\0"s);
    Guest& bad = guest(kBad).guest();
    for (int i = 0; i < 5; ++i) bad.send(frame(Op::kRead, "big\0"s));
    others_are_served();
    pause_daemon();
    for (int i = 0; i < 5; ++i) bad.send(frame(Op::kWrite, "key\0late"s));
    bad.send(frame(Op::kWrite, "key\0half of it"s).substr(0, 20));
    bad.notify();
  }
  /// Requests of the toolstack succeed, all in the turn that has the guest's event.
  void succeed_at_once(const std::vector<std::string>& requests) {
    std::string all;
    for (const std::string& request : requests) all += request;
    toolstack().send(all);
    resume_daemon();
    for (std::size_t i = 0; i < requests.size(); ++i)
      EXPECT_EQ(toolstack().receive().payload, "OK\0"s);
  }
};

TEST_F(Xsa425, ReleasedAndIntroducedInOneTurnWithBothRingsFull) {
  const std::string release = frame(Op::kRelease, "3\0"s);
  const std::string introduce = frame(Op::kIntroduce, introduction(kBad));
  for (int round = 0; round < 20; ++round) {
    fill_both_rings();
    succeed_at_once({frame(Op::kWrite, "/local/domain/3/key\0new"s), release, introduce, introduce,
                     release, introduce});
    others_are_served();
    give_home(kBad);
    replace_guest(kBad);
    is_served_after_introduction();
  }
}

TEST_F(Xsa425, ReleasedWhileItDiesWithBothRingsFull) {
  for (int round = 0; round < 20; ++round) {
    fill_both_rings();
    machine().destroy({kBad});
    toolstack().send(frame(Op::kWrite, "/local/domain/3/key\0new"s) + frame(Op::kRelease, "3\0"s));
    resume_daemon();
    for (int i = 0; i < 2; ++i) toolstack().receive();
    others_are_served();
    EXPECT_TRUE(eventually([this] { return !is_introduced(kBad); }));
    add(kBad);
    EXPECT_EQ(ask(kBad, Op::kWatch, "key\0token\0"s), "OK\0"s);
  }
}

class Xsa484 : public RingTest {};

TEST_F(Xsa484, RingBreaksInsideATransaction) {
  EXPECT_EQ(ask(kBad, Op::kWrite, "inside\0value"s, 1), "OK\0"s);
  breaks([this] { set_and_notify(page().req_prod, page().req_cons + 1025); }, RingError::kIndex);
  EXPECT_EQ(ask(Op::kRead, "/local/domain/3/inside\0"s), "ENOENT");
}

TEST_F(Xsa484, WatchesAreResetInsideATransaction) {
  EXPECT_EQ(ask(kBad, Op::kWrite, "inside\0value"s, 1), "OK\0"s);
  EXPECT_EQ(ask(kBad, Op::kResetWatches, "\0"s, 1), "OK\0"s);
  EXPECT_EQ(ask(kBad, Op::kTransactionEnd, "T\0"s, 1), "ENOENT");
  EXPECT_EQ(ask(kBad, Op::kRead, "inside\0"s), "ENOENT");
}

}  // namespace
}  // namespace security
