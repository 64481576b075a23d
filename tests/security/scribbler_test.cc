// SPDX-License-Identifier: MIT
/// A guest that writes any value anywhere into its ring page, all the time, hurts
/// only itself: while the daemon serves, while it is killed and recovers.
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <random>
#include <thread>

#include "rings/ring_page.h"
#include "tests/security/world.h"

namespace security {
namespace {

using rings::RingPage;
using testing::ElementsAre;
using Index = std::atomic_ref<std::uint32_t>;
using Clock = std::chrono::steady_clock;

constexpr std::uint16_t kScribbler = 3;
constexpr std::uint16_t kGuests[] = {7, 8};
/// Longer than an answer may take while nobody kills the daemon, also on a busy machine.
constexpr std::chrono::seconds kPatience{5};
constexpr int kRounds = 10;
constexpr int kRequestsInARound = 200;

/// The hostile guest's doings, one at a time.
class Scribbler {
 public:
  explicit Scribbler(const std::string& machine)
      : machine_(machine), events_(machine_), guest_(machine_, events_, kScribbler) {}

  void act() {
    RingPage& page = guest_.page();
    const std::uint32_t what = random() % 16;
    if (what < 8) {
      index(page).store(any_value(index(page).load()));
    } else if (what < 13) {
      reinterpret_cast<volatile char*>(&page)[random() % sizeof page] = static_cast<char>(random());
    } else if (what < 15) {
      guest_.send(frame(Op{random() % 28}, "key\0value\0"s, random(), random() % 3));
    } else {
      guest_.notify();
    }
  }

 private:
  std::uint32_t random() { return static_cast<std::uint32_t>(random_()); }
  Index index(RingPage& page) {
    std::uint32_t* const all[] = {&page.req_cons,        &page.req_prod,   &page.rsp_cons,
                                  &page.rsp_prod,        &page.connection, &page.error,
                                  &page.server_features, &page.evtchn_port};
    return Index(*all[random() % std::size(all)]);
  }
  std::uint32_t any_value(std::uint32_t now) {
    const std::uint32_t values[] = {0,          1,        now + random() % 32, now - random() % 32,
                                    now + 1025, random(), now + 0x80000000,    now + 1024};
    return values[random() % std::size(values)];
  }

  std::mt19937 random_{3};
  simxen::Machine machine_;
  simxen::GuestEvents events_;
  Guest guest_;
};

/// A guest of whose every request and event it is known what must come back.
class Traffic {
 public:
  Traffic(simxen::Machine& machine, std::uint16_t domid) : client_(machine, domid) {
    expect(call(Op::kWatch, "n\0token\0"s) == "OK\0"s, "WATCH");
    call(Op::kGetDomainPath, "0\0"s);
    client_.take_events();
    thread_ = std::thread([this] {
      while (!stop_) round();
    });
  }
  ~Traffic() {
    stop_ = true;
    thread_.join();
    EXPECT_EQ(first_wrong_, "");
    EXPECT_GT(number_, 10U);
  }
  Traffic(const Traffic&) = delete;
  Traffic& operator=(const Traffic&) = delete;

  /// The longest that a request took since the last time.
  Clock::duration take_slowest() { return slowest_.exchange({}); }

 private:
  std::string call(Op op, const std::string& payload, std::uint32_t tx = 0) {
    const auto begin = Clock::now();
    std::string answer = shown(client_.call(static_cast<std::uint32_t>(op), payload, tx));
    slowest_ = std::max(slowest_.load(), Clock::now() - begin);
    return answer;
  }
  void expect(bool is_so, const std::string& what) {
    if (!is_so && first_wrong_.empty()) first_wrong_ = what + " at " + std::to_string(number_);
  }
  bool has_one_event() {
    const auto events = client_.take_events();
    return events.size() == 1 && events[0].payload == "n\0token\0"s;
  }
  void round() {
    ++number_;
    const std::string value = std::to_string(number_) + std::string(number_ % 7 * 200, '.');
    expect(call(Op::kWrite, "n\0"s + value) == "OK\0"s, "WRITE");
    expect(has_one_event(), "the event of WRITE");
    expect(call(Op::kRead, "n\0"s) == value, "READ");
    const auto tx = static_cast<std::uint32_t>(std::stoul(call(Op::kTransactionStart, "\0"s)));
    expect(call(Op::kWrite, "n\0in it"s, tx) == "OK\0"s, "WRITE in a transaction");
    const std::string ended = call(Op::kTransactionEnd, "T\0"s, tx);
    const bool is_done = ended == "OK\0"s;
    expect(is_done || ended == "EAGAIN", "END");
    expect(call(Op::kRead, "n\0"s) == (is_done ? "in it" : value), "READ after END");
    expect(is_done ? has_one_event() : client_.take_events().empty(), "the event of END");
  }

  SimpleClient client_;
  std::size_t number_ = 0;
  std::string first_wrong_;
  std::atomic<Clock::duration> slowest_{};
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

class ScribblerTest : public World {
 protected:
  ScribblerTest() {
    for (const std::uint16_t domid : {kScribbler, kGuests[0], kGuests[1]}) add(domid);
    scribbler_ = fork();
    if (scribbler_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (Scribbler scribbler(machine().dir());;) scribbler.act();
    }
  }
  ~ScribblerTest() override { stop_scribbler(); }

  void stop_scribbler() {
    if (scribbler_ == 0) return;
    kill(scribbler_, SIGKILL);
    waitpid(scribbler_, nullptr, 0);
    scribbler_ = 0;
  }
  /// The toolstack's own traffic; now and then it lets the scribbler begin again.
  void toolstack_round() {
    for (int i = 0; i < kRequestsInARound; ++i) {
      const auto begin = Clock::now();
      const std::string value = std::to_string(i);
      EXPECT_EQ(ask(Op::kWrite, "/value\0"s + value), "OK\0"s);
      EXPECT_EQ(ask(Op::kRead, "/value\0"s), value);
      if (i % 20 == 0) {
        EXPECT_EQ(introduce(kScribbler), "OK\0"s);
      }
      EXPECT_LT(Clock::now() - begin, kPatience);
    }
  }

 private:
  pid_t scribbler_ = 0;
};

TEST_F(ScribblerTest, HurtsOnlyItself) {
  {
    Traffic one(machine(), kGuests[0]);
    Traffic two(machine(), kGuests[1]);
    for (int round = 0; round < kRounds; ++round) {
      toolstack_round();
      for (Traffic* traffic : {&one, &two}) EXPECT_LT(traffic->take_slowest(), kPatience);
      restart();
      ask(Op::kRead, "/\0"s);
      for (Traffic* traffic : {&one, &two}) traffic->take_slowest();
    }
  }
  EXPECT_EQ(ask(Op::kWatch, "@releaseDomain\0token\0"s), "OK\0"s);
  ask(Op::kRead, "/\0"s);
  toolstack().take_events();
  // It goes on while its domain dies.
  machine().destroy({kScribbler});
  EXPECT_TRUE(eventually([this] { return !is_introduced(kScribbler); }));
  EXPECT_THAT(toolstack().take_events(), ElementsAre("@releaseDomain\0token\0"s));
  EXPECT_EQ(ask(Op::kRead, "/local/domain/3\0"s), "ENOENT");
  stop_scribbler();
  add(kScribbler);
  EXPECT_EQ(ask(kScribbler, Op::kWrite, "key\0value"s), "OK\0"s);
}

}  // namespace
}  // namespace security
