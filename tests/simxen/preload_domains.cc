// SPDX-License-Identifier: MIT
/// libxenctrl's questions about domains.
extern "C" {  // this header does not say it itself
#include <xenctrl.h>
}

#include <algorithm>
#include <cerrno>

#include "tests/simxen/preload.h"

namespace simxen {
namespace {

xc_dominfo_t brief_info(std::uint32_t domid, const DomainSnapshot& domain) {
  xc_dominfo_t info{};
  info.domid = domid;
  info.dying = domain.word.is_dying & 1;
  info.shutdown_reason = domain.word.reason;
  info.crashed = domain.word.is_shut_down != 0 && domain.word.reason == SHUTDOWN_crash;
  info.shutdown = domain.word.is_shut_down != 0 && info.crashed == 0;
  info.running = domain.word.is_shut_down == 0;
  info.nr_pages = 1;
  info.nr_online_vcpus = 1;
  std::copy(domain.uuid.begin(), domain.uuid.end(), info.handle);
  return info;
}

xc_domaininfo_t full_info(std::uint32_t domid, const DomainSnapshot& domain) {
  xc_domaininfo_t info{};
  info.domain = static_cast<domid_t>(domid);
  info.flags = domain.word.is_shut_down != 0
                   ? XEN_DOMINF_shutdown | static_cast<std::uint32_t>(domain.word.reason)
                                               << XEN_DOMINF_shutdownshift
                   : XEN_DOMINF_running;
  if (domain.word.is_dying != 0) info.flags |= XEN_DOMINF_dying;
  info.tot_pages = 1;
  info.max_pages = 1;
  info.nr_online_vcpus = 1;
  std::copy(domain.uuid.begin(), domain.uuid.end(), info.handle);
  return info;
}

/// Fills `infos` with the domains from `first` on. Returns how many.
template <class Info, class Convert>
int list(SharedState& machine, std::uint32_t first, unsigned count, Info* infos,
         const Convert& convert) {
  unsigned found = 0;
  for (std::uint32_t domid = first; domid < kDomids && found < count; ++domid) {
    if (const auto domain = machine.snapshot(domid)) infos[found++] = convert(domid, *domain);
  }
  return static_cast<int>(found);
}

}  // namespace
}  // namespace simxen

SIMXEN_REPLACES xc_interface* xc_interface_open(xentoollog_logger* /*logger*/,
                                                xentoollog_logger* /*dombuild_logger*/,
                                                unsigned /*flags*/) {
  simxen::SharedState* machine = simxen::current_machine();
  return machine == nullptr ? nullptr : new xc_interface{*machine};
}

SIMXEN_REPLACES int xc_interface_close(xc_interface* xch) {
  delete xch;
  return 0;
}

SIMXEN_REPLACES int xc_domain_getinfo(xc_interface* xch, uint32_t first, unsigned int count,
                                      xc_dominfo_t* infos) {
  const int found = simxen::list(xch->machine, first, count, infos, simxen::brief_info);
  if (found > 0) return found;
  errno = ESRCH;
  return -1;
}

SIMXEN_REPLACES int xc_domain_getinfolist(xc_interface* xch, uint32_t first, unsigned int count,
                                          xc_domaininfo_t* infos) {
  return simxen::list(xch->machine, first, count, infos, simxen::full_info);
}
