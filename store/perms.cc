// SPDX-License-Identifier: MIT
#include "store/perms.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>

namespace store {

Access access_of(const Caller& caller, PermsView perms) {
  if (owns(caller, perms)) return Access::kBoth;
  const auto names_caller = [&](const PermEntry& entry) {
    return !entry.stale && (entry.domid == caller.domid || entry.domid == caller.target ||
                            entry.domid == kDomidAny);
  };
  const auto later = perms.subspan(1);
  const auto match = std::find_if(later.begin(), later.end(), names_caller);
  return match != later.end() ? match->access : perms.front().access;
}

bool owns(const Caller& caller, PermsView perms) {
  const PermEntry& owner = perms.front();
  return caller.privileged ||
         (!owner.stale && (owner.domid == caller.domid || owner.domid == caller.target));
}

Answer<PermEntry> parse_perm(std::string_view text) {
  Access access = Access::kNone;
  switch (text.empty() ? '\0' : text.front()) {
    case 'n':
      break;
    case 'r':
      access = Access::kRead;
      break;
    case 'w':
      access = Access::kWrite;
      break;
    case 'b':
      access = Access::kBoth;
      break;
    default:
      return tl::unexpected(WireError::kInval);
  }
  const std::string number(text.substr(1));
  char* end = nullptr;
  errno = 0;
  const long domid = std::strtol(number.c_str(), &end, 0);
  if (end == number.c_str() || *end != '\0' || end != number.c_str() + number.size() ||
      errno != 0 || domid < 0 || domid > 0xFFFF) {
    return tl::unexpected(WireError::kInval);
  }
  return PermEntry{Domid{static_cast<std::uint16_t>(domid)}, access};
}

void append_perm(const PermEntry& entry, std::string& out) {
  static constexpr char kLetters[] = {'n', 'r', 'w', 'b'};
  out += kLetters[static_cast<unsigned>(entry.access)];
  out += std::to_string(raw(entry.domid));
}

}  // namespace store
