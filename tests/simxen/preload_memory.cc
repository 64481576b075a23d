// SPDX-License-Identifier: MIT
/// libxengnttab, libxenforeignmemory and libxenctrl's mappings: of all memory of a
/// domain there is only its ring page, by its grant or by its frame number.
#include <sys/mman.h>
#include <unistd.h>
extern "C" {  // these headers do not say it themselves
#define XC_WANT_COMPAT_MAP_FOREIGN_API
#include <xenctrl.h>
#include <xenforeignmemory.h>
#include <xengnttab.h>
}

#include <algorithm>
#include <cerrno>

#include "tests/simxen/preload.h"

/// Xen's headers leave these to us. A handle is nothing but the machine.
struct xengntdev_handle {
  simxen::SharedState& machine;
};
struct xenforeignmemory_handle {
  simxen::SharedState& machine;
};

namespace simxen {
namespace {

constexpr std::size_t kPageBytes = 4096;

void* fail(int error) {
  errno = error;
  return nullptr;
}

void* map_ring(SharedState& machine, std::uint32_t domid, int prot, int error_if_absent) {
  const auto domain = machine.snapshot(domid);
  if (!domain) return fail(error_if_absent);
  if (domain->word.is_dying != 0 || domain->word.map_fails != 0) return fail(EINVAL);
  const int fd = machine.open_page(static_cast<std::uint32_t>(domain->word.life));
  if (fd < 0) return fail(error_if_absent);
  void* page = mmap(nullptr, kPageBytes, prot, MAP_SHARED, fd, 0);
  close(fd);
  return page == MAP_FAILED ? nullptr : page;
}

void* map_by_frame(SharedState& machine, std::uint32_t domid, int prot, std::uint64_t gfn) {
  if (domid >= kDomids || machine->domains[domid].gfn.load() != gfn) return fail(EINVAL);
  return map_ring(machine, domid, prot, ESRCH);
}

template <class Handle>
Handle* open_handle() {
  SharedState* machine = current_machine();
  return machine == nullptr ? nullptr : new Handle{*machine};
}

template <class Handle>
int close_handle(Handle* handle) {
  delete handle;
  return 0;
}

}  // namespace
}  // namespace simxen

using simxen::fail;

SIMXEN_REPLACES xengnttab_handle* xengnttab_open(xentoollog_logger* /*logger*/,
                                                 unsigned /*flags*/) {
  return simxen::open_handle<xengnttab_handle>();
}

SIMXEN_REPLACES int xengnttab_close(xengnttab_handle* handle) {
  return simxen::close_handle(handle);
}

// There is no file behind a handle that a caller could want.
SIMXEN_REPLACES int xengnttab_fd(xengnttab_handle* /*handle*/) { return -1; }

SIMXEN_REPLACES int xengnttab_set_max_grants(xengnttab_handle* /*handle*/, uint32_t /*count*/) {
  return 0;
}

SIMXEN_REPLACES void* xengnttab_map_grant_ref(xengnttab_handle* handle, uint32_t domid,
                                              uint32_t ref, int prot) {
  if (ref != GNTTAB_RESERVED_XENSTORE) return fail(EINVAL);
  return simxen::map_ring(handle->machine, domid, prot, EINVAL);
}

SIMXEN_REPLACES int xengnttab_unmap(xengnttab_handle* /*handle*/, void* address, uint32_t count) {
  return munmap(address, count * simxen::kPageBytes);
}

SIMXEN_REPLACES xenforeignmemory_handle* xenforeignmemory_open(xentoollog_logger* /*logger*/,
                                                               unsigned /*flags*/) {
  return simxen::open_handle<xenforeignmemory_handle>();
}

SIMXEN_REPLACES int xenforeignmemory_close(xenforeignmemory_handle* handle) {
  return simxen::close_handle(handle);
}

SIMXEN_REPLACES void* xenforeignmemory_map(xenforeignmemory_handle* handle, uint32_t domid,
                                           int prot, size_t pages, const xen_pfn_t* frames,
                                           int* errors) {
  if (pages != 1) return fail(EINVAL);
  void* page = simxen::map_by_frame(handle->machine, domid, prot, frames[0]);
  if (errors != nullptr) errors[0] = page == nullptr ? errno : 0;
  return page;
}

SIMXEN_REPLACES int xenforeignmemory_unmap(xenforeignmemory_handle* /*handle*/, void* address,
                                           size_t pages) {
  return munmap(address, pages * simxen::kPageBytes);
}

SIMXEN_REPLACES void* xc_map_foreign_range(xc_interface* xch, uint32_t domid, int size, int prot,
                                           unsigned long frame) {
  if (size != static_cast<int>(simxen::kPageBytes)) return fail(EINVAL);
  return simxen::map_by_frame(xch->machine, domid, prot, frame);
}
