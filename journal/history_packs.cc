// SPDX-License-Identifier: MIT
#include "journal/history_packs.h"

#include <algorithm>
#include <array>
#include <utility>

#include "journal/files.h"
#include "journal/git_refs.h"
#include "journal/history_archive.h"

namespace journal {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kPartBytesMin = std::uint64_t{64} << 10;
constexpr std::uint64_t kPartBytesMax = std::uint64_t{2} << 20;
/// HEAD, config, shallow, the branch, and one of them being replaced.
constexpr std::uint64_t kSmallFilesPages = std::uint64_t{5} * 4096;
constexpr std::uint64_t kKeepPages = 4096;

/// Git takes any file that ends in .idx for an index, whatever its name.
constexpr std::array<std::pair<const char*, const char*>, 3> kUnfinished = {
    {{"tmp_history_pack", ".pack"}, {"tmp_history_keep", ".keep"}, {"tmp_history_idx", ".idx"}}};

std::string with_ending(const fs::path& stem, const char* ending) { return stem.string() + ending; }

}  // namespace

std::uint64_t HistoryPacks::Segment::bytes() const {
  std::uint64_t sum = 0;
  for (const Part& part : parts) sum += part.pages;
  return sum;
}

HistoryPacks::HistoryPacks(Options options, Note note)
    : options_(std::move(options)),
      note_(std::move(note)),
      folder_(options_.repository / "objects" / "pack"),
      part_bytes_(std::clamp(options_.limit_bytes / 32, kPartBytesMin, kPartBytesMax)) {}

// Reading and adding.

Result<git::Object, std::string> HistoryPacks::read(const git::ObjectId& id) {
  const auto checked = [&](const git::PackBytes& bytes,
                           std::uint64_t offset) -> Result<git::Object, std::string> {
    auto object = reader_.read(bytes, offset);
    if (!object.has_value()) return tl::unexpected("object " + id.hex() + ": " + object.error());
    if (git::id_of(object->kind, object->content) == id) return object;
    return tl::unexpected("object " + id.hex() + " has other bytes");
  };
  if (const auto offset = tail_.find(id)) return checked(tail_.bytes(), *offset);
  for (auto segment = segments_.rbegin(); segment != segments_.rend(); ++segment) {
    for (auto part = segment->parts.rbegin(); part != segment->parts.rend(); ++part) {
      if (const auto offset = part->file->find(id)) return checked(part->file->bytes(), *offset);
    }
  }
  return tl::unexpected("object " + id.hex() + " is missing");
}

Result<std::string, std::string> HistoryPacks::read(const git::ObjectId& id, git::Kind kind) {
  auto object = read(id);
  if (!object.has_value()) return tl::unexpected(object.error());
  if (object->kind == kind) return std::move(object->content);
  return tl::unexpected("object " + id.hex() + " is of another kind");
}

bool HistoryPacks::segment_has(const git::ObjectId& id) const {
  if (tail_.find(id).has_value()) return true;
  if (segments_.empty()) return false;
  const std::vector<Part>& parts = segments_.back().parts;
  return std::any_of(parts.begin(), parts.end(),
                     [&](const Part& part) { return part.file->find(id).has_value(); });
}

void HistoryPacks::rollback(const git::GrowingPack::Mark& mark) {
  tail_.rollback(mark);
  ++offsets_epoch_;
}

// Segments.

/// A quarter of the limit, so that dropping one leaves three; but four times the
/// snapshot that it begins with, at most half the limit, or too much of what is
/// written would be snapshots. And the next one's snapshot must find room beside it.
std::uint64_t HistoryPacks::segment_limit() const {
  const std::uint64_t limit = options_.limit_bytes;
  const std::uint64_t snapshot = segments_.back().snapshot_bytes;
  const std::uint64_t beside_next = limit - std::min(limit, snapshot);
  return std::max({limit / 4, std::min(4 * snapshot, limit / 2),
                   std::min(2 * snapshot, beside_next), snapshot + snapshot / 4});
}

