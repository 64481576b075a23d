// SPDX-License-Identifier: MIT
/// Any bytes as a path and as a permission: no crash, and what is accepted keeps
/// the rules that the store relies on.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "store/path.h"
#include "store/perms.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  std::string scratch;
  const auto path = store::node_path(text, store::Domid{7}, store::kPathBytesMax, scratch);
  if (path.has_value()) {
    const std::string_view node = path.value();
    if (node.front() != '/' || node.find("//") != std::string_view::npos) std::abort();
    if (node.size() > 1 && node.back() == '/') std::abort();
    std::string joined;
    for (store::PathNames names(node); !names.done();) joined += '/' + std::string(names.next());
    if ((joined.empty() ? "/" : joined) != node) std::abort();
  }
  if (const auto entry = store::parse_perm(text); entry.has_value()) {
    std::string shown;
    append_perm(entry.value(), shown);
    const auto again = store::parse_perm(shown);
    if (!again.has_value() || !(again.value() == entry.value())) std::abort();
  }
  return 0;
}
