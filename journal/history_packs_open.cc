// SPDX-License-Identifier: MIT
// Finding out which packs there are, and which of them count: a history's start.
#include <algorithm>
#include <charconv>
#include <tuple>

#include "journal/bytes.h"
#include "journal/files.h"
#include "journal/history_packs.h"

namespace journal {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kKeepMax = 4096;
constexpr std::size_t kBoundaryMax = 1 << 20;
constexpr std::size_t kStemLength = sizeof "pack-" - 1 + 2 * git::kIdBytes;
constexpr std::uint64_t kNumberMax = std::uint64_t{1} << 48;

auto damaged_packs(std::string message) {
  return tl::unexpected(OpenError{OpenError::Kind::kDamaged, std::move(message)});
}

/// Takes `word`, a number and `after` off the beginning of a text.
std::optional<std::uint64_t> take_number(std::string_view& text, std::string_view word,
                                         char after) {
  if (!text.starts_with(word)) return std::nullopt;
  std::uint64_t number = 0;
  const char* const begin = text.data() + word.size();
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(begin, end, number);
  if (parsed.ec != std::errc() || parsed.ptr == end || *parsed.ptr != after) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(parsed.ptr + 1 - text.data()));
  return number <= kNumberMax ? std::optional(number) : std::nullopt;
}

}  // namespace

struct HistoryPacks::Found {
  fs::path stem;
  std::uint64_t segment = 0;
  std::uint64_t part = 0;
  std::optional<git::ObjectId> first{};
  std::uint64_t snapshot_bytes = 0;
  std::shared_ptr<const git::PackFile> file{};
  std::string damage{};

  bool parse_keep(std::string_view text);
  bool has(const git::ObjectId& id) const { return file && file->find(id).has_value(); }
  std::pair<std::uint64_t, std::uint64_t> place() const { return {segment, part}; }
  std::uint32_t count() const { return file ? file->count() : 0; }
};

bool HistoryPacks::Found::parse_keep(std::string_view text) {
  const auto segment_number = take_number(text, "segment ", ' ');
  const auto part_number = take_number(text, "part ", '\n');
  if (!segment_number.has_value() || !part_number.has_value()) return false;
  segment = *segment_number;
  part = *part_number;
  constexpr std::string_view kFirst = "first ";
  if (text.starts_with(kFirst) && text.size() > kFirst.size() + 40) {
    first = git::ObjectId::of_hex(text.substr(kFirst.size(), 40));
    text.remove_prefix(kFirst.size() + 41);
    const auto bytes = take_number(text, "snapshot ", '\n');
    if (!first.has_value() || !bytes.has_value()) return false;
    snapshot_bytes = *bytes;
  }
  return text.empty();
}

Result<std::unique_ptr<HistoryPacks>, OpenError> HistoryPacks::open(
    Options options, const std::optional<git::ObjectId>& tip, Note note) {
  std::unique_ptr<HistoryPacks> packs(new HistoryPacks(std::move(options), std::move(note)));
  std::vector<Found> found = packs->list();
  if (!tip.has_value()) {
    for (const Found& pack : found) packs->remove_files(pack.stem);
    return packs;
  }
  if (auto settled = packs->settle(found, *tip); !settled.has_value()) {
    return tl::unexpected(settled.error());
  }
  packs->ref_segment_ = packs->segments_.back().number;
  packs->continue_tail();
  return packs;
}

/// Lists packs that are ours, sorted by place, with their files opened and checked;
/// removes what is unfinished.
std::vector<HistoryPacks::Found> HistoryPacks::list() {
  std::vector<Found> found;
  const std::vector<std::string> names = names_in(folder_);
  const auto is_there = [&](const std::string& name) {
    return std::binary_search(names.begin(), names.end(), name);
  };
  std::string stem_before;
  for (const std::string& name : names) {
    if (name.starts_with("tmp_")) {
      (void)remove_file(folder_ / name);
      continue;
    }
    const std::string stem = name.substr(0, name.rfind('.'));
    if (stem == stem_before || !stem.starts_with("pack-") || stem.size() != kStemLength) continue;
    stem_before = stem;
    Found pack{.stem = folder_ / stem};
    if (!is_there(stem + ".idx")) {
      remove_files(pack.stem);
      continue;
    }
    const auto keep = read_text(folder_ / (stem + ".keep"), kKeepMax);
    if (!keep.has_value() || !pack.parse_keep(*keep)) {
      foreign_pages_ += pages_of(folder_ / (stem + ".pack")) + pages_of(folder_ / (stem + ".idx"));
      continue;
    }
    auto file = git::PackFile::open(pack.stem);
    const auto sound = file.has_value() ? file->verify() : tl::unexpected(file.error());
    if (sound.has_value()) {
      pack.file = std::make_shared<const git::PackFile>(std::move(file.value()));
    } else {
      pack.damage = stem + ": " + sound.error();
    }
    found.push_back(std::move(pack));
  }
  std::sort(found.begin(), found.end(),
            [](const Found& a, const Found& b) { return a.place() < b.place(); });
  return found;
}