bool HistoryPacks::wants_segment() const {
  if (segments_.empty()) return true;
  const std::uint64_t file_pages = tail_has_file_ ? segments_.back().parts.back().pages : 0;
  return segments_.back().bytes() - file_pages + tail_pages() >= segment_limit();
}

void HistoryPacks::begin_segment() {
  segments_.push_back({.number = segments_.empty() ? 1 : segments_.back().number + 1});
  tail_.restart(nullptr);
  tail_has_file_ = false;
  ++offsets_epoch_;
}

Result<void, std::string> HistoryPacks::spill() {
  if (segments_.back().first.has_value() || tail_.pack_bytes() < part_bytes_) return {};
  if (auto published = publish(); !published.has_value()) return published;
  retire();
  return {};
}

void HistoryPacks::name_first(const git::ObjectId& commit) {
  Segment& segment = segments_.back();
  segment.first = commit;
  segment.snapshot_bytes = segment.bytes() + tail_pages();
  if (segment.snapshot_bytes + segment.snapshot_bytes * 5 / 4 > options_.limit_bytes) {
    note_("the tree alone takes " + std::to_string(segment.snapshot_bytes >> 10) +
          " KiB of history, which cannot stay within its limit of " +
          std::to_string(options_.limit_bytes >> 10) + " KiB");
  }
}

void HistoryPacks::abandon_segment() {
  for (const Part& part : segments_.back().parts) remove_files(part.stem);
  segments_.pop_back();
  continue_tail();
}

void HistoryPacks::continue_tail() {
  ++offsets_epoch_;
  tail_has_file_ =
      !segments_.empty() && segments_.back().parts.back().file->body().size() < part_bytes_;
  tail_.restart(tail_has_file_ ? segments_.back().parts.back().file : nullptr);
}

// Files.

std::uint64_t HistoryPacks::tail_pages() const {
  return in_pages(tail_.pack_bytes()) + in_pages(tail_.index_bytes()) + kKeepPages;
}

std::uint64_t HistoryPacks::bytes() const {
  std::uint64_t sum = kSmallFilesPages + foreign_pages_;
  for (const Segment& segment : segments_) sum += segment.bytes();
  for (const Part& part : replaced_) sum += part.pages;
  return sum;
}

Result<void, std::string> HistoryPacks::publish() {
  if (!tail_.has_pending()) return {};
  if (auto made = make_room(tail_pages()); !made.has_value()) return made;
  auto part = write_tail();
  if (!part.has_value()) return tl::unexpected(part.error());
  std::vector<Part>& parts = segments_.back().parts;
  if (tail_has_file_) {
    replaced_.push_back(std::move(parts.back()));
    parts.pop_back();
  }
  tail_.restart(part->file);
  tail_has_file_ = true;
  parts.push_back(std::move(part.value()));
  return {};
}

// Killed before the index is renamed, the next `open` finds a pack without an index,
// or only files whose name says that they are unfinished, and removes them. Killed
// after it, it finds a part that the branch does not point into.
Result<HistoryPacks::Part, std::string> HistoryPacks::write_tail() {
  const auto failed = [&](const std::string& error) {
    for (const auto& [name, ending] : kUnfinished) (void)remove_file(folder_ / name);
    return tl::unexpected(error);
  };
  const auto sum = tail_.write(folder_ / kUnfinished[0].first, folder_ / kUnfinished[2].first);
  if (!sum.has_value()) return failed(sum.error());
  const auto kept = write_pieces(folder_ / kUnfinished[1].first, {keep_text()});
  if (!kept.has_value()) return failed(kept.error());
  Part part{.stem = folder_ / ("pack-" + sum->hex()), .pages = tail_pages()};
  for (const auto& [name, ending] : kUnfinished) {
    auto renamed = rename_file(folder_ / name, with_ending(part.stem, ending));
    if (renamed.has_value()) continue;
    remove_files(part.stem);
    return failed(renamed.error());
  }
  auto file = git::PackFile::open(part.stem);
  if (!file.has_value()) {
    remove_files(part.stem);
    return tl::unexpected(file.error());
  }
  part.file = std::make_shared<const git::PackFile>(std::move(file.value()));
  return part;
}

