// SPDX-License-Identifier: MIT
/// The domains that xenstored knows: introduced ones, and those that got
/// features or quotas ahead of it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "rings/hypervisor.h"
#include "store/ids.h"
#include "store/perms.h"
#include "store/quota.h"

namespace xenstored {

/// Bits of server_features (xenstore-ring.txt).
inline constexpr std::uint32_t kFeatureReconnection = 1;
inline constexpr std::uint32_t kFeatureError = 2;
inline constexpr std::uint32_t kFeatureWatchDepth = 4;
inline constexpr std::uint32_t kFeatureDomidAny = 8;
inline constexpr std::uint32_t kAllFeatures =
    kFeatureReconnection | kFeatureError | kFeatureWatchDepth | kFeatureDomidAny;

struct Domain {
  store::Domid domid;
  std::optional<store::ConnId> conn;  ///< set while introduced
  std::uint64_t gfn = 0;
  std::uint32_t remote_port = 0;
  rings::DomainHandle handle{};  ///< of the domain that was introduced
  std::optional<store::Domid> target;
  bool is_target = false;  ///< some domain has, or had, this one for its target
  std::uint32_t features = kAllFeatures;
  bool shutdown = false;
  std::map<store::Quota, std::uint32_t> own_quotas;
  store::Limits limits;            ///< the global ones with the domain's own on top
  std::set<store::Quota> refused;  ///< kinds whose first refusal was logged

  bool is_introduced() const { return conn.has_value(); }
};

}  // namespace xenstored
