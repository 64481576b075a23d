// SPDX-License-Identifier: MIT
#include "journal/history.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "journal/bytes.h"
#include "journal/perms_bytes.h"
#include "store/path.h"

namespace journal {
namespace {

using store::raw;

constexpr std::uint8_t kRemoval = 0;
constexpr std::uint8_t kSet = 1;

auto entry_misfit(std::string_view what) { return tl::unexpected(DecodeError{what}); }

HistoryAuthor read_author(ByteReader& reader) {
  HistoryAuthor author;
  author.kind = static_cast<HistoryAuthor::Kind>(reader.byte());
  if (author.kind == HistoryAuthor::kDomain) {
    author.domid = Domid{static_cast<std::uint16_t>(reader.varint(UINT16_MAX))};
  } else if (author.kind == HistoryAuthor::kSocket) {
    author.pid = static_cast<std::uint32_t>(reader.varint(UINT32_MAX));
    author.uid = static_cast<std::uint32_t>(reader.varint(UINT32_MAX));
    author.command = reader.string(kCommandMax);
  }
  return author;
}

Result<HistoryChange, DecodeError> read_change(ByteReader& reader) {
  HistoryChange change;
  const std::uint8_t kind = reader.byte();
  change.is_removal = kind == kRemoval;
  change.path = reader.string(kNameMax);
  if (kind == kSet) {
    change.value = reader.string(kValueMax);
    read_perms(reader, change.perms);
  }
  if (!reader.ok() || kind > kSet) return entry_misfit("a change is malformed");
  if (!store::is_node_path(change.path, kNameMax)) return entry_misfit("a change's path is none");
  if (kind == kSet && change.perms.empty()) return entry_misfit("a change lacks permissions");
  return change;
}

std::string key_of(const std::string& path) { return path == "/" ? path : path + "/"; }

/// What a std::map's node and the state's own strings cost, about.
std::size_t bytes_of(const std::string& key, const NetEffect::State& state) {
  return 160 + key.size() + state.value.size() + state.perms.size() * sizeof(store::PermEntry);
}

}  // namespace

void append_entry_head(std::uint64_t number, std::uint64_t time_us, const HistoryAuthor& author,
                       std::string_view what, std::string& out) {
  ShortBytes bytes;
  bytes.varint(number);
  bytes.varint(time_us);
  bytes.byte(author.kind);
  if (author.kind == HistoryAuthor::kDomain) bytes.varint(raw(author.domid));
  if (author.kind == HistoryAuthor::kSocket) {
    bytes.varint(author.pid);
    bytes.varint(author.uid);
  }
  out.append(bytes.view());
  if (author.kind == HistoryAuthor::kSocket) {
    append_string(std::string_view(author.command).substr(0, kCommandMax), out);
  }
  append_string(what.substr(0, kWhatMax), out);
}

void append_set(std::string_view path, std::string_view value, store::PermsView perms,
                std::string& out) {
  out.push_back(static_cast<char>(kSet));
  append_string(path, out);
  append_string(value, out);
  append_perms(perms, out);
}

void append_removal(std::string_view path, std::string& out) {
  out.push_back(static_cast<char>(kRemoval));
  append_string(path, out);
}

void append_entry(const HistoryEntry& entry, std::string& out) {
  append_entry_head(entry.number, entry.time_us, entry.author, entry.what, out);
  for (const HistoryChange& change : entry.changes) {
    if (change.is_removal) {
      append_removal(change.path, out);
    } else {
      append_set(change.path, change.value, change.perms, out);
    }
  }
}

Result<HistoryEntry, DecodeError> decode_entry(std::string_view bytes) {
  ByteReader reader(bytes);
  HistoryEntry entry;
  entry.number = reader.varint();
  entry.time_us = reader.varint();
  entry.author = read_author(reader);
  entry.what = reader.string(kWhatMax);
  if (!reader.ok() || entry.number == 0 || entry.author.kind > HistoryAuthor::kSocket) {
    return entry_misfit("an entry's head is malformed");
  }
  while (!reader.done()) {
    auto change = read_change(reader);
    if (!change.has_value()) return tl::unexpected(change.error());
    entry.changes.push_back(std::move(change.value()));
  }
  return entry;
}

std::optional<std::string_view> take_entry(std::string_view& entries) {
  std::uint32_t length = 0;
  if (entries.size() < sizeof length) return std::nullopt;
  std::memcpy(&length, entries.data(), sizeof length);
  if (entries.size() - sizeof length < length) return std::nullopt;
  const std::string_view entry = entries.substr(sizeof length, length);
  entries.remove_prefix(sizeof length + length);
  return entry;
}

bool each_entry(std::string_view entries, const std::function<bool(HistoryEntry&& entry)>& show) {
  while (!entries.empty()) {
    const auto bytes = take_entry(entries);
    if (!bytes) return false;
    auto entry = decode_entry(*bytes);
    if (!entry.has_value()) return false;
    if (!show(std::move(entry.value()))) return true;
  }
  return true;
}

void NetEffect::add(const HistoryChange& change) {
  const std::string key = key_of(change.path);
  if (change.is_removal) forget_below(key);
  const auto [place, is_new] = states_.try_emplace(key);
  State& state = place->second;
  if (!is_new) bytes_ -= bytes_of(key, state);
  if (change.is_removal) {
    state = State{.is_cleared = true};
  } else {
    state.is_set = true;
    state.value = change.value;
    state.perms = change.perms;
  }
  bytes_ += bytes_of(key, state);
}

void NetEffect::clear() {
  states_.clear();
  bytes_ = 0;
}

void NetEffect::forget_below(const std::string& key) {
  auto it = states_.upper_bound(key);
  while (it != states_.end() && it->first.starts_with(key)) {
    bytes_ -= bytes_of(it->first, it->second);
    it = states_.erase(it);
  }
}

}  // namespace journal
