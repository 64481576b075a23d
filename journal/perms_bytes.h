// SPDX-License-Identifier: MIT
/// A permission list as bytes (FORMAT.md, "Numbers").
#pragma once

#include <string>

#include "journal/bytes.h"
#include "store/perms.h"

namespace journal {

void append_perms(store::PermsView perms, std::string& out);
/// Replaces `perms`; a list beyond kPermsMax entries is a misfit.
void read_perms(ByteReader& reader, store::Perms& perms);

}  // namespace journal
