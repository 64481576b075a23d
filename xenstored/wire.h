// SPDX-License-Identifier: MIT
/// The xenstore wire format: numbers and limits of xen/include/public/io/xs_wire.h,
/// and those of newer Xen that Debian 12's header does not have yet.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "store/result.h"

namespace xenstored {

/// Request and reply types. The first 23 are in Xen 4.17; the others came with
/// Xen 4.21/4.22 and are served on any Xen.
enum class Op : std::uint32_t {
  kControl = 0,
  kDirectory = 1,
  kRead = 2,
  kGetPerms = 3,
  kWatch = 4,
  kUnwatch = 5,
  kTransactionStart = 6,
  kTransactionEnd = 7,
  kIntroduce = 8,
  kRelease = 9,
  kGetDomainPath = 10,
  kWrite = 11,
  kMkdir = 12,
  kRm = 13,
  kSetPerms = 14,
  kWatchEvent = 15,
  kError = 16,
  kIsDomainIntroduced = 17,
  kResume = 18,
  kSetTarget = 19,
  kRestrict = 20,
  kResetWatches = 21,
  kDirectoryPart = 22,
  kGetFeature = 23,
  kSetFeature = 24,
  kGetQuota = 25,
  kSetQuota = 26,
};

/// The 16 bytes before every payload, in host byte order (xsd_sockmsg).
struct Header {
  std::uint32_t type;
  std::uint32_t req_id;
  std::uint32_t tx_id;
  std::uint32_t len;  ///< payload bytes that follow, at most kPayloadMax
};
static_assert(sizeof(Header) == 16);

inline constexpr std::size_t kPayloadMax = 4096;
inline constexpr std::size_t kFrameMax = sizeof(Header) + kPayloadMax;
/// Paths: absolute at most 3072 on the client side; what follows a
/// /local/domain/<n>/ prefix at most 2048.
inline constexpr std::size_t kRelativePathMax = 2048;

/// Whether these bytes have a whole request at their beginning.
bool begins_with_request(std::string_view bytes);
/// The name sent in an ERROR payload ("ENOENT"), without its NUL.
std::string_view error_name(store::WireError error);
/// The name a trace line shows ("READ"); "***UNKNOWN***" for no known type.
std::string_view op_name(std::uint32_t type);

}  // namespace xenstored
