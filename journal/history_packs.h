// SPDX-License-Identifier: MIT
/// The packs of a history (HISTORY.md, "Segments and parts"): which there are, adding
/// objects to the newest, bounding all, archiving the oldest.
///
/// One file system operation is the smallest step that can be left undone; the
/// comments at `open` and `publish` say why any prefix of them is well.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "journal/git_object.h"
#include "journal/git_pack.h"
#include "journal/git_pack_writer.h"
#include "journal/journal.h"

namespace journal {

class HistoryPacks {
 public:
  struct Options {
    std::filesystem::path repository;
    std::uint64_t limit_bytes = 0;
    std::optional<std::filesystem::path> archive{};
  };
  using Note = std::function<void(const std::string&)>;

  /// Opens the packs of the history whose last commit is `tip` (none: it has no
  /// commit yet), and removes what an interrupted run left. Errors: kDamaged, if
  /// the newest segment is not all there or not whole; kSystem. Damage in older ones costs
  /// those: they are removed, which is noted.
  static Result<std::unique_ptr<HistoryPacks>, OpenError> open(
      Options options, const std::optional<git::ObjectId>& tip, Note note);

  // Reading.

  /// The object with this id, checked against it. Error: it is not there, or damaged.
  Result<git::Object, std::string> read(const git::ObjectId& id);
  /// The same, which must be of this kind.
  Result<std::string, std::string> read(const git::ObjectId& id, git::Kind kind);

  // Adding. Objects go to the newest part, the tail; an object that the segment has
  // is not to be added again.

  bool segment_has(const git::ObjectId& id) const;
  std::uint64_t add(git::Kind kind, const git::ObjectId& id, std::string_view content) {
    return tail_.add(kind, id, content);
  }
  std::uint64_t add_delta(const git::ObjectId& id, std::uint64_t base_offset,
                          std::string_view delta) {
    return tail_.add_delta(id, base_offset, delta);
  }
  /// Offsets that `add` gave are of use as long as this number stays the same.
  std::uint64_t offsets_epoch() const { return offsets_epoch_; }

  git::GrowingPack::Mark mark() const { return tail_.mark(); }
  /// Takes back what was added since, if no part was closed meanwhile.
  void rollback(const git::GrowingPack::Mark& mark);

  // Segments.

  /// True when the next commit should begin a segment, as the first one of all does.
  bool wants_segment() const;
  /// Begins one; everything must be published and retired. Until `name_first`, parts
  /// that are full are closed while objects are being added, by `spill`.
  void begin_segment();
  Result<void, std::string> spill();
  /// The segment has all objects of its first commit, which is this.
  void name_first(const git::ObjectId& commit);
  /// Takes back `begin_segment`, and all that was added since.
  void abandon_segment();

  // Files.

  bool has_pending() const { return tail_.has_pending(); }
  std::uint64_t pending_bytes() const { return tail_.pending_bytes(); }
  /// Makes what was added readable, and leaves the file that this replaces. Then
  /// the caller moves the ref, and then calls `retire`, which removes that file and
  /// begins a new part if this one is full.
  Result<void, std::string> publish();
  void retire();
  /// Drops or archives the oldest segment; false if there is none to spare.
  Result<bool, std::string> drop_oldest();

  /// What all files take of the tmpfs.
  std::uint64_t bytes() const;
  std::size_t segments() const { return segments_.size(); }

 private:
  /// A closed part, or the file of the tail.
  struct Part {
    std::filesystem::path stem;
    std::shared_ptr<const git::PackFile> file{};
    std::uint64_t pages = 0;
  };
  struct Segment {
    std::uint64_t number = 0;
    std::optional<git::ObjectId> first{};  ///< its first commit
    std::uint64_t snapshot_bytes = 0;      ///< what that commit took
    std::vector<Part> parts{};             ///< in order, the tail's file last
    std::uint64_t bytes() const;
  };
  /// A pack as it was found.
  struct Found;

  HistoryPacks(Options options, Note note);

  std::vector<Found> list();
  Result<void, OpenError> settle(std::vector<Found>& found, const git::ObjectId& tip);
  Result<void, OpenError> settle_older(std::vector<Found>& found);
  bool take_segment(std::vector<Found>& found, std::uint64_t number, std::uint64_t last_part);
  bool is_shallow_at(const Segment& segment) const;
  Result<void, std::string> settle_shallow();
  void remove_files(const std::filesystem::path& stem);

  std::optional<git::ObjectId> parent_of_first(const Segment& segment);
  std::string keep_text() const;
  Result<Part, std::string> write_tail();
  Result<void, std::string> make_room(std::uint64_t bytes);
  void archive_oldest();
  void remove_oldest();
  void continue_tail();
  std::uint64_t tail_pages() const;
  std::uint64_t segment_limit() const;

  Options options_;
  Note note_;
  std::filesystem::path folder_;
  std::uint64_t part_bytes_ = 0;
  std::uint64_t foreign_pages_ = 0;
  std::vector<Segment> segments_;
  git::GrowingPack tail_;
  /// The tail has a file, the last of its segment's parts.
  bool tail_has_file_ = false;
  /// Files that `publish` replaced and `retire` has not removed yet.
  std::vector<Part> replaced_;
  /// The segment that the ref points into: it and newer ones must stay.
  std::uint64_t ref_segment_ = 0;
  std::uint64_t offsets_epoch_ = 1;
  git::ObjectReader reader_;
};

}  // namespace journal
