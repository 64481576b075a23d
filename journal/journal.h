// SPDX-License-Identifier: MIT
/// The one commit point: the daemon's state in LMDB on a tmpfs.
///
/// Puts and erases are collected in memory; `commit` makes them one LMDB
/// transaction. When it returns, they have happened; killed before, none has.
/// Owns the area's lock, the database and its map. The files are read as if an
/// enemy had written them; the caller is trusted to stay within records.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "journal/records.h"

namespace journal {

struct Options {
  std::filesystem::path area;
  /// Size that the state's file may not outgrow; 0: as large as the tmpfs lets it.
  std::uint64_t max_bytes = 0;
  /// Opening or loading that takes longer than this is cut short by SIGALRM.
  unsigned load_seconds_max = 30;
  std::filesystem::path boot_id_file = "/proc/sys/kernel/random/boot_id";
};

struct OpenError {
  enum class Kind {
    kLocked,       ///< another process serves this area
    kNewerFormat,  ///< written by a newer version; nothing was touched
    kOlderFormat,  ///< written in this boot by an older version; nothing was touched
    kDamaged,      ///< the state is not what was committed; see Journal::set_aside
    kSystem,       ///< the system refused something
  };
  Kind kind;
  std::string message;
};

struct LoadError {
  std::string message;
};

/// Upper bound of the pages that a change may need, as counts that add up.
struct Space {
  std::size_t touched = 0;  ///< leaves of the tree that change (never more than it has)
  std::size_t fresh = 0;    ///< pages that the tree may gain
  std::size_t freed = 0;    ///< pages of long values that it may lose

  Space& operator+=(const Space& other) {
    touched += other.touched;
    fresh += other.fresh;
    freed += other.freed;
    return *this;
  }
  friend Space operator+(Space a, const Space& b) { return a += b; }
  bool fits(const Space& other) const {
    return touched <= other.touched && fresh <= other.fresh && freed <= other.freed;
  }
};

/// What is to go on when the tmpfs is full. README.md, "When the tmpfs is full".
enum class Purpose {
  kNormal,   ///< makes the store larger: refused first
  kReply,    ///< what a ring's request leaves: its reply, events, stream offsets
  kRemoval,  ///< makes the store smaller, or output that was sent go away
};

/// Output that kReply may add when there is no more room for kNormal.
inline constexpr std::uint64_t kReplyHeadroomBytes = std::uint64_t{1} << 20;

class Journal {
 public:
  /// Opens the area, making it (mode 0700) when it is not there. State of an
  /// earlier boot is set aside and a fresh one begun; `notes` says so, a line each.
  /// One that twice killed its reader is kDamaged.
  static Result<std::unique_ptr<Journal>, OpenError> open(const Options& options,
                                                          std::vector<std::string>& notes);

  /// After kDamaged or a LoadError (and the Journal gone): renames the state
  /// away, so that the next open begins with an empty one. Gives its folder's new
  /// name. Errors: kLocked, kSystem.
  static Result<std::filesystem::path, OpenError> set_aside(const Options& options,
                                                            std::vector<std::string>& notes);

  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  /// Checks the whole state and shows all its records: history by its commits, nodes by
  /// ascending id, then domains, connections, watches (by connection and seq),
  /// outputs (likewise), specials, settings. Needed once before the first commit. After an error
  /// throw away what the sink has seen. Uses the alarm clock meanwhile.
  Result<void, LoadError> load(RecordSink& sink);

  /// Checks and shows everything committed, as `load` does, from the map that is
  /// in use. Takes as long as a start. What is not committed yet does not show.
  Result<void, std::string> verify(RecordSink& sink) const;

  /// Add or replace a record at the next commit. Later changes of the same
  /// record in one commit win.
  void put(const NodeRecord& record);
  void put(const DomainRecord& record);
  void put(const ConnectionRecord& record);
  void put(const WatchRecord& record);
  void put(const OutputRecord& record);
  void put(const SpecialRecord& record);
  void put(const SettingRecord& record);

  /// Remove a record at the next commit. One that is not there is no error.
  void erase_node(NodeId id);
  void erase_domain(Domid domid);
  void erase_connection(ConnId conn);
  void erase_watch(ConnId conn, std::uint64_t seq);
  void erase_output(ConnId conn, std::uint64_t seq);
  void erase_special(std::string_view name);
  void erase_setting(std::string_view name);

  /// Stores entries of history (history.h) with the next commit, which must have something
  /// else, too; at most once for each. None, and nothing has changed: there is no room.
  std::optional<HistoryMark> put_history(std::string_view entries);
  /// Forgets at once what was stored up to there.
  void drop_history(const HistoryMark& mark);
  /// Number of history's last entry by the next commit, whether or not it is stored.
  void note_last_entry(std::uint64_t number);
  /// That of the last commit; 0 if there was none.
  std::uint64_t last_entry() const;

  /// Anything put or erased since the last commit?
  bool dirty() const;

  /// Makes everything since the last commit happen, as one. With nothing to do
  /// costs nothing. After an error the caller must exit: the next start finds
  /// the last good commit. What was reserved does not fail for want of room; what
  /// was not, may.
  Result<void, std::string> commit();

  /// The number of the last commit that has happened. That of the next is one more.
  std::uint64_t confirmed() const;

  /// Promises that the turn so far (all `reserve`s since the last commit) and
  /// `space` more fit, growing the file when needed. False: no room, this part
  /// of the turn counts for nothing and must not be put. For kNormal: answer
  /// ENOSPC. Else commit what the turn has so far and ask again; if that is
  /// nothing, the request must wait until output was sent or nodes were removed.
  bool reserve(const Space& space, Purpose purpose = Purpose::kNormal);
  /// How often that was false.
  std::uint64_t refused() const;

  /// What one put of any record needs. `bytes`: its strings together, and 8 more
  /// for each permission, open transaction and quota.
  static Space space_for_put(std::size_t bytes);
  /// What `count` erases need.
  static Space space_for_removals(std::size_t count);

  /// Size of the state's file, all of it allocated.
  std::uint64_t file_bytes() const;

 private:
  struct Impl;
  explicit Journal(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace journal
