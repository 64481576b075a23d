// SPDX-License-Identifier: MIT
/// Domains as they are listed, and their ring pages.
#include <gmock/gmock.h>
#include <sys/mman.h>
extern "C" {  // these headers do not say it themselves
#define XC_WANT_COMPAT_MAP_FOREIGN_API
#include <xenctrl.h>
#include <xenforeignmemory.h>
#include <xengnttab.h>
}

#include <cerrno>
#include <fstream>

#include "tests/simxen/test_machine.h"

namespace simxen {
namespace {

constexpr int kReadWrite = PROT_READ | PROT_WRITE;

class Memory : public MachineTest {
 protected:
  Memory()
      : five_(machine_.create(5, uuid_of(5))),
        grants_(xengnttab_open(nullptr, 0)),
        control_(xc_interface_open(nullptr, nullptr, 0)) {}
  ~Memory() override {
    xengnttab_close(grants_);
    xc_interface_close(control_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  rings::RingPage* map(std::uint16_t domid) {
    return static_cast<rings::RingPage*>(
        xengnttab_map_grant_ref(grants_, domid, GNTTAB_RESERVED_XENSTORE, kReadWrite));
  }
  void unmap(rings::RingPage* page) { EXPECT_EQ(xengnttab_unmap(grants_, page, 1), 0); }

  NewDomain five_;
  xengnttab_handle* grants_;
  xc_interface* control_;
};

using Domains = Memory;

TEST_F(Memory, APageIsSharedWithItsGuest) {
  GuestEvents events(machine_);
  Guest guest(machine_, events, 5);
  rings::RingPage* page = map(5);
  ASSERT_NE(page, nullptr);
  EXPECT_EQ(guest.write("hello"), 5U);
  EXPECT_EQ(page->req_prod, 5U);
  EXPECT_EQ(std::string(page->req, 5), "hello");
  unmap(page);
}

TEST_F(Memory, WhatCannotBeMapped) {
  EXPECT_EQ(map(6), nullptr);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(xengnttab_map_grant_ref(grants_, 5, GNTTAB_RESERVED_CONSOLE, kReadWrite), nullptr);
  machine_.fail_map(5, true);
  EXPECT_EQ(map(5), nullptr);
  machine_.fail_map(5, false);
  unmap(map(5));
  machine_.start_dying(5);
  EXPECT_EQ(map(5), nullptr);
}

TEST_F(Memory, AMappedPageOutlivesItsDomain) {
  rings::RingPage* page = map(5);
  page->req_prod = 7;
  machine_.destroy({5});
  EXPECT_EQ(map(5), nullptr);
  EXPECT_EQ(page->req_prod, 7U);
  machine_.create(5, uuid_of(6));
  rings::RingPage* other = map(5);
  EXPECT_EQ(other->req_prod, 0U);
  unmap(page);
  unmap(other);
}

TEST_F(Memory, APageIsMappedByItsFrameNumber) {
  map(5)->rsp_prod = 9;
  void* page = xc_map_foreign_range(control_, 5, 4096, kReadWrite, five_.gfn);
  ASSERT_NE(page, nullptr);
  EXPECT_EQ(static_cast<rings::RingPage*>(page)->rsp_prod, 9U);
  EXPECT_EQ(munmap(page, 4096), 0);
  EXPECT_EQ(xc_map_foreign_range(control_, 5, 4096, kReadWrite, five_.gfn + 1), nullptr);

  xenforeignmemory_handle* foreign = xenforeignmemory_open(nullptr, 0);
  const xen_pfn_t frame = five_.gfn;
  int error = -1;
  void* again = xenforeignmemory_map(foreign, 5, kReadWrite, 1, &frame, &error);
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(error, 0);
  EXPECT_EQ(xenforeignmemory_unmap(foreign, again, 1), 0);
  xenforeignmemory_close(foreign);
}

TEST_F(Memory, DomainZerosPageIsAFile) {
  GuestEvents events(machine_);
  Guest kernel(machine_, events, 0);
  kernel.write("abc");
  const int fd = open("/proc/xen/xsd_kva", O_RDWR);
  ASSERT_GE(fd, 0);
  void* page = mmap(nullptr, 4096, kReadWrite, MAP_SHARED, fd, 0);
  close(fd);
  ASSERT_NE(page, MAP_FAILED);
  EXPECT_EQ(static_cast<rings::RingPage*>(page)->req_prod, 3U);
  munmap(page, 4096);
}

TEST_F(Memory, TheFilesAreFoundByEveryWayToOpenThem) {
  EXPECT_EQ(access("/proc/xen/xsd_port", R_OK), 0);
  EXPECT_NE(access("/proc/xen/other", R_OK), 0);
  std::ifstream file("/proc/xen/xsd_port");
  int port = 0;
  EXPECT_TRUE(file >> port);
  EXPECT_GT(port, 0);
  std::ifstream elsewhere("/proc/self/comm");
  EXPECT_TRUE(elsewhere.good());
}

TEST_F(Domains, OneIsDescribed) {
  machine_.shut_down(5, SHUTDOWN_suspend);
  xc_dominfo_t info{};
  ASSERT_EQ(xc_domain_getinfo(control_, 5, 1, &info), 1);
  EXPECT_EQ(info.domid, 5U);
  EXPECT_EQ(info.shutdown, 1U);
  EXPECT_EQ(info.shutdown_reason, static_cast<unsigned>(SHUTDOWN_suspend));
  EXPECT_EQ(info.handle[15], 5);
  machine_.resume(5);
  ASSERT_EQ(xc_domain_getinfo(control_, 5, 1, &info), 1);
  EXPECT_EQ(info.shutdown, 0U);
  machine_.shut_down(5, SHUTDOWN_crash);
  ASSERT_EQ(xc_domain_getinfo(control_, 5, 1, &info), 1);
  EXPECT_EQ(info.shutdown, 0U);
  EXPECT_EQ(info.crashed, 1U);
}

TEST_F(Domains, WhoAsksForOneMayGetTheNext) {
  xc_dominfo_t info{};
  EXPECT_EQ(xc_domain_getinfo(control_, 3, 1, &info), 1);
  EXPECT_EQ(info.domid, 5U);
  EXPECT_EQ(xc_domain_getinfo(control_, 6, 1, &info), -1);
  EXPECT_EQ(errno, ESRCH);
}

TEST_F(Domains, AllAreListed) {
  machine_.create(3, uuid_of(3));
  machine_.create(9, uuid_of(9));
  machine_.start_dying(3);
  machine_.shut_down(5, SHUTDOWN_reboot);
  machine_.destroy({9});
  std::array<xc_domaininfo_t, 8> infos{};
  ASSERT_EQ(xc_domain_getinfolist(control_, 0, 8, infos.data()), 3);
  EXPECT_EQ(infos[0].domain, 0);
  EXPECT_EQ(infos[1].domain, 3);
  EXPECT_NE(infos[1].flags & XEN_DOMINF_dying, 0U);
  EXPECT_EQ(infos[1].handle[0], 3);
  EXPECT_EQ(infos[2].domain, 5);
  EXPECT_NE(infos[2].flags & XEN_DOMINF_shutdown, 0U);
  EXPECT_EQ(infos[2].flags >> XEN_DOMINF_shutdownshift, static_cast<unsigned>(SHUTDOWN_reboot));
  EXPECT_EQ(xc_domain_getinfolist(control_, 1, 1, infos.data()), 1);
  EXPECT_EQ(infos[0].domain, 3);
  EXPECT_EQ(xc_domain_getinfolist(control_, 6, 8, infos.data()), 0);
}

}  // namespace
}  // namespace simxen
