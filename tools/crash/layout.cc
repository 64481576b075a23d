// SPDX-License-Identifier: MIT
#include "tools/crash/layout.h"

namespace crash {
namespace {

constexpr unsigned kFirstDomid = 1000;

bool is_outpost(const Region& region, std::string_view path) {
  return path.starts_with(region.outpost_prefix);
}

}  // namespace

std::string register_path(unsigned index) { return "/s/r/" + std::to_string(index); }

std::string group_path(unsigned group, unsigned member) {
  return "/s/g/" + std::to_string(group) + "/" + std::to_string(member);
}

std::string counter_path(unsigned index) { return "/s/c/" + std::to_string(index); }

bool is_shared(std::string_view path) {
  return is_within(path, "/s/r") || is_within(path, "/s/g") || is_within(path, "/s/c");
}

std::string group_of(std::string_view path) {
  return path.starts_with("/s/g/") ? parent_of(path) : "";
}

bool Region::owns(std::string_view path) const {
  return is_within(path, root) || is_outpost(*this, path);
}

bool Region::is_free(std::string_view path) const {
  return is_within(path, side) || path == kOutposts || is_outpost(*this, path);
}

Tree Region::cut_out(const Tree& whole) const {
  Tree part;
  for (const auto& [path, node] : whole) {
    if (owns(path)) part.emplace(path, node);
  }
  const auto outposts = whole.find(std::string(kOutposts));
  if (outposts == whole.end()) return part;
  Node directory = outposts->second;
  std::erase_if(directory.children, [&](const std::string& name) {
    return !is_outpost(*this, outposts->first + "/" + name);
  });
  part.emplace(outposts->first, directory);
  return part;
}

std::vector<unsigned> Region::domids() const {
  std::vector<unsigned> ids;
  for (unsigned i = 0; i < kDomainsPerClient; ++i) ids.push_back(first_domid + i);
  return ids;
}

Region client_region(unsigned client) {
  const std::string root = "/c/" + std::to_string(client);
  return {client, root, root + "/side", std::string(kOutposts) + "/" + std::to_string(client) + "-",
          kFirstDomid + client * kDomainsPerClient};
}

}  // namespace crash
