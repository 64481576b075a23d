// SPDX-License-Identifier: MIT
#include "xenstored/wire.h"

#include <array>
#include <cstring>

namespace xenstored {

bool begins_with_request(std::string_view bytes) {
  Header header;
  if (bytes.size() < sizeof header) return false;
  std::memcpy(&header, bytes.data(), sizeof header);
  return bytes.size() - sizeof header >= header.len;
}

std::string_view error_name(store::WireError error) {
  static constexpr std::array<std::string_view, 16> kNames{
      "EINVAL",    "EACCES", "EEXIST", "EISDIR", "ENOENT", "ENOMEM",  "ENOSPC", "EIO",
      "ENOTEMPTY", "ENOSYS", "EROFS",  "EBUSY",  "EAGAIN", "EISCONN", "E2BIG",  "EPERM"};
  return kNames[static_cast<std::size_t>(error)];
}

std::string_view op_name(std::uint32_t type) {
  static constexpr std::array<std::string_view, 27> kNames{"CONTROL",
                                                           "DIRECTORY",
                                                           "READ",
                                                           "GET_PERMS",
                                                           "WATCH",
                                                           "UNWATCH",
                                                           "TRANSACTION_START",
                                                           "TRANSACTION_END",
                                                           "INTRODUCE",
                                                           "RELEASE",
                                                           "GET_DOMAIN_PATH",
                                                           "WRITE",
                                                           "MKDIR",
                                                           "RM",
                                                           "SET_PERMS",
                                                           "WATCH_EVENT",
                                                           "ERROR",
                                                           "IS_DOMAIN_INTRODUCED",
                                                           "RESUME",
                                                           "SET_TARGET",
                                                           "RESTRICT",
                                                           "RESET_WATCHES",
                                                           "DIRECTORY_PART",
                                                           "GET_FEATURE",
                                                           "SET_FEATURE",
                                                           "GET_QUOTA",
                                                           "SET_QUOTA"};
  return type < kNames.size() ? kNames[type] : "***UNKNOWN***";
}

}  // namespace xenstored
