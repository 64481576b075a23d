// SPDX-License-Identifier: MIT
/// History as the serving thread keeps it: each request that changed the tree becomes
/// an entry, which is stored in the very commit that makes the change happen, given to
/// the writer after it, and erased once it is in the repository. So a crash loses no
/// entry and brings none twice (ARCHITECTURE.md, "History").
///
/// When the writer falls too far behind, entries are no longer stored one by one but
/// summed up in memory; the setting "history" in the journal then says that what is
/// stored is not all, and a start after a crash tells the whole tree.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "journal/history.h"
#include "journal/journal.h"
#include "store/effects.h"
#include "store/node.h"
#include "store/store.h"
#include "xenstored/history_sum.h"
#include "xenstored/history_writer.h"
#include "xenstored/options.h"
#include "xenstored/poison.h"

namespace xenstored {

/// What the journal had of history when it was loaded.
struct StoredHistory {
  struct Commit {
    journal::HistoryMark mark;
    std::size_t end;  ///< in `entries`
  };
  std::vector<Commit> commits;
  std::string entries;  ///< the stream
  std::string setting;  ///< empty: there was none

  void add(const journal::HistoryRecord& record) {
    entries += record.entries;
    commits.push_back({record.mark, entries.size()});
  }
};

class History {
 public:
  /// Name of the setting that says what the stored entries are worth.
  static constexpr std::string_view kSettingName = "history";

  /// Borrows all three. `damaged` is the folder of the state that this start has set aside,
  /// if it has.
  History(const Options& options, journal::Journal& journal, PoisonGuard& poison,
          std::filesystem::path damaged);

  /// The last commit's tree, if it was written in this boot: what to begin with if the
  /// journal has nothing. Entries that the damaged state still has are made commits
  /// before. Shows nodes to `sink`, parents first. False: there is none, or it cannot be
  /// read, which is told.
  bool restore(const journal::HistoryNodeSink& sink);

  /// Goes on from what the journal has, with the tree being `root`. If that and the
  /// repository do not fit together the whole tree is told.
  void begin(const StoredHistory& stored, const store::Node& root);

  /// A request of `author`, or something of the daemon's own, has done this.
  void note(const journal::HistoryAuthor& author, std::string_view what,
            const std::vector<store::Change>& changes);

  /// Into the commit that comes.
  void save();
  /// It has happened, or there was none.
  void tend(const store::Store& store);
  /// Readable when tend() is to be called, after read_news(); -1 if that is never.
  int news_fd() const { return writer_ ? writer_->news_fd() : -1; }
  void read_news() const { writer_->read_news(); }
  /// Is it to be called in a while even if nothing happens?
  bool is_waiting() const;

 private:
  /// The entries of one commit.
  struct Stored {
    std::uint64_t last;
    std::size_t bytes;
    journal::HistoryMark mark;
  };
  enum class State {
    kOff,      ///< nothing is written
    kOn,       ///< what is not in the repository is stored
    kBehind,   ///< it is summed up in `sum_`
    kLeaving,  ///< what was summed up is told or with the writer; what came since is stored
  };
  /// What was summed up, and the tree that it led to.
  struct Telling {
    HistorySum sum;
    store::NodeRef root;
  };

  std::unique_ptr<journal::HistoryRepository> open_repository() const;
  bool open_now();
  std::string salvage();
  void take_stored(const StoredHistory& stored);
  void start_writer();
  void tell_whole(const store::Node& root, std::string_view reason);
  void store_turn();
  void sum_up(std::uint64_t number, const journal::HistoryAuthor& author, std::string_view what,
              const std::vector<store::Change>& changes);
  void sum_up_turn();
  void tell_sum(const store::Store& store);
  void look_up();
  void drop_written();
  void put_setting(std::string_view value);
  void give();
  void fall_behind();
  void end();

  const Options& options_;
  journal::Journal& journal_;
  PoisonGuard& poison_;
  const bool is_off_;
  const std::filesystem::path damaged_;
  std::unique_ptr<journal::HistoryRepository> repository_;  ///< until a writer has it
  std::unique_ptr<HistoryWriter> writer_;
  State state_ = State::kOff;
  std::uint64_t last_number_ = 0;     ///< of all entries
  std::uint64_t awaited_number_ = 0;  ///< kBehind, kLeaving: goes on when this is flushed
  bool is_restored_ = false;
  bool is_setting_new_ = false;  ///< waits for a commit
  bool is_whole_given_ = false;  ///< since the state was last kOn
  std::uint64_t turn_first_ = 0;
  std::string turn_;  ///< entries that are not committed yet
  std::deque<HistoryWriter::Work> to_give_;
  HistorySum sum_;
  std::optional<Telling> telling_;  ///< goes to the writer before `to_give_`
  std::uint64_t time_us_ = 0;       ///< of this turn's entries; 0: there are none yet
  std::deque<Stored> stored_;
  std::size_t stored_bytes_ = 0;
};

}  // namespace xenstored
