// SPDX-License-Identifier: MIT
// The page as Xen's header has it, and the two streams in it: with guests that keep
// to the rules, and with guests that do not.
#include "rings/ring_page.h"

#include <gtest/gtest.h>
#include <xen/io/xs_wire.h>

#include <atomic>
#include <chrono>
#include <random>
#include <semaphore>
#include <thread>

#include "tests/unit/rings/twins.h"

namespace rings {
namespace {

// Not far from where indices wrap, so that short lives see it too.
constexpr std::uint32_t kNearWrap = 0U - 700;

TEST(RingPage, LiesAsInXensHeader) {
  using Xens = xenstore_domain_interface;
  EXPECT_EQ(kRingBytes, std::uint32_t{XENSTORE_RING_SIZE});
  EXPECT_EQ(offsetof(RingPage, req), offsetof(Xens, req));
  EXPECT_EQ(offsetof(RingPage, rsp), offsetof(Xens, rsp));
  EXPECT_EQ(offsetof(RingPage, req_cons), offsetof(Xens, req_cons));
  EXPECT_EQ(offsetof(RingPage, req_prod), offsetof(Xens, req_prod));
  EXPECT_EQ(offsetof(RingPage, rsp_cons), offsetof(Xens, rsp_cons));
  EXPECT_EQ(offsetof(RingPage, rsp_prod), offsetof(Xens, rsp_prod));
  EXPECT_EQ(offsetof(RingPage, server_features), offsetof(Xens, server_features));
  EXPECT_EQ(offsetof(RingPage, connection), offsetof(Xens, connection));
  EXPECT_EQ(offsetof(RingPage, error), offsetof(Xens, error));
}

TEST(RingPage, ValuesAreThoseOfXensHeader) {
  EXPECT_EQ(kConnected, std::uint32_t{XENSTORE_CONNECTED});
  EXPECT_EQ(kReconnect, std::uint32_t{XENSTORE_RECONNECT});
  EXPECT_EQ(RingError::kNone, RingError{XENSTORE_ERROR_NONE});
  EXPECT_EQ(RingError::kComm, RingError{XENSTORE_ERROR_COMM});
  EXPECT_EQ(RingError::kIndex, RingError{XENSTORE_ERROR_RINGIDX});
  EXPECT_EQ(RingError::kProtocol, RingError{XENSTORE_ERROR_PROTO});
}

/// A page of which every byte is told from its neighbours.
RingPage counting_page() {
  RingPage page;
  unsigned char bytes[sizeof page];
  for (std::size_t i = 0; i < sizeof page; ++i) bytes[i] = static_cast<unsigned char>(i % 251 + 1);
  std::memcpy(&page, bytes, sizeof page);
  return page;
}

bool same(const RingPage& left, const RingPage& right) {
  return std::memcmp(&left, &right, sizeof left) == 0;
}

TEST(RingPage, EachFieldIsWrittenAlone) {
  RingPage page = counting_page();
  RingPage expected = page;
  set_error(page, RingError::kProtocol);
  expected.error = 3;
  EXPECT_TRUE(same(page, expected));
  set_connection_state(page, kReconnect);
  expected.connection = 1;
  EXPECT_TRUE(same(page, expected));
  EXPECT_EQ(connection_state(page), kReconnect);
  set_server_features(page, 3);
  expected.server_features = 3;
  EXPECT_TRUE(same(page, expected));
  reset_indices(page);
  expected.req_cons = expected.req_prod = expected.rsp_cons = expected.rsp_prod = 0;
  expected.error = 0;
  EXPECT_TRUE(same(page, expected));
}

TEST(RingPage, IndicesAreReadEachFromItsPlace) {
  RingPage page{};
  page.req_cons = 1;
  page.req_prod = 2;
  page.rsp_cons = 3;
  page.rsp_prod = 4;
  const RingIndices read = read_indices(page);
  EXPECT_EQ(read.req_cons, 1U);
  EXPECT_EQ(read.req_prod, 2U);
  EXPECT_EQ(read.rsp_cons, 3U);
  EXPECT_EQ(read.rsp_prod, 4U);
}

TEST(RequestRing, BytesAreFetchedOnceAndStayUntilReleased) {
  RingPage page{};
  RequestRing ring(page, 0);
  std::string got;
  std::memcpy(page.req, "abcdef", 6);
  page.req_prod = 4;
  EXPECT_EQ(ring.fetch(got), 4U);
  EXPECT_EQ(ring.fetch(got), 0U);
  page.req_prod = 6;
  EXPECT_EQ(ring.fetch(got), 2U);
  EXPECT_EQ(got, "abcdef");
  EXPECT_EQ(page.req_cons, 0U);
  EXPECT_TRUE(ring.release(5));
  EXPECT_EQ(page.req_cons, 5U);
  EXPECT_FALSE(ring.release(5));
}

TEST(RequestRing, WhatIsNotReleasedCountsAsInTheRing) {
  RingPage page{};
  RequestRing ring(page, kNearWrap);
  std::string got;
  page.req_prod = kNearWrap + kRingBytes;
  EXPECT_EQ(ring.fetch(got), kRingBytes);
  page.req_prod += 1;
  EXPECT_FALSE(ring.fetch(got).has_value());
  ring.release(kNearWrap + 1);
  EXPECT_EQ(ring.fetch(got), 1U);
  EXPECT_EQ(got.size(), kRingBytes + 1);
}

TEST(RequestRing, AnIndexThatGoesBackIsAnError) {
  RingPage page{};
  RequestRing ring(page, 10);
  std::string got;
  page.req_prod = 20;
  EXPECT_EQ(ring.fetch(got), 10U);
  for (const std::uint32_t hostile : {19U, 10U, 9U, 0U, 0U - 1, 10U + kRingBytes + 1}) {
    page.req_prod = hostile;
    EXPECT_FALSE(ring.fetch(got).has_value()) << hostile;
  }
  EXPECT_EQ(got.size(), 10U);
  EXPECT_EQ(ring.fetched(), 20U);
}

TEST(RequestRing, AfterARestartThePageIsPutRight) {
  RingPage page{};
  page.req_cons = 3;  // as far as the one before us came
  page.req_prod = 9;
  std::memcpy(page.req, "012345678", 9);
  RequestRing ring(page, 7);
  EXPECT_TRUE(ring.release(7));
  EXPECT_EQ(page.req_cons, 7U);
  std::string got;
  EXPECT_EQ(ring.fetch(got), 2U);
  EXPECT_EQ(got, "78");
}

TEST(ReplyRing, TakesWhatThereIsSpaceFor) {
  RingPage page{};
  page.rsp_cons = kNearWrap;
  ReplyRing ring(page, kNearWrap);
  EXPECT_EQ(ring.publish(std::string(1000, 'a')), 1000U);
  EXPECT_EQ(ring.publish(std::string(1000, 'b')), 24U);
  EXPECT_EQ(ring.publish("c"), 0U);
  EXPECT_EQ(page.rsp_prod, kNearWrap + kRingBytes);
  page.rsp_cons += 1;
  EXPECT_EQ(ring.publish("cd"), 1U);
  EXPECT_EQ(page.rsp[kNearWrap % kRingBytes], 'c');
  EXPECT_EQ(ring.position(), kNearWrap + kRingBytes + 1);
}

TEST(Rings, TheLastLookBeforeWaiting) {
  RingPage page{};
  RequestRing requests(page, 0);
  ReplyRing replies(page, 0);
  std::string got;
  EXPECT_FALSE(requests.has_more());
  page.req_prod = 1;
  EXPECT_TRUE(requests.has_more());
  EXPECT_EQ(requests.fetch(got), 1U);
  EXPECT_FALSE(requests.has_more()) << "though it is not released";
  page.req_prod = 0;
  EXPECT_TRUE(requests.has_more()) << "an error to be found";

  EXPECT_TRUE(replies.has_space());
  EXPECT_EQ(replies.publish(std::string(kRingBytes, 'x')), kRingBytes);
  EXPECT_FALSE(replies.has_space());
  page.rsp_cons = 1;
  EXPECT_TRUE(replies.has_space());
  page.rsp_cons = kRingBytes + 1;
  EXPECT_TRUE(replies.has_space()) << "an error to be found";
}

TEST(ReplyRing, AReaderAheadOfUsOrTooFarBehindIsAnError) {
  RingPage page{};
  ReplyRing ring(page, 5000);
  for (const std::uint32_t hostile : {5001U, 5000U - kRingBytes - 1, 0U, 0U - 1}) {
    page.rsp_cons = hostile;
    EXPECT_FALSE(ring.publish("x").has_value()) << hostile;
    EXPECT_FALSE(ring.publish("").has_value()) << hostile;
  }
  EXPECT_EQ(page.rsp_prod, 0U);
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::uint32_t below(std::uint32_t limit) { return static_cast<std::uint32_t>(engine_() % limit); }
  bool one_in(std::uint32_t n) { return below(n) == 0; }
  std::string bytes(std::uint32_t limit) {
    std::string bytes(below(limit), '\0');
    for (char& byte : bytes) byte = static_cast<char>(engine_());
    return bytes;
  }

 private:
  std::mt19937_64 engine_;
};

/// A guest that keeps to the rules, with all that it ever sent and got.
class HonestGuest {
 public:
  explicit HonestGuest(RingPage& page) : page_(&page) {}
  void send(const std::string& bytes) {
    for (const char byte : bytes) {
      if (page_->req_prod - page_->req_cons == kRingBytes) return;
      page_->req[page_->req_prod++ % kRingBytes] = byte;
      sent += byte;
    }
  }
  void receive(std::size_t count) {
    for (; count > 0 && page_->rsp_cons != page_->rsp_prod; --count) {
      received += page_->rsp[page_->rsp_cons++ % kRingBytes];
    }
  }
  std::string sent;
  std::string received;

