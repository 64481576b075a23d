// SPDX-License-Identifier: MIT
// The hypervisor's real implementation on the stand-in, which is preloaded: what it
// makes of Xen's calls, and what it does when they fail.
#include "rings/xen_hypervisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xen/sys/xenbus_dev.h>

#include <algorithm>
#include <csignal>
#include <cstdarg>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <numeric>

#include "tests/simxen/guest.h"

namespace {

/// The event device of which the next read finds that it lost count; none: -1.
int overflown_fd = -1;
int resets = 0;
constexpr int kBackendPort = 77;

}  // namespace

// The stand-in's devices are files and know no ioctl, nor can they overflow.
extern "C" ssize_t read(int fd, void* to, std::size_t count) {
  if (fd != overflown_fd) return syscall(SYS_read, fd, to, count);
  errno = EFBIG;
  return -1;
}

extern "C" int ioctl(int fd, unsigned long request, ...) noexcept {
  if (request == IOCTL_XENBUS_BACKEND_EVTCHN) return kBackendPort;
  resets += fd == overflown_fd ? 1 : 0;
  overflown_fd = -1;
  return 0;
}

namespace rings {
namespace {

using store::Domid;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAreArray;

std::uint16_t raw(int domid) { return static_cast<std::uint16_t>(domid); }

class XenHypervisorTest : public testing::Test {
 protected:
  XenHypervisorTest() : dir_(make_dir()), machine_(simxen::Machine::make(dir_)), events_(machine_) {
    ::setenv("SIMXEN", dir_.c_str(), 1);
    xen_ = open();
  }
  ~XenHypervisorTest() override {
    overflown_fd = -1;
    std::filesystem::remove_all(std::filesystem::path(dir_).parent_path());
  }

  static std::string make_dir() {
    char name[] = "/dev/shm/xen_hypervisor.XXXXXX";
    if (::mkdtemp(name) == nullptr) std::abort();
    return std::string(name) + "/machine";
  }
  static std::unique_ptr<Hypervisor> open() {
    auto xen = XenHypervisor::open();
    if (!xen.has_value()) ADD_FAILURE() << testing::PrintToString(xen.error());
    return xen.has_value() ? std::move(*xen) : nullptr;
  }
  static simxen::Uuid uuid(int domid) {
    simxen::Uuid uuid{};
    uuid[0] = static_cast<std::uint8_t>(domid >> 8);
    uuid[15] = static_cast<std::uint8_t>(domid);
    return uuid;
  }
  RemotePort create(int domid) { return RemotePort{machine_.create(raw(domid), uuid(domid)).port}; }
  LocalPort bind(int domid, RemotePort remote) {
    const auto port = xen_->bind(Domid{raw(domid)}, remote);
    EXPECT_TRUE(port.has_value());
    return port.has_value() ? *port : LocalPort{};
  }
  /// A bound port without a pending event.
  LocalPort bind_quietly(int domid) {
    const LocalPort port = bind(domid, create(domid));
    EXPECT_THAT(take(), ElementsAre(port));
    unmask({port});
    return port;
  }
  bool is_readable() const {
    pollfd event{.fd = xen_->event_fd(), .events = POLLIN, .revents = 0};
    return ::poll(&event, 1, 0) == 1;
  }
  std::vector<LocalPort> take() {
    const auto taken = xen_->take_pending();
    return {taken.begin(), taken.end()};
  }
  void unmask(const std::vector<LocalPort>& ports) { xen_->unmask(ports); }