/// What a part's .keep says of it and its segment.
std::string HistoryPacks::keep_text() const {
  const Segment& segment = segments_.back();
  const std::size_t number = segment.parts.size() + (tail_has_file_ ? 0 : 1);
  std::string text =
      "segment " + std::to_string(segment.number) + " part " + std::to_string(number) + "\n";
  if (segment.first.has_value()) {
    text += "first " + segment.first->hex() + "\nsnapshot " +
            std::to_string(segment.snapshot_bytes) + "\n";
  }
  return text;
}

void HistoryPacks::retire() {
  for (const Part& part : replaced_) remove_files(part.stem);
  replaced_.clear();
  if (segments_.empty()) return;
  if (segments_.back().first.has_value()) ref_segment_ = segments_.back().number;
  if (tail_.has_pending() || tail_.pack_bytes() < part_bytes_) return;
  tail_.restart(nullptr);
  tail_has_file_ = false;
  ++offsets_epoch_;
}

/// The index goes first: without it the others are nothing, to git and to `open`.
void HistoryPacks::remove_files(const fs::path& stem) {
  for (const char* ending : {".idx", ".pack", ".keep"}) {
    if (auto removed = remove_file(with_ending(stem, ending)); !removed.has_value()) {
      note_(removed.error());
    }
  }
}

Result<void, std::string> HistoryPacks::make_room(std::uint64_t bytes_needed) {
  while (bytes() + bytes_needed > options_.limit_bytes) {
    const auto dropped = drop_oldest();
    if (!dropped.has_value()) return tl::unexpected(dropped.error());
    if (!dropped.value()) break;
  }
  return {};
}

// Killed in the middle, `open` finds a boundary that is not the oldest segment's
// first commit, and removes what is older; it is in the archive by then.
Result<bool, std::string> HistoryPacks::drop_oldest() {
  if (segments_.empty() || segments_.front().number >= ref_segment_) return false;
  if (options_.archive.has_value()) archive_oldest();
  auto named = replace_locked(options_.repository / "shallow", segments_[1].first->hex() + "\n");
  if (!named.has_value()) return tl::unexpected(named.error());
  remove_oldest();
  return true;
}

void HistoryPacks::remove_oldest() {
  for (const Part& part : segments_.front().parts) remove_files(part.stem);
  segments_.erase(segments_.begin());
}

/// The parent of a segment's first commit.
std::optional<git::ObjectId> HistoryPacks::parent_of_first(const Segment& segment) {
  const auto commit = read(*segment.first, git::Kind::kCommit);
  if (!commit.has_value()) return std::nullopt;
  constexpr std::string_view kParent = "\nparent ";
  const std::size_t at = commit->find(kParent);
  if (at == std::string::npos || at > commit->find("\n\n")) return std::nullopt;
  return git::ObjectId::of_hex(std::string_view(*commit).substr(at + kParent.size(), 40));
}

/// Better a gap in the archive than a full tmpfs.
void HistoryPacks::archive_oldest() {
  const Segment& oldest = segments_.front();
  ArchivedSegment archived{.first = *oldest.first, .parent = parent_of_first(oldest)};
  for (const Part& part : oldest.parts) archived.packs.push_back(part.stem);
  const auto last = parent_of_first(segments_[1]);
  if (!last.has_value()) return note_("segment has no last commit: it is not archived");
  archived.last = *last;
  if (auto done = archive_segment(*options_.archive, archived); !done.has_value()) {
    note_("old history is lost, as it cannot be archived: " + done.error());
  }
}

}  // namespace journal