 private:
  RingPage* page_;
};

/// What the daemon does with one ring, dying now and then at the worst moments.
class MortalDaemon {
 public:
  MortalDaemon(RingPage& page, std::uint32_t in_off, std::uint32_t out_off)
      : page_(&page), in_off_(in_off), requests_(page, in_off), replies_(page, out_off) {}

  void fetch() { ASSERT_TRUE(requests_.fetch(fetched_).has_value()); }
  /// A part of what was fetched is taken into the state, for good.
  void commit(std::uint32_t count) {
    const auto taking = std::min<std::size_t>(count, fetched_.size());
    taken += fetched_.substr(0, taking);
    fetched_.erase(0, taking);
    in_off_ += static_cast<std::uint32_t>(taking);
  }
  void release() { requests_.release(in_off_); }
  void publish(const std::string& bytes) {
    const auto count = replies_.publish(bytes);
    ASSERT_TRUE(count.has_value());
    published += bytes.substr(0, *count);
  }
  void restart() {
    fetched_.clear();
    requests_ = RequestRing(*page_, in_off_);
    replies_ = ReplyRing(*page_, read_indices(*page_).rsp_prod);
    release();
  }
  std::string taken;
  std::string published;

 private:
  RingPage* page_;
  std::uint32_t in_off_;
  RequestRing requests_;
  ReplyRing replies_;
  std::string fetched_;
};

void live_by_the_rules(std::uint64_t seed) {
  Random random(seed);
  const std::uint32_t in_off = random.one_in(2) ? kNearWrap : random.below(~0U);
  const std::uint32_t out_off = random.one_in(2) ? kNearWrap : random.below(~0U);
  RingPage page{};
  page.req_cons = page.req_prod = in_off;
  page.rsp_cons = page.rsp_prod = out_off;
  HonestGuest guest(page);
  MortalDaemon daemon(page, in_off, out_off);
  for (int step = 0; step < 400; ++step) {
    switch (random.below(8)) {
      case 0:
      case 1:
        guest.send(random.bytes(900));
        break;
      case 2:
        guest.receive(random.below(900));
        break;
      case 3:
        daemon.fetch();
        break;
      case 4:
        daemon.commit(random.below(900));
        break;
      case 5:
        daemon.release();
        break;
      case 6:
        daemon.publish(random.bytes(900));
        break;
      default:
        if (random.one_in(4)) daemon.restart();
    }
  }
  daemon.fetch();
  daemon.commit(kRingBytes);
  guest.receive(kRingBytes);
  EXPECT_EQ(daemon.taken, guest.sent);
  EXPECT_EQ(guest.received, daemon.published);
  EXPECT_GT(guest.sent.size(), kRingBytes);
}

TEST(Rings, StreamsArriveWholeAndOnceAcrossRestarts) {
  for (std::uint64_t seed = 0; seed < 300 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    live_by_the_rules(seed);
  }
}

/// Any value, but often one that is nearly right.
std::uint32_t hostile_index(Random& random, std::uint32_t now) {
  if (random.one_in(3)) return random.below(~0U);
  const std::uint32_t step = random.one_in(2) ? random.below(5) : kRingBytes - 2 + random.below(5);
  return random.one_in(2) ? now + step : now - step;
}

void scribble(Random& random, Twins& twins) {
  const std::uint32_t value = hostile_index(random, 0);
  switch (random.below(4)) {
    case 0:
      twins.each([&](RingPage& page) { page.req_prod += value; });
      break;
    case 1:
      twins.each([&](RingPage& page) { page.rsp_cons += value; });
      break;
    case 2:
      twins.each([&](RingPage& page) { page.req_prod = page.req_cons; });
      break;
    default:
      twins.scribble(random.below(sizeof(RingPage)), random.bytes(64));
  }
}

void live_with_a_hostile_guest(std::uint64_t seed) {
  Random random(seed);
  Twins twins(kNearWrap, kNearWrap + 300);
  for (int step = 0; step < 400; ++step) {
    bool agree = true;
    switch (random.below(6)) {
      case 0:
        agree = twins.fetch();
        break;
      case 1:
        agree = twins.release(random.below(1200));
        break;
      case 2:
        agree = twins.publish(random.bytes(1200));
        break;
      case 3:
        agree = !random.one_in(4) || twins.restart(random.below(1200));
        break;
      case 4:  // back in order, or the rest of the life is errors
        twins.each([](RingPage& page) { page.rsp_cons = page.rsp_prod; });
        twins.each([](RingPage& page) { page.req_prod = page.req_cons; });
        break;
      default:
        scribble(random, twins);
    }
    ASSERT_TRUE(agree) << "step " << step;
  }
}

TEST(Rings, HostileGuestsAreUnderstoodAsByTheModel) {
  for (std::uint64_t seed = 0; seed < 500 && !testing::Test::HasFatalFailure(); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    live_with_a_hostile_guest(seed);
  }
}

/// An event channel: what is sent while one is waiting to be taken is one with it.
class Channel {
 public:
  void notify() {
    if (!pending_.exchange(true)) wakes_.release();
  }
  /// False: none came in a time in which one must have come.
  bool wait() {
    if (!wakes_.try_acquire_for(std::chrono::seconds(30))) return false;
    pending_ = false;
    return true;
  }

