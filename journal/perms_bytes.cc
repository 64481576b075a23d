// SPDX-License-Identifier: MIT
#include "journal/perms_bytes.h"

#include "journal/records.h"

namespace journal {

using store::raw;

// One number an entry: domid, stale, access from the top.
void append_perms(store::PermsView perms, std::string& out) {
  append_varint(perms.size(), out);
  for (const store::PermEntry& entry : perms) {
    const std::uint32_t packed = static_cast<std::uint32_t>(raw(entry.domid)) << 3 |
                                 (entry.stale ? 4U : 0U) | static_cast<std::uint32_t>(entry.access);
    append_varint(packed, out);
  }
}

void read_perms(ByteReader& reader, store::Perms& perms) {
  perms.clear();
  const std::uint64_t count = reader.varint(kPermsMax);
  for (std::uint64_t i = 0; i < count && reader.ok(); ++i) {
    const std::uint64_t packed = reader.varint((std::uint64_t{0xFFFF} << 3) | 7);
    perms.push_back({.domid = Domid{static_cast<std::uint16_t>(packed >> 3)},
                     .access = static_cast<store::Access>(packed & 3),
                     .stale = (packed & 4) != 0});
  }
}

}  // namespace journal
