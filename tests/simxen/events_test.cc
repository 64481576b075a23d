// SPDX-License-Identifier: MIT
/// Event channels: who is bound to whom, and when an event arrives.
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <cerrno>
#include <functional>

#include "tests/simxen/test_machine.h"

namespace simxen {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class Events : public MachineTest {
 protected:
  Events() : events_(machine_), five_(machine_.create(5, uuid_of(5))) {}

  GuestEvents events_;
  NewDomain five_;
};

/// Runs `body` in a process that is then killed while it holds what it has opened.
void run_and_kill(const std::function<void()>& body) {
  std::array<int, 2> done{};
  ASSERT_EQ(pipe(done.data()), 0);
  const pid_t child = fork();
  if (child == 0) {
    body();
    if (write(done[1], "x", 1) != 1) _exit(1);
    for (;;) pause();
  }
  char byte = 0;
  EXPECT_EQ(read(done[0], &byte, 1), 1);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  close(done[0]);
  close(done[1]);
}

TEST_F(Events, APortIsUnboundUntilItIsBoundAndAfterItIsUnbound) {
  Channels daemon;
  EXPECT_EQ(machine_.port_state(5), PortState::kUnbound);
  const int local = daemon.bind(5, five_.port);
  ASSERT_GT(local, 0);
  EXPECT_EQ(machine_.port_state(5), PortState::kInterdomain);
  EXPECT_EQ(xenevtchn_unbind(daemon.get(), static_cast<evtchn_port_t>(local)), 0);
  EXPECT_EQ(machine_.port_state(5), PortState::kUnbound);
  EXPECT_GT(daemon.bind(5, five_.port), 0);
}

TEST_F(Events, ClosingAHandleUnbinds) {
  Channels daemon;
  ASSERT_GT(daemon.bind(5, five_.port), 0);
  daemon.close();
  EXPECT_EQ(machine_.port_state(5), PortState::kUnbound);
}

TEST_F(Events, AKilledDaemonsPortCanBeBoundAgain) {
  run_and_kill([&] { (new Channels)->bind(5, five_.port); });
  EXPECT_EQ(machine_.port_state(5), PortState::kUnbound);
  Channels daemon;
  EXPECT_GT(daemon.bind(5, five_.port), 0);
}

TEST_F(Events, AForkedProcessKeepsThePortsBound) {
  Channels daemon;
  ASSERT_GT(daemon.bind(5, five_.port), 0);
  std::array<int, 2> until{};
  ASSERT_EQ(pipe(until.data()), 0);
  const pid_t child = fork();
  if (child == 0) {
    char byte = 0;
    close(until[1]);
    _exit(static_cast<int>(read(until[0], &byte, 1)));
  }
  daemon.close();
  EXPECT_EQ(machine_.port_state(5), PortState::kInterdomain);
  close(until[0]);
  close(until[1]);
  waitpid(child, nullptr, 0);
  EXPECT_EQ(machine_.port_state(5), PortState::kUnbound);
}

TEST_F(Events, AnInheritedDescriptorIsTheSameHandle) {
  Channels daemon;
  const int local = daemon.bind(5, five_.port);
  const int copy = dup(xenevtchn_fd(daemon.get()));
  daemon.close();
  xenevtchn_handle* again = xenevtchn_fdopen(nullptr, copy, 0);
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(xenevtchn_pending(again), local);
  EXPECT_EQ(xenevtchn_unbind(again, static_cast<evtchn_port_t>(local)), 0);
  xenevtchn_close(again);
}

TEST_F(Events, OnlyAnUnboundPortCanBeBound) {
  Channels daemon;
  Channels other;
  EXPECT_EQ(daemon.bind(6, 1), -1);
  EXPECT_EQ(errno, ESRCH);
  EXPECT_EQ(daemon.bind(5, five_.port + 1), -1);
  EXPECT_EQ(errno, EINVAL);
  ASSERT_GT(daemon.bind(5, five_.port), 0);
  EXPECT_EQ(other.bind(5, five_.port), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(daemon.bind(5, five_.port), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST_F(Events, ADyingDomainsPortIsClosed) {
  Channels daemon;
  machine_.start_dying(5);
  EXPECT_EQ(machine_.port_state(5), PortState::kFree);
  EXPECT_EQ(daemon.bind(5, five_.port), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST_F(Events, AnEventIsPendingAfterBind) {
  Channels daemon;
  const int local = daemon.bind(5, five_.port);
  EXPECT_THAT(daemon.take(), ElementsAre(local));
}

TEST_F(Events, WhatIsSentWhileNobodyIsBoundIsLost) {
  Guest guest(machine_, events_, 5);
  guest.notify();
  run_and_kill([&] { (new Channels)->bind(5, five_.port); });
  guest.notify();
  Channels daemon;
  const int local = daemon.bind(5, five_.port);
  EXPECT_THAT(daemon.take_and_unmask(), ElementsAre(local));
  EXPECT_THAT(daemon.take(), IsEmpty());
}

TEST_F(Events, EventsOfAMaskedPortBecomeOne) {
  Guest guest(machine_, events_, 5);
  Channels daemon;
  const int local = daemon.bind(5, five_.port);
  ASSERT_THAT(daemon.take(), ElementsAre(local));
  for (int i = 0; i < 3; ++i) guest.notify();
  EXPECT_THAT(daemon.take(), IsEmpty());
  xenevtchn_unmask(daemon.get(), static_cast<evtchn_port_t>(local));
  EXPECT_THAT(daemon.take_and_unmask(), ElementsAre(local));
  EXPECT_THAT(daemon.take(), IsEmpty());
  guest.notify();
  EXPECT_EQ(xenevtchn_pending(daemon.get()), local);
}

TEST_F(Events, UnmaskingWhatIsNotMaskedOrNotOursDoesNothing) {
  Channels daemon;
  Channels other;
  const int local = daemon.bind(5, five_.port);
  xenevtchn_unmask(other.get(), static_cast<evtchn_port_t>(local));
  xenevtchn_unmask(daemon.get(), 12345678);
  Guest(machine_, events_, 5).notify();
  EXPECT_THAT(daemon.take_and_unmask(), ElementsAre(local));
  EXPECT_THAT(daemon.take_and_unmask(), ElementsAre(local));
  xenevtchn_unmask(daemon.get(), static_cast<evtchn_port_t>(local));
  EXPECT_THAT(daemon.take(), IsEmpty());
}

TEST_F(Events, ManyPortsAreReadAndWrittenAtOnce) {
  std::vector<NewDomain> domains;
  std::vector<Guest> guests;
  for (std::uint16_t domid = 10; domid < 30; ++domid) {
    domains.push_back(machine_.create(domid, uuid_of(1)));
    guests.emplace_back(machine_, events_, domid);
  }
  Channels daemon;
  std::vector<int> locals;
  for (std::size_t i = 0; i < domains.size(); ++i) {
    locals.push_back(daemon.bind(guests[i].domid(), domains[i].port));
  }
  for (int turn = 0; turn < 3; ++turn) {
    std::array<int, 64> ports{};
    const auto bytes = static_cast<ssize_t>(locals.size() * sizeof(int));
    ASSERT_EQ(read(xenevtchn_fd(daemon.get()), ports.data(), sizeof ports), bytes);
    EXPECT_EQ(std::vector<int>(ports.begin(), ports.begin() + 20), locals);
    for (Guest& guest : guests) guest.notify();
    EXPECT_EQ(write(xenevtchn_fd(daemon.get()), ports.data(), static_cast<std::size_t>(bytes)),
              bytes);
  }
}

TEST_F(Events, AWriteTakesNoMoreThanAPage) {
  Channels daemon;
  const std::array<int, 3000> ports{};
  EXPECT_EQ(write(xenevtchn_fd(daemon.get()), ports.data(), sizeof ports), 4096);
  EXPECT_EQ(write(xenevtchn_fd(daemon.get()), ports.data(), 7), 4);
}

TEST_F(Events, OtherDescriptorsAreWrittenAsEver) {
  Channels daemon;
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe(ends.data()), 0);
  std::array<char, 4> bytes{};
  EXPECT_EQ(write(ends[1], "abc", 4), 4);
  EXPECT_EQ(read(ends[0], bytes.data(), 4), 4);
  EXPECT_STREQ(bytes.data(), "abc");
  close(ends[0]);
  close(ends[1]);
}

TEST_F(Events, ANotificationReachesTheLatestGuest) {
  Channels daemon;
  const auto local = static_cast<evtchn_port_t>(daemon.bind(5, five_.port));
  EXPECT_EQ(xenevtchn_notify(daemon.get(), local), 0);
  GuestEvents later_events(machine_);
  const Guest first(machine_, events_, 5);
  {
    const Guest second(machine_, later_events, 5);
    EXPECT_EQ(xenevtchn_notify(daemon.get(), local), 0);
    EXPECT_THAT(events_.take(), IsEmpty());
    EXPECT_THAT(later_events.take(), ElementsAre(5));
  }
  EXPECT_EQ(xenevtchn_notify(daemon.get(), local), 0);
  EXPECT_THAT(later_events.take(), IsEmpty());
}

TEST_F(Events, NotifyingThroughAPortOfNobodyFails) {
  Channels daemon;
  Channels other;
  const auto local = static_cast<evtchn_port_t>(daemon.bind(5, five_.port));
  EXPECT_EQ(xenevtchn_notify(other.get(), local), -1);
  EXPECT_EQ(errno, ENOTCONN);
  EXPECT_EQ(xenevtchn_notify(daemon.get(), local + 1), -1);
  EXPECT_EQ(xenevtchn_unbind(other.get(), local), -1);
}

TEST_F(Events, NoGuestsEventIsLostWhenTheReaderIsSlow) {
  const NewDomain six = machine_.create(6, uuid_of(6));
  const Guest five(machine_, events_, 5);
  const Guest other(machine_, events_, 6);
  Channels daemon;
  const auto to_five = static_cast<evtchn_port_t>(daemon.bind(5, five_.port));
  const auto to_six = static_cast<evtchn_port_t>(daemon.bind(6, six.port));
  for (int i = 0; i < 40000; ++i) xenevtchn_notify(daemon.get(), to_five);
  xenevtchn_notify(daemon.get(), to_six);
  const std::vector<std::uint16_t> taken = events_.take();
  EXPECT_THAT(taken, testing::Contains(5));
  EXPECT_THAT(taken, testing::Contains(6));
  EXPECT_THAT(events_.take(), IsEmpty());
}

TEST_F(Events, ADomainsNamesakeHasNothingToDoWithIt) {
  Channels daemon;
  const auto old_local = static_cast<evtchn_port_t>(daemon.bind(5, five_.port));
  daemon.take_and_unmask();
  Guest old_guest(machine_, events_, 5);
  machine_.destroy({5});
  EXPECT_EQ(machine_.port_state(5), PortState::kFree);
  const NewDomain again = machine_.create(5, uuid_of(9));
  const Guest guest(machine_, events_, 5);
  EXPECT_FALSE(old_guest.is_alive());
  EXPECT_TRUE(guest.is_alive());

  EXPECT_EQ(machine_.port_state(5), PortState::kUnbound);
  EXPECT_EQ(xenevtchn_notify(daemon.get(), old_local), 0);
  EXPECT_THAT(events_.take(), IsEmpty());
  const int local = daemon.bind(5, again.port);
  EXPECT_NE(local, static_cast<int>(old_local));
  daemon.take_and_unmask();
  old_guest.notify();
  EXPECT_THAT(daemon.take(), IsEmpty());
  EXPECT_EQ(xenevtchn_unbind(daemon.get(), old_local), 0);
  EXPECT_EQ(machine_.port_state(5), PortState::kInterdomain);
}

TEST_F(Events, DomainExceptionsAreTold) {
  Channels daemon;
  const int virq = daemon.bind_virq();
  ASSERT_GT(virq, 0);
  EXPECT_THAT(daemon.take(), IsEmpty());
  machine_.shut_down(5);
  EXPECT_THAT(daemon.take_and_unmask(), ElementsAre(virq));
  machine_.create(6, uuid_of(6));
  machine_.resume(5);
  EXPECT_THAT(daemon.take(), IsEmpty());
  machine_.start_dying(6);
  EXPECT_THAT(daemon.take_and_unmask(), ElementsAre(virq));
  machine_.destroy({5, 6});
  EXPECT_THAT(daemon.take_and_unmask(), ElementsAre(virq));
  EXPECT_THAT(daemon.take(), IsEmpty());
}

TEST_F(Events, DomainExceptionsHaveOneHolderAtATime) {
  run_and_kill([&] {
    auto* killed = new Channels;
    if (killed->bind_virq() < 0) _exit(1);
  });
  machine_.shut_down(5);
  Channels daemon;
  Channels other;
  const int virq = daemon.bind_virq();
  ASSERT_GT(virq, 0);
  EXPECT_THAT(daemon.take(), IsEmpty());
  EXPECT_EQ(other.bind_virq(), -1);
  EXPECT_EQ(errno, EEXIST);
  EXPECT_EQ(xenevtchn_unbind(daemon.get(), static_cast<evtchn_port_t>(virq)), 0);
  EXPECT_GT(other.bind_virq(), 0);
}

TEST_F(Events, DomainZerosKernelHasAPortAsWell) {
  Guest kernel(machine_, events_, 0);
  std::array<char, 20> text{};
  const int fd = open("/proc/xen/xsd_port", O_RDONLY);
  ASSERT_GE(fd, 0);
  ASSERT_GT(read(fd, text.data(), text.size() - 1), 0);
  close(fd);
  Channels daemon;
  const int local = daemon.bind(0, static_cast<std::uint32_t>(std::atoi(text.data())));
  EXPECT_THAT(daemon.take_and_unmask(), ElementsAre(local));
  kernel.notify();
  EXPECT_THAT(daemon.take(), ElementsAre(local));
  EXPECT_EQ(xenevtchn_notify(daemon.get(), static_cast<evtchn_port_t>(local)), 0);
  EXPECT_THAT(events_.take(), ElementsAre(0));
}

TEST_F(Events, AsManyDomainsAsAHostHas) {
  std::vector<NewDomain> domains;
  std::vector<std::uint16_t> domids;
  for (std::uint16_t domid = 100; domid < 4196; ++domid) {
    domains.push_back(machine_.create(domid, uuid_of(1)));
    domids.push_back(domid);
  }
  Channels daemon;
  for (std::size_t i = 0; i < domains.size(); ++i) {
    ASSERT_GT(daemon.bind(domids[i], domains[i].port), 0);
  }
  EXPECT_EQ(daemon.take().size(), domains.size());
  machine_.destroy(domids);
}

TEST_F(Events, AHostWithoutXen) {
  unsetenv("SIMXEN");
  EXPECT_EQ(xenevtchn_open(nullptr, 0), nullptr);
  EXPECT_EQ(errno, ENOENT);
}

}  // namespace
}  // namespace simxen