 private:
  std::atomic<bool> pending_ = false;
  std::counting_semaphore<> wakes_{0};
};

constexpr std::uint32_t kStreamBytes = 10'000'000;
char byte_at(std::uint32_t position) { return static_cast<char>(position % 253); }

/// Counts upwards into the one ring, and expects the other to count upwards. Sends
/// those events that Linux sends.
class ThriftyGuest {
 public:
  ThriftyGuest(RingPage& page, Channel& to_daemon)
      : page_(&page), to_daemon_(&to_daemon), random_(1) {}

  bool send() {
    std::atomic_ref req_cons(page_->req_cons), req_prod(page_->req_prod);
    const std::uint32_t before = req_prod;
    const std::uint32_t space = kRingBytes - (before - req_cons);
    const std::uint32_t most = std::min({space, kStreamBytes - before, 1 + random_.below(200)});
    for (std::uint32_t i = before; i < before + most; ++i) page_->req[i % kRingBytes] = byte_at(i);
    req_prod = before + most;
    if (most > 0 && req_cons == before) to_daemon_->notify();
    return most > 0;
  }
  bool receive() {
    std::atomic_ref rsp_cons(page_->rsp_cons), rsp_prod(page_->rsp_prod);
    const std::uint32_t before = rsp_cons;
    const std::uint32_t count = std::min<std::uint32_t>(rsp_prod - before, 1 + random_.below(200));
    for (std::uint32_t i = before; i < before + count; ++i) {
      if (page_->rsp[i % kRingBytes] == byte_at(i)) ++in_order_;
    }
    rsp_cons = before + count;
    if (rsp_prod - before >= kRingBytes) to_daemon_->notify();
    return count > 0;
  }
  bool is_done() const { return page_->rsp_cons == kStreamBytes; }
  std::uint32_t in_order() const { return in_order_; }