  const std::string dir_;
  simxen::Machine machine_;
  simxen::GuestEvents events_;
  std::unique_ptr<Hypervisor> xen_;
};

TEST(XenHypervisorOpen, NamesAllThatIsMissing) {
  ::setenv("SIMXEN", "/dev/shm/there is no machine", 1);
  const XenPaths paths{.xsd_port = "/none/xsd_port",
                       .xsd_kva = "/none/xsd_kva",
                       .xenbus_backend = "/none/xenbus_backend"};
  const auto xen = XenHypervisor::open(paths);
  ASSERT_FALSE(xen.has_value());
  for (const char* name : {"/dev/xen/evtchn", "/dev/xen/gntdev", "/dev/xen/privcmd",
                           "/none/xsd_port", "/none/xsd_kva", "/none/xenbus_backend"}) {
    EXPECT_THAT(xen.error(), Contains(HasSubstr(name)));
  }
  EXPECT_EQ(xen.error().size(), 6U);
  EXPECT_THAT(xen.error(), Contains(HasSubstr("No such file or directory")));
}

TEST_F(XenHypervisorTest, APortFileWithoutANumberIsMissing) {
  std::ofstream(dir_ + "/no_number") << "x";
  const auto xen = XenHypervisor::open(
      {.xsd_port = dir_ + "/no_number", .xsd_kva = dir_ + "/xsd_kva", .xenbus_backend = "/none"});
  ASSERT_FALSE(xen.has_value());
  EXPECT_THAT(xen.error(), Contains(HasSubstr("there is no number in it")));
}

TEST_F(XenHypervisorTest, WhatIsThereIsNotCalledMissing) {
  const auto xen = XenHypervisor::open({.xsd_port = "/none", .xenbus_backend = "/none"});
  ASSERT_FALSE(xen.has_value());
  EXPECT_THAT(xen.error(), ElementsAre(HasSubstr("/none (the event channel"),
                                       HasSubstr("/none (or both by this)")));
}

TEST_F(XenHypervisorTest, AnEventIsPendingRightAfterBind) {
  const LocalPort port = bind(3, create(3));
  EXPECT_EQ(machine_.port_state(3), simxen::PortState::kInterdomain);
  EXPECT_TRUE(is_readable());
  EXPECT_THAT(take(), ElementsAre(port));
  EXPECT_FALSE(is_readable());
  EXPECT_THAT(take(), ElementsAre());
}

TEST_F(XenHypervisorTest, AMaskedPortKeepsItsEventUntilItIsUnmasked) {
  const LocalPort port = bind(3, create(3));
  EXPECT_THAT(take(), ElementsAre(port));
  simxen::Guest guest(machine_, events_, 3);
  guest.notify();
  guest.notify();
  EXPECT_THAT(take(), ElementsAre());
  unmask({port});
  EXPECT_THAT(take(), ElementsAre(port));
  unmask({port});
  EXPECT_FALSE(is_readable());
}

TEST_F(XenHypervisorTest, NotifyReachesTheGuest) {
  const LocalPort port = bind_quietly(3);
  simxen::Guest guest(machine_, events_, 3);
  xen_->notify(port);
  EXPECT_THAT(events_.take(), ElementsAre(3));
}

TEST_F(XenHypervisorTest, NotifyToNobodyDoesNothing) {
  const LocalPort port = bind_quietly(3);
  machine_.destroy({3});
  xen_->notify(port);
  xen_->unbind(port);
  xen_->notify(port);
}

TEST_F(XenHypervisorTest, ManyPortsAreTakenAndUnmaskedAtOnce) {
  constexpr int kGuests = 1100;  // the device takes 1024 of them at a time
  std::vector<LocalPort> ports;
  for (int domid = 1; domid <= kGuests; ++domid) ports.push_back(bind(domid, create(domid)));
  std::vector<LocalPort> taken = take();
  EXPECT_EQ(taken.size(), 1024U);
  const std::vector<LocalPort> rest = take();
  taken.insert(taken.end(), rest.begin(), rest.end());
  EXPECT_THAT(taken, UnorderedElementsAreArray(ports));

  unmask(ports);
  EXPECT_FALSE(is_readable());
  for (const int domid : {1, 700, kGuests}) simxen::Guest(machine_, events_, raw(domid)).notify();
  EXPECT_THAT(take(), ElementsAre(ports[0], ports[699], ports[kGuests - 1]));
}

TEST_F(XenHypervisorTest, AfterAnOverflowEveryBoundPortIsPending) {
  const LocalPort one = bind_quietly(1);
  const LocalPort two = bind_quietly(2);
  const LocalPort three = bind_quietly(3);
  xen_->unbind(two);
  resets = 0;
  overflown_fd = xen_->event_fd();
  EXPECT_THAT(take(), ElementsAre(one, three));
  EXPECT_EQ(resets, 1);
  EXPECT_THAT(take(), ElementsAre());
}

TEST_F(XenHypervisorTest, BindFailsWithTheReason) {
  const RemotePort remote = create(3);
  const auto no_domain = xen_->bind(Domid{9}, remote);
  ASSERT_FALSE(no_domain.has_value());
  EXPECT_EQ(no_domain.error().error, ESRCH);
  EXPECT_THAT(no_domain.error().message, HasSubstr("of domain 9: No such process"));

  const auto no_port = xen_->bind(Domid{3}, RemotePort{static_cast<std::uint32_t>(remote) + 1});
  ASSERT_FALSE(no_port.has_value());
  EXPECT_EQ(no_port.error().error, EINVAL);

  bind(3, remote);
  EXPECT_FALSE(xen_->bind(Domid{3}, remote).has_value()) << "is bound already";
}

TEST_F(XenHypervisorTest, WhatIsUnboundCanBeBoundAgain) {
  const RemotePort remote = create(3);
  const LocalPort port = bind(3, remote);
  take();
  xen_->unbind(port);
  EXPECT_EQ(machine_.port_state(3), simxen::PortState::kUnbound);
  const LocalPort again = bind(3, remote);
  EXPECT_THAT(take(), ElementsAre(again));
}

/// A daemon on the same machine that holds all it can get, and is killed.
void live_and_be_killed(const std::function<void(Hypervisor&)>& live) {
  const pid_t child = ::fork();
  if (child == 0) {
    auto xen = XenHypervisor::open();
    if (xen.has_value()) live(**xen);
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
}

TEST_F(XenHypervisorTest, AfterADaemonsDeathItsGuestsCanBeServedAgain) {
  const RemotePort remote = create(3);
  simxen::Guest guest(machine_, events_, 3);
  live_and_be_killed([&](Hypervisor& xen) {
    const auto port = xen.bind(Domid{3}, remote);
    auto ring = xen.map_ring(Domid{3});
    if (!port.has_value() || !ring.has_value() || !xen.bind_domain_exceptions().has_value()) return;
    set_server_features(**ring, 3);
    xen.notify(*port);
  });
  EXPECT_THAT(events_.take(), ElementsAre(3));
  EXPECT_EQ(machine_.port_state(3), simxen::PortState::kUnbound);
  guest.notify();  // to nobody

  EXPECT_TRUE(xen_->bind_domain_exceptions().has_value());
  const LocalPort port = bind(3, remote);
  EXPECT_THAT(take(), ElementsAre(port));
  const auto ring = xen_->map_ring(Domid{3});
  ASSERT_TRUE(ring.has_value());
  EXPECT_EQ((*ring)->server_features, 3U) << "the page stays as it was";
}

TEST_F(XenHypervisorTest, TheEndOfADomainIsTold) {
  const auto port = xen_->bind_domain_exceptions();
  ASSERT_TRUE(port.has_value());
  take();
  unmask({*port});
  create(3);
  create(4);
  EXPECT_FALSE(is_readable());
  machine_.shut_down(3);
  EXPECT_THAT(take(), ElementsAre(*port));
  machine_.destroy({3, 4});
  EXPECT_THAT(take(), ElementsAre());
  unmask({*port});
  EXPECT_THAT(take(), ElementsAre(*port));
}

TEST_F(XenHypervisorTest, OnlyOneIsToldOfTheEndOfDomains) {
  EXPECT_TRUE(xen_->bind_domain_exceptions().has_value());
  const auto second = open()->bind_domain_exceptions();
  ASSERT_FALSE(second.has_value());
  EXPECT_THAT(second.error().message, HasSubstr("VIRQ_DOM_EXC"));
}

TEST_F(XenHypervisorTest, AMappedRingIsTheGuestsPage) {
  create(3);
  simxen::Guest guest(machine_, events_, 3);
  auto ring = xen_->map_ring(Domid{3});
  ASSERT_TRUE(ring.has_value());
  RequestRing requests(**ring, 0);
  guest.write("to us");
  std::string got;
  EXPECT_EQ(requests.fetch(got), 5U);
  EXPECT_EQ(ReplyRing(**ring, 0).publish("to them"), 7U);
  guest.read(got);
  EXPECT_EQ(got, "to usto them");
}

bool is_mapped(void* page) { return ::msync(page, 1, MS_ASYNC) == 0; }

TEST_F(XenHypervisorTest, APageIsGivenBackAsItWasMapped) {
  create(3);
  auto ring = xen_->map_ring(Domid{3});
  auto own = xen_->map_own_ring();
  ASSERT_TRUE(ring.has_value() && own.has_value());
  RingPage* const page = ring->get();
  RingPage* const own_page = own->page.get();
  EXPECT_TRUE(is_mapped(page) && is_mapped(own_page));
  ring->reset();
  EXPECT_TRUE(!is_mapped(page) && is_mapped(own_page));
  own->page.reset();
  EXPECT_FALSE(is_mapped(own_page));
}

TEST_F(XenHypervisorTest, APageThatCannotBeMappedIsAnError) {
  create(3);
  machine_.fail_map(3, true);
  const auto ring = xen_->map_ring(Domid{3});
  ASSERT_FALSE(ring.has_value());
  EXPECT_EQ(ring.error().error, EINVAL);
  EXPECT_EQ(ring.error().message, "cannot map the ring of domain 3: Invalid argument");
  machine_.fail_map(3, false);
  EXPECT_TRUE(xen_->map_ring(Domid{3}).has_value());
  EXPECT_FALSE(xen_->map_ring(Domid{4}).has_value()) << "there is no such domain";
}

TEST_F(XenHypervisorTest, OurOwnRingIsDom0s) {
  auto own = xen_->map_own_ring();
  ASSERT_TRUE(own.has_value());
  simxen::Guest kernel(machine_, events_, 0);
  kernel.write("x");
  EXPECT_EQ(read_indices(*own->page).req_prod, 1U);
  const LocalPort port = bind(0, own->port);
  EXPECT_THAT(take(), ElementsAre(port));
  xen_->notify(port);
  EXPECT_THAT(events_.take(), ElementsAre(0));
}

TEST_F(XenHypervisorTest, WithoutXenfsTheBackendDeviceShowsOurOwnRing) {
  const auto xen = XenHypervisor::open(
      {.xsd_port = "/none", .xsd_kva = "/none", .xenbus_backend = dir_ + "/xsd_kva"});
  ASSERT_TRUE(xen.has_value());
  const auto own = (*xen)->map_own_ring();
  ASSERT_TRUE(own.has_value());
  EXPECT_EQ(own->port, RemotePort{kBackendPort});
  simxen::Guest(machine_, events_, 0).write("x");
  EXPECT_EQ(read_indices(*own->page).req_prod, 1U);
}

TEST_F(XenHypervisorTest, AnOwnRingThatIsGoneIsAnError) {
  std::filesystem::remove(dir_ + "/xsd_kva");
  const auto own = xen_->map_own_ring();
  ASSERT_FALSE(own.has_value());
  EXPECT_THAT(own.error().message, HasSubstr("/proc/xen/xsd_kva"));
}

std::vector<int> domids(const std::vector<DomainInfo>& domains) {
  std::vector<int> domids;
  domids.reserve(domains.size());
  for (const DomainInfo& info : domains) domids.push_back(store::raw(info.domid));
  return domids;
}

std::vector<int> up_to(int last) {
  std::vector<int> numbers(static_cast<std::size_t>(last) + 1);
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

TEST_F(XenHypervisorTest, AllDomainsAreListedHoweverManyAQuestionGives) {
  for (int last = 0; last <= 1025; ++last) {
    if (last > 0) create(last);
    if (last != 0 && last != 600 && last < 1022) continue;
    const auto all = xen_->domains();
    ASSERT_TRUE(all.has_value());
    EXPECT_EQ(domids(*all), up_to(last));
  }
  const auto all = xen_->domains();
  EXPECT_TRUE(std::all_of(all->begin(), all->end(), [](const DomainInfo& info) {
    return info.handle == uuid(store::raw(info.domid)) && !info.is_dying && !info.is_shut_down;
  }));
}

TEST_F(XenHypervisorTest, TheStateOfADomainIsTold) {
  for (int domid = 1; domid <= 3; ++domid) create(domid);
  machine_.shut_down(1, 3);
  machine_.start_dying(2);
  const auto all = xen_->domains();
  ASSERT_TRUE(all.has_value() && all->size() == 4);
  EXPECT_TRUE((*all)[1].is_shut_down && !(*all)[1].is_dying);
  EXPECT_TRUE(!(*all)[2].is_shut_down && (*all)[2].is_dying);
  EXPECT_TRUE(!(*all)[3].is_shut_down && !(*all)[3].is_dying);
  machine_.resume(1);
  EXPECT_FALSE(xen_->domain(Domid{1})->is_shut_down);
  EXPECT_TRUE(xen_->domain(Domid{2})->is_dying);
}

TEST_F(XenHypervisorTest, OneDomainIsToldFromItsNeighboursAndItsSuccessor) {
  create(3);
  create(5);
  EXPECT_FALSE(xen_->domain(Domid{4}).has_value());
  EXPECT_FALSE(xen_->domain(Domid{6}).has_value());
  ASSERT_TRUE(xen_->domain(Domid{5}).has_value());
  EXPECT_EQ(xen_->domain(Domid{5})->handle, uuid(5));
  machine_.destroy({5});
  EXPECT_FALSE(xen_->domain(Domid{5}).has_value());
  machine_.create(5, uuid(1005));
  EXPECT_EQ(xen_->domain(Domid{5})->handle, uuid(1005));
}

}  // namespace
}  // namespace rings
