// SPDX-License-Identifier: MIT
#include "rings/xen_presence.h"

#include <unistd.h>
extern "C" {  // this header does not say it itself
#include <xenevtchn.h>
}

#include <cerrno>
#include <cstring>

namespace rings {
namespace {

void need_file(std::vector<std::string>& missing, const std::string& path,
               const std::string& purpose) {
  if (::access(path.c_str(), R_OK) == 0) return;
  missing.push_back(path + " (" + purpose + "): " + std::strerror(errno));
}

void need_event_channels(std::vector<std::string>& missing) {
  if (xenevtchn_handle* handle = xenevtchn_open(nullptr, 0)) {
    xenevtchn_close(handle);
    return;
  }
  missing.push_back("/dev/xen/evtchn (event channels): " + std::string(std::strerror(errno)));
}

}  // namespace

std::vector<std::string> missing_for_rings(const XenPaths& paths) {
  std::vector<std::string> missing;
  need_event_channels(missing);
  need_file(missing, paths.xsd_port, "the event channel of dom0's own ring");
  need_file(missing, paths.xsd_kva, "the page of dom0's own ring");
  return missing;
}

}  // namespace rings
