// SPDX-License-Identifier: MIT
#include "tools/crash/shared.h"

#include <algorithm>

#include "tools/crash/protocol.h"

namespace crash {
namespace {

std::string describe(const SharedWrite& write) {
  return "\"" + printable(write.value) + "\" of client " + std::to_string(write.by.client) +
         ", request " + std::to_string(write.by.index);
}

/// The server must have done `a` before `b`.
bool is_before(const SharedWrite& a, const SharedWrite& b) {
  return (a.by.client == b.by.client && a.by.index < b.by.index) || a.certain < b.sent;
}

}  // namespace

void Shared::settle(const std::string& path, const std::string& value) {
  registers_[path] = value;
  writes_[path].clear();
}

void Shared::sent(const std::string& path, std::string value, RequestId by, Moment now) {
  writes_[path].push_back({std::move(value), by, now, kNever, false});
}

void Shared::acknowledged(RequestId by, Moment now) {
  for (auto& [path, writes] : writes_) {
    for (SharedWrite& write : writes) {
      if (write.by == by) write.certain = std::min(write.certain, now);
    }
  }
}

void Shared::refused(RequestId by) {
  for (auto& [path, writes] : writes_) {
    for (SharedWrite& write : writes) {
      if (write.by == by) write.was_refused = true;
    }
  }
}

SharedWrite* Shared::find(const std::string& path, const std::string& value) {
  for (SharedWrite& write : writes_[path]) {
    if (write.value == value) return &write;
  }
  return nullptr;
}

// A write that came after `write` (after the settled value if null) and had
// happened before the moment `before`, or earlier in the reader's own stream.
const SharedWrite* Shared::later_certain(const std::string& path, const SharedWrite* write,
                                         Moment before, std::optional<RequestId> reader) const {
  for (const SharedWrite& other : writes_.at(path)) {
    if (&other == write || other.was_refused) continue;
    const bool has_happened =
        other.certain < before || (reader && other.by.client == reader->client &&
                                   other.by.index < reader->index && other.certain != kNever);
    if (has_happened && (write == nullptr || is_before(*write, other))) return &other;
  }
  return nullptr;
}

std::optional<std::string> Shared::read(const std::string& path, const std::string& value,
                                        RequestId reader, Moment sent, Moment now) {
  SharedWrite* write = nullptr;
  if (value != registers_.at(path)) {
    write = find(path, value);
    if (write == nullptr)
      return "READ of " + path + " gave \"" + printable(value) + "\", which nobody wrote there";
    if (write->was_refused)
      return "READ of " + path + " gave " + describe(*write) + ", which was refused";
  }
  if (const SharedWrite* later = later_certain(path, write, sent, reader))
    return "READ of " + path + " gave \"" + printable(value) + "\" although " + describe(*later) +
           " had happened before";
  if (write != nullptr) write->certain = std::min(write->certain, now);
  return {};
}

Shared::Found Shared::found(const std::string& path, const std::string& value, Moment now) {
  SharedWrite* write = nullptr;
  if (value != registers_.at(path)) {
    write = find(path, value);
    if (write == nullptr)
      return {{}, path + " holds \"" + printable(value) + "\", which nobody committed there"};
    if (write->was_refused)
      return {write->by, path + " holds " + describe(*write) + ", which was refused"};
  }
  if (const SharedWrite* later = later_certain(path, write, now, {}))
    return {{},
            path + " holds \"" + printable(value) + "\"; lost: " + describe(*later) +
                ", which was acknowledged or seen by a reader"};
  return {write == nullptr ? std::nullopt : std::optional(write->by), ""};
}

}  // namespace crash