// A part beyond the one with the tip, or another version of it that has more, was
// being published when the process died; one that has less was about to be retired.
Result<void, OpenError> HistoryPacks::settle(std::vector<Found>& found, const git::ObjectId& tip) {
  const Found* with_tip = nullptr;
  std::string damage;
  for (const Found& pack : found) {
    if (!pack.damage.empty()) damage = "; " + pack.damage;
    if (!pack.has(tip)) continue;
    if (with_tip == nullptr || std::make_tuple(pack.place(), pack.count()) <
                                   std::make_tuple(with_tip->place(), with_tip->count())) {
      with_tip = &pack;
    }
  }
  if (with_tip == nullptr)
    return damaged_packs("no pack has the last commit " + tip.hex() + damage);

  std::vector<Found> counting;
  std::vector<fs::path> surplus;
  for (const Found& pack : found) {
    const bool is_surplus = pack.place() > with_tip->place() ||
                            (pack.place() == with_tip->place() && &pack != with_tip);
    if (is_surplus) {
      surplus.push_back(pack.stem);
    } else {
      counting.push_back(pack);
    }
  }
  const std::uint64_t newest = with_tip->segment;
  if (!take_segment(counting, newest, with_tip->part)) {
    return damaged_packs("the newest segment of history is not whole" + damage);
  }
  for (const fs::path& stem : surplus) remove_files(stem);
  return settle_older(counting);
}

/// Takes the segment with this number before those that are taken. False if it is
/// not all there up to `last_part` (0: whatever the last one is).
bool HistoryPacks::take_segment(std::vector<Found>& found, std::uint64_t number,
                                std::uint64_t last_part) {
  Segment segment{.number = number};
  for (const Found& pack : found) {
    if (pack.segment != number) continue;
    if (pack.part != segment.parts.size() + 1 || pack.file == nullptr) return false;
    if (pack.first.has_value()) {
      segment.first = pack.first;
      segment.snapshot_bytes = pack.snapshot_bytes;
    }
    const std::uint64_t pages = pages_of(pack.stem.string() + ".pack") +
                                pages_of(pack.stem.string() + ".idx") +
                                pages_of(pack.stem.string() + ".keep");
    segment.parts.push_back({.stem = pack.stem, .file = pack.file, .pages = pages});
  }
  if (segment.parts.empty() || !segment.first.has_value()) return false;
  if (last_part != 0 && segment.parts.size() != last_part) return false;
  if (std::none_of(segment.parts.begin(), segment.parts.end(),
                   [&](const Part& part) { return part.file->find(*segment.first).has_value(); })) {
    return false;
  }
  segments_.insert(segments_.begin(), std::move(segment));
  return true;
}

/// Takes the segments before the newest, as far back as they are whole.
Result<void, OpenError> HistoryPacks::settle_older(std::vector<Found>& found) {
  std::erase_if(found, [&](const Found& pack) { return pack.segment == segments_.front().number; });
  while (!found.empty()) {
    const std::uint64_t number = segments_.front().number - 1;
    const auto parent = parent_of_first(segments_.front());
    const auto has_parent = [&](const Found& pack) {
      return pack.segment == number && parent.has_value() && pack.has(*parent);
    };
    if (std::none_of(found.begin(), found.end(), has_parent) || !take_segment(found, number, 0)) {
      break;
    }
    std::erase_if(found, [&](const Found& pack) { return pack.segment == number; });
  }
  const bool was_dropping = is_shallow_at(segments_.front());
  // Git must not look for what is left over, before that goes.
  if (auto settled = settle_shallow(); !settled.has_value()) {
    return tl::unexpected(OpenError{OpenError::Kind::kSystem, settled.error()});
  }
  for (const Found& pack : found) {
    if (!was_dropping) {
      note_("history before commit " + segments_.front().first->hex() + " is lost: segment " +
            std::to_string(pack.segment) + " is not whole" +
            (pack.damage.empty() ? "" : " (" + pack.damage + ")"));
    }
    remove_files(pack.stem);
  }
  return {};
}

bool HistoryPacks::is_shallow_at(const Segment& segment) const {
  return read_text(options_.repository / "shallow", kBoundaryMax) == segment.first->hex() + "\n";
}

/// The file `shallow` names the oldest commit that stays. If that is not the first
/// of all that are here, dropping a segment was under way.
Result<void, std::string> HistoryPacks::settle_shallow() {
  const fs::path file = options_.repository / "shallow";
  const auto named = [&](const Segment& segment) { return is_shallow_at(segment); };
  if (std::any_of(segments_.begin(), segments_.end(), named)) {
    while (!named(segments_.front())) remove_oldest();
    return {};
  }
  if (!parent_of_first(segments_.front()).has_value()) return remove_file(file);
  return replace_locked(file, segments_.front().first->hex() + "\n");
}

}  // namespace journal
