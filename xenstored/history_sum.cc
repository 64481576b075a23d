// SPDX-License-Identifier: MIT
#include "xenstored/history_sum.h"

#include "store/store.h"

namespace xenstored {
namespace {

/// What a touched node takes besides its path.
constexpr std::size_t kBytesATouched = 96;

}  // namespace

void HistorySum::touch(std::string_view path, bool is_removal) {
  auto place = touched_.find(path);
  if (place == touched_.end()) {
    place = touched_.try_emplace(std::string(path), false).first;
    touched_bytes_ += kBytesATouched + path.size();
  }
  place->second = place->second || is_removal;
}

bool HistorySum::look_up(const store::Node& root, std::size_t count) {
  for (; count > 0 && !touched_.empty(); --count) {
    const auto touched = touched_.extract(touched_.begin());
    const std::string& path = touched.key();
    const store::Node* node = store::find(root, path);
    if (node == nullptr || touched.mapped()) removals_.push_back({path, true, {}, {}});
    if (node == nullptr) continue;
    const store::PermsView perms = node->perms()->view();
    settings_.push_back({path, false, std::string(node->value()), {perms.begin(), perms.end()}});
  }
  return touched_.empty();
}

journal::HistoryCommit HistorySum::take_commit() {
  for (const auto* changes : {&removals_, &settings_}) {
    for (const journal::HistoryChange& change : *changes) commit_.add_effect(change);
  }
  commit_.note_dropped_values();
  return std::move(commit_);
}

}  // namespace xenstored
