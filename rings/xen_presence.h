// SPDX-License-Identifier: MIT
/// Is there a Xen on this host whose domains could be served?
#pragma once

#include <string>
#include <vector>

namespace rings {

/// Where dom0's kernel shows the store's own ring; other places only in tests.
struct XenPaths {
  std::string xsd_port = "/proc/xen/xsd_port";
  std::string xsd_kva = "/proc/xen/xsd_kva";
};

/// What a daemon needs to serve domains and this host does not offer, one sentence
/// each with the reason; empty when everything is there.
std::vector<std::string> missing_for_rings(const XenPaths& paths = {});

}  // namespace rings
