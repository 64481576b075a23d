// SPDX-License-Identifier: MIT
#include "journal/history_text.h"

#include <algorithm>
#include <charconv>

namespace journal {
namespace {

using store::raw;

constexpr std::size_t kPathsShown = 4;
constexpr std::size_t kOperationsShown = 8;
constexpr std::string_view kEntryTrailer = "Xenstore-Entry: ";
constexpr std::string_view kAccessLetters = "nrwb";
constexpr std::string_view kStale = " stale";

/// The part of an author's mail before the '@'.
std::string mail_part(const HistoryAuthor& author) {
  switch (author.kind) {
    case HistoryAuthor::kDomain:
      return "domain-" + std::to_string(raw(author.domid));
    case HistoryAuthor::kSocket:
      return "pid-" + std::to_string(author.pid) + ".uid-" + std::to_string(author.uid);
    case HistoryAuthor::kDaemon:
      break;
  }
  return "xenstored";
}

std::string author_name(const HistoryAuthor& author) {
  switch (author.kind) {
    case HistoryAuthor::kDomain:
      return "domain " + std::to_string(raw(author.domid));
    case HistoryAuthor::kSocket: {
      std::string name = cleaned(author.command);
      return name.empty() ? "unknown" : name;
    }
    case HistoryAuthor::kDaemon:
      break;
  }
  return "xenstored";
}

/// What was asked for, not what had to come into being for it.
bool is_parent_of_next(const std::vector<HistoryChange>& changes, std::size_t i) {
  return i + 1 < changes.size() && !changes[i].is_removal &&
         changes[i + 1].path.starts_with(changes[i].path + "/");
}

std::optional<std::uint64_t> parse_number(std::string_view text, std::uint64_t max) {
  std::uint64_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size() || number > max) {
    return std::nullopt;
  }
  return number;
}

}  // namespace

std::string author_line(const HistoryAuthor& author) {
  return author_name(author) + " <" + mail_part(author) + "@xenstore>";
}

std::string cleaned(std::string_view text) {
  std::string clean;
  for (const char c : text) {
    if (c >= ' ' && c <= '~' && c != '<' && c != '>') clean.push_back(c);
  }
  const std::size_t begin = clean.find_first_not_of(' ');
  if (begin == std::string::npos) return {};
  return clean.substr(begin, clean.find_last_not_of(' ') - begin + 1);
}

std::string request_line(const HistoryEntry& entry) {
  std::string line = cleaned(entry.what);
  if (line.empty()) line = "a change";
  if (entry.author.kind == HistoryAuthor::kDaemon) return line;
  std::size_t paths = 0;
  for (std::size_t i = 0; i < entry.changes.size(); ++i) {
    if (is_parent_of_next(entry.changes, i)) continue;
    if (++paths <= kPathsShown) line += " " + entry.changes[i].path;
  }
  if (paths > kPathsShown) line += " and " + std::to_string(paths - kPathsShown) + " more";
  return line;
}

void append_trailers(const EntryTrailers& trailers, std::string& message) {
  message += kEntryTrailer;
  message += std::to_string(trailers.last);
  if (trailers.first != trailers.last) {
    message += "\nXenstore-Entries: " + std::to_string(trailers.first) + "-" +
               std::to_string(trailers.last);
  }
  std::string micros = std::to_string(trailers.time_us % 1'000'000);
  micros.insert(0, 6 - micros.size(), '0');
  message += "\nXenstore-Time: " + std::to_string(trailers.time_us / 1'000'000) + "." + micros;
  message += "\n";
}

std::optional<std::uint64_t> entry_of_message(std::string_view message) {
  // The last one: nothing that a client chooses stands behind the trailers.
  const std::size_t at = message.rfind("\n" + std::string(kEntryTrailer));
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view rest = message.substr(at + 1 + kEntryTrailer.size());
  return parse_number(rest.substr(0, rest.find('\n')), UINT64_MAX);
}

std::string perms_text(store::PermsView perms) {
  std::string text;
  for (const store::PermEntry& entry : perms) {
    text.push_back(kAccessLetters[static_cast<std::size_t>(entry.access)]);
    text += std::to_string(raw(entry.domid));
    if (entry.stale) text += kStale;
    text.push_back('\n');
  }
  return text;
}

std::optional<store::Perms> perms_of_text(std::string_view text) {
  store::Perms perms;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos || end == 0 || perms.size() == kPermsMax) return std::nullopt;
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    const bool is_stale = line.ends_with(kStale);
    if (is_stale) line.remove_suffix(kStale.size());
    const std::size_t access = kAccessLetters.find(line.empty() ? '?' : line[0]);
    if (access == std::string_view::npos) return std::nullopt;
    const auto domid = parse_number(line.substr(1), UINT16_MAX);
    if (!domid.has_value()) return std::nullopt;
    perms.push_back({.domid = Domid{static_cast<std::uint16_t>(*domid)},
                     .access = static_cast<store::Access>(access),
                     .stale = is_stale});
  }
  if (perms.empty()) return std::nullopt;
  return perms;
}

void HistoryCommit::add(const HistoryEntry& entry) {
  for (const HistoryChange& change : entry.changes) effect_.add(change);
  add_request(entry);
}

void HistoryCommit::add_request(const HistoryEntry& entry) {
  if (lists_more()) {
    ++listed_count_;
    subject_ = request_line(entry);
    listed_ +=
        subject_ + " by " + author_name(entry.author) + " (" + mail_part(entry.author) + ")\n";
  }
  count_request(entry.number, entry.time_us, entry.author, entry.what);
}

void HistoryCommit::count_request(std::uint64_t number, std::uint64_t time_us,
                                  const HistoryAuthor& author, std::string_view what) {
  if (count_ == 0) first_number_ = number;
  last_number_ = number;
  time_us_ = time_us;
  author_ = author;
  ++count_;
  const std::string_view kind = author.kind == HistoryAuthor::kDaemon ? "of xenstored" : what;
  const auto same = std::find_if(operations_.begin(), operations_.end(),
                                 [&](const auto& known) { return known.first == kind; });
  if (same != operations_.end()) {
    ++same->second;
  } else if (operations_.size() < kOperationsShown) {
    operations_.emplace_back(kind, 1);
  }
}

std::string HistoryCommit::message() const {
  std::string text = subject_;
  if (count_ > 1) {
    text = std::to_string(count_) + " requests:";
    for (const auto& [kind, times] : operations_) {
      text += (&kind == &operations_.front().first ? " " : ", ") + std::to_string(times) + " ";
      text += cleaned(kind);
    }
    text += "\n\n" + listed_;
    if (count_ > listed_count_) {
      text += "and " + std::to_string(count_ - listed_count_) + " more requests\n";
    }
  }
  if (has_dropped_values_) {
    text += std::string(count_ > 1 ? "" : "\n") +
            "\nValues between the first and the last of a node may be missing: too many changes "
            "for history to keep up with.\n";
  }
  text += count_ > 1 || has_dropped_values_ ? "\n" : "\n\n";
  append_trailers({.first = first_number_, .last = last_number_, .time_us = time_us_}, text);
  return text;
}

}  // namespace journal