 private:
  RingPage* page_;
  Channel* to_daemon_;
  Random random_;
  std::uint32_t in_order_ = 0;
};

/// Sends all back; waits only when it has looked at both rings in vain.
void echo(RingPage& page, Channel& to_daemon, Channel& to_guest) {
  RequestRing requests(page, 0);
  ReplyRing replies(page, 0);
  std::string bytes;
  while (replies.position() < kStreamBytes) {
    ASSERT_TRUE(requests.fetch(bytes).has_value());
    const auto published = replies.publish(bytes);
    ASSERT_TRUE(published.has_value());
    bytes.erase(0, *published);
    if (requests.release(requests.fetched()) || *published > 0) to_guest.notify();
    if (requests.has_more() || (!bytes.empty() && replies.has_space())) continue;
    if (replies.position() < kStreamBytes) {
      ASSERT_TRUE(to_daemon.wait()) << "at " << replies.position();
    }
  }
}

TEST(Rings, NobodyWaitsForEverAndBytesAreSeenBeforeTheirIndices) {
  RingPage page{};
  Channel to_daemon;
  Channel to_guest;
  ThriftyGuest guest(page, to_daemon);
  std::thread thread([&] {
    while (!guest.is_done()) {
      const bool sent = guest.send();
      if (guest.receive() || sent) continue;
      ASSERT_TRUE(to_guest.wait());
    }
  });
  echo(page, to_daemon, to_guest);
  thread.join();
  EXPECT_EQ(guest.in_order(), kStreamBytes);
}

}  // namespace
}  // namespace rings
