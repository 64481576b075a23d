// SPDX-License-Identifier: MIT
/// A daemon killed at any moment, while its guests go on, leaves a machine that
/// serves the next one.
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <csignal>
#include <random>

#include "tests/simxen/test_machine.h"

namespace simxen {
namespace {

constexpr std::uint16_t kGuests = 32;
constexpr int kKills = 200;

class Kills : public MachineTest {
 protected:
  Kills() : events_(machine_) {
    for (std::uint16_t domid = 1; domid <= kGuests; ++domid) {
      domains_.push_back(machine_.create(domid, uuid_of(1)));
      guests_.emplace_back(machine_, events_, domid);
    }
  }

  /// Binds every port; false: one cannot be bound. Calls `step` before each.
  template <class Step>
  bool bind_all(Channels& daemon, const Step& step) {
    locals_.clear();
    if (daemon.bind_virq() < 0) return false;
    for (std::uint16_t i = 0; i < kGuests; ++i) {
      step();
      locals_.push_back(daemon.bind(guests_[i].domid(), domains_[i].port));
      if (locals_.back() < 0) return false;
    }
    return true;
  }
  /// What daemons do, for ever; after so many steps it closes `started`.
  [[noreturn]] void serve(int steps, int started);
  /// A child that serves. Returns when it has taken `steps` steps; the guests send
  /// events all the time, and so many after that. Then it is killed.
  void serve_and_kill(int steps, int events_after);
  void send_event(int number);
  /// Events go both ways.
  void expect_usable();

  GuestEvents events_;
  std::vector<NewDomain> domains_;
  std::vector<Guest> guests_;
  std::vector<int> locals_;
};

void Kills::serve(int steps, int started) {
  const auto step = [&] {
    if (steps-- == 0) close(started);
  };
  Channels daemon;
  if (!bind_all(daemon, step)) _exit(1);
  for (std::size_t turn = 0;; ++turn) {
    step();
    for (const int local : daemon.take_and_unmask()) {
      xenevtchn_notify(daemon.get(), static_cast<evtchn_port_t>(local));
    }
    const std::size_t i = turn % kGuests;
    if (xenevtchn_unbind(daemon.get(), static_cast<evtchn_port_t>(locals_[i])) != 0) _exit(2);
    locals_[i] = daemon.bind(guests_[i].domid(), domains_[i].port);
    if (locals_[i] < 0) _exit(3);
  }
}

void Kills::send_event(int number) {
  guests_[static_cast<std::size_t>(number) % kGuests].notify();
  if (number % 64 == 0) machine_.shut_down(1);
  if (number % 128 == 0) events_.take();
}

void Kills::serve_and_kill(int steps, int events_after) {
  std::array<int, 2> started{};
  ASSERT_EQ(pipe(started.data()), 0);
  const pid_t child = fork();
  if (child == 0) {
    close(started[0]);
    serve(steps, started[1]);
  }
  close(started[1]);
  pollfd until{started[0], POLLIN, 0};
  for (int number = 0; poll(&until, 1, 0) == 0; ++number) send_event(number);
  for (int number = 0; number < events_after; ++number) send_event(number);
  kill(child, SIGKILL);
  int status = 0;
  waitpid(child, &status, 0);
  close(started[0]);
  ASSERT_TRUE(WIFSIGNALED(status)) << "the daemon gave up";
}

void Kills::expect_usable() {
  Channels daemon;
  ASSERT_TRUE(bind_all(daemon, [] {}));
  // Were the ports of the dead not given back, these would lie behind them.
  EXPECT_LE(*std::max_element(locals_.begin(), locals_.end()), 2 * kGuests);
  daemon.take_and_unmask();
  events_.take();
  for (std::size_t i = 0; i < kGuests; ++i) {
    guests_[i].notify();
    ASSERT_THAT(daemon.take_and_unmask(), testing::ElementsAre(locals_[i]));
    xenevtchn_notify(daemon.get(), static_cast<evtchn_port_t>(locals_[i]));
    ASSERT_THAT(events_.take(), testing::ElementsAre(guests_[i].domid()));
  }
}

TEST_F(Kills, TheMachineStaysUsable) {
  std::mt19937 random(1);
  std::uniform_int_distribution<int> steps(0, 3 * kGuests);
  std::uniform_int_distribution<int> events_after(0, 100);
  for (int i = 0; i < kKills; ++i) {
    serve_and_kill(steps(random), events_after(random));
    for (const Guest& guest : guests_) {
      ASSERT_EQ(machine_.port_state(guest.domid()), PortState::kUnbound);
    }
    if (i % 20 == 0) expect_usable();
  }
  expect_usable();
}

}  // namespace
}  // namespace simxen
