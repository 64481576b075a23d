// SPDX-License-Identifier: MIT
/// The history of the tree as a bare git repository (HISTORY.md): adds commits, keeps
/// within a limit, reads the tree at the tip. One thread uses it at a time.
///
/// Added is not yet kept: what `flush` has not confirmed is lost if the process dies,
/// and `last_entry` of the next `open` says from where to add again. So an entry is
/// in the history exactly once if its bytes are kept elsewhere until it was flushed.
///
/// Trees are gone through by recursion, as deep as a path has names: a thread needs
/// the usual stack of some megabytes.
///
/// The files are read as if an enemy had written them. Nobody else may write to them
/// but by git itself (`git gc` is allowed for).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "journal/git_object.h"
#include "journal/history.h"
#include "journal/journal.h"

namespace journal {

class HistoryPacks;
class HistoryTree;

/// A node as it is shown or written in a whole tree; views, valid during the call
/// that shows it.
struct HistoryNode {
  std::string_view path;  ///< absolute, "/" is the root
  std::string_view value;
  store::PermsView perms;
};

/// Is shown nodes; an error of its own stops the showing.
using HistoryNodeSink = std::function<Result<void, std::string>(const HistoryNode& node)>;
/// Shows a whole tree to a sink, depth first: the root, then each node before those
/// below it, and these before any other. Gives back what the sink does, or an error.
using HistoryNodeSource = std::function<Result<void, std::string>(const HistoryNodeSink& sink)>;

class HistoryRepository {
 public:
  static constexpr std::uint64_t kDefaultLimitBytes = std::uint64_t{64} << 20;
  static constexpr std::uint64_t kLeastLimitBytes = std::uint64_t{1} << 20;

  struct Options {
    /// The repository; made when it is not there.
    std::filesystem::path folder;
    /// What all its files may take of the tmpfs. More than this, by a tenth at most,
    /// it takes only if the tree alone needs 4/9 of it, which is noted.
    std::uint64_t limit_bytes = kDefaultLimitBytes;
    /// Where old history goes instead of nowhere.
    std::optional<std::filesystem::path> archive{};
    /// Told what an administrator should know, a line each.
    std::function<void(const std::string& line)> note{};
    /// Called about every millisecond of longer work (a segment's beginning, a whole
    /// tree), so that a thread with a share to keep can sleep in it.
    std::function<void()> breathe{};
  };

  /// Opens, and clears away what a killed process left half done. Errors: kDamaged,
  /// when the tip's tree or what is needed to go on cannot be trusted (rename the
  /// folder, open again, begin with add_whole); kSystem. Damage in old history costs
  /// that history and is noted.
  static Result<std::unique_ptr<HistoryRepository>, OpenError> open(Options options);
  ~HistoryRepository();
  HistoryRepository(const HistoryRepository&) = delete;
  HistoryRepository& operator=(const HistoryRepository&) = delete;

  /// True when there is no commit yet: the first must be add_whole, or set the root.
  bool is_fresh() const;
  /// The number of the last entry that was added; 0 in a fresh repository.
  std::uint64_t last_entry() const { return last_entry_; }
  /// The same of the last that is flushed: entries up to here need not be kept.
  std::uint64_t flushed_entry() const { return flushed_entry_; }

  /// Adds one commit of all these entries. Those not above last_entry() are skipped;
  /// with none left nothing is added. `has_dropped_values`: see HistoryCommit.
  /// Errors leave all as it was: numbers are missing, or a change is below a node
  /// that is not in the tree (either way there is a gap, which add_whole mends);
  /// ENOSPC and the like.
  Result<void, std::string> add(std::span<const HistoryEntry> entries,
                                bool has_dropped_values = false);
  /// The same for a commit that was put together before, whose first entry is the
  /// one after last_entry().
  Result<void, std::string> add(const HistoryCommit& commit);
  /// Adds a commit of the daemon's whose tree is this whole one, whatever was before:
  /// the first, after a gap, after a fallback. `number` is that of the last entry
  /// that the tree has, `reason` a sentence for people. Begins a segment.
  Result<void, std::string> add_whole(std::uint64_t number, std::uint64_t time_us,
                                      std::string_view reason, const HistoryNodeSource& show_all);
  /// Makes what was added part of the repository that git sees: writes the newest
  /// part anew, at most some 3 MiB. An error leaves what was there, and may be
  /// tried again.
  Result<void, std::string> flush();

  /// Shows the tree of the last commit that was added. Error: damage, or the sink's.
  Result<void, std::string> read_tip(const HistoryNodeSink& sink);

  /// Gives memory of the tmpfs back: drops (or archives) the oldest quarter or so of
  /// history. False if only the newest is left.
  Result<bool, std::string> drop_oldest();

  /// Memory that was added and not flushed yet.
  std::uint64_t unflushed_bytes() const;
  /// What the repository takes of the tmpfs.
  std::uint64_t bytes() const;
  /// Commits that this object has added.
  std::uint64_t commits() const { return commits_; }

 private:
  explicit HistoryRepository(Options options);
  Result<void, OpenError> read_tip_commit();
  Result<void, std::string> add_commit(const git::ObjectId& tree, const HistoryAuthor& author,
                                       std::uint64_t time_us, std::string_view message);
  Result<void, std::string> add_here(const HistoryCommit& commit);
  Result<void, std::string> add_in_new_segment(
      const std::function<Result<void, std::string>()>& add_commit_and_tree);

  Options options_;
  std::unique_ptr<HistoryPacks> packs_;
  std::unique_ptr<HistoryTree> tree_;
  std::optional<git::ObjectId> tip_;       ///< the last commit that was added
  std::optional<git::ObjectId> tip_tree_;  ///< its tree
  bool is_ref_at_tip_ = true;
  std::uint64_t last_entry_ = 0;
  std::uint64_t flushed_entry_ = 0;
  std::uint64_t commits_ = 0;
};

}  // namespace journal
