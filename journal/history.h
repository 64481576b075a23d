// SPDX-License-Identifier: MIT
/// What history is made of: entries, one for each request that changed the tree,
/// and their bytes (HISTORY.md, "Entries"). Plain data, shared by the server, which
/// makes entries, and the writer, which makes commits of them.
///
/// Encoding trusts its caller. Decoding trusts nothing: paths are legal ones, every
/// length is checked, and values and permission lists are within records.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "journal/records.h"

namespace journal {

/// Limits of an entry besides those of records.h.
inline constexpr std::size_t kCommandMax = 64;  ///< a socket client's command name
inline constexpr std::size_t kWhatMax = 1024;   ///< what was asked

/// Who asked.
struct HistoryAuthor {
  enum Kind : std::uint8_t {
    kDaemon = 0,  ///< nobody: a domain died, the first commit, a fallback
    kDomain = 1,  ///< `domid`
    kSocket = 2,  ///< `pid`, `uid`, `command`
  };
  Kind kind = kDaemon;
  Domid domid{};
  std::uint32_t pid = 0;
  std::uint32_t uid = 0;
  std::string command{};

  friend bool operator==(const HistoryAuthor&, const HistoryAuthor&) = default;
};

/// The net result of one request at one node.
struct HistoryChange {
  std::string path{};       ///< absolute, "/" is the root
  bool is_removal = false;  ///< the node and all below it
  std::string value{};      ///< unless removed
  store::Perms perms{};     ///< unless removed; never empty

  friend bool operator==(const HistoryChange&, const HistoryChange&) = default;
};

/// One request that changed the tree.
struct HistoryEntry {
  std::uint64_t number = 0;   ///< 1, 2, 3 and so on, without gaps
  std::uint64_t time_us = 0;  ///< CLOCK_REALTIME
  HistoryAuthor author{};
  /// The operation, "WRITE", whose paths are added for display; or, if the author
  /// is the daemon, a sentence that stands for itself, "domain 3 is gone".
  std::string what{};
  /// In order; a parent that came into being stands before its child.
  std::vector<HistoryChange> changes{};

  friend bool operator==(const HistoryEntry&, const HistoryEntry&) = default;
};

/// Append an entry's bytes: its head, then its changes one after the other, so that
/// a server can write them down as they happen. A command or `what` beyond its
/// limit is cut. Nothing marks the end: an entry's length is kept by its owner.
void append_entry_head(std::uint64_t number, std::uint64_t time_us, const HistoryAuthor& author,
                       std::string_view what, std::string& out);
void append_set(std::string_view path, std::string_view value, store::PermsView perms,
                std::string& out);
void append_removal(std::string_view path, std::string& out);
/// All of the above.
void append_entry(const HistoryEntry& entry, std::string& out);

/// Reads an entry; `bytes` is exactly one.
Result<HistoryEntry, DecodeError> decode_entry(std::string_view bytes);

/// Takes the first entry's bytes off a stream: each stands behind its length (u32, lowest
/// byte first). None: the stream is empty, or not whole entries.
std::optional<std::string_view> take_entry(std::string_view& entries);
/// Shows each entry of a stream. False: the stream is not whole entries. Stops where `show` says
/// false.
bool each_entry(std::string_view entries, const std::function<bool(HistoryEntry&& entry)>& show);

/// What several requests amount to: of each node the last state. Memory is that of
/// the nodes that are touched, however often they are.
class NetEffect {
 public:
  struct State {
    /// What was there before, node and subtree, goes.
    bool is_cleared = false;
    /// Then the node is set to this; if not, only the above.
    bool is_set = false;
    std::string value{};
    store::Perms perms{};
  };
  /// Keys are paths with a '/' at the end, so "/" is the root, a node's key is the
  /// beginning of those below it, and children sort as git sorts directories.
  using States = std::map<std::string, State, std::less<>>;

  /// Takes a change that happened after all before it.
  void add(const HistoryChange& change);
  void clear();

  const States& states() const { return states_; }
  bool empty() const { return states_.empty(); }
  /// Memory that this takes, about.
  std::size_t bytes() const { return bytes_; }

 private:
  void forget_below(const std::string& key);

  States states_;
  std::size_t bytes_ = 0;
};

/// One commit in the making: any number of entries, of which no more is kept than
/// the commit needs: their net effect, who asked for how much, and the beginning
/// of the list of requests.
class HistoryCommit {
 public:
  /// Requests that are listed in the message, one a line, at most; and no more once
  /// the list has so many bytes.
  static constexpr std::size_t kListedMax = 100;
  static constexpr std::size_t kListedBytesMax = 16 << 10;

  /// Takes the entry that follows the one before.
  void add(const HistoryEntry& entry);
  /// The same for its author and what was asked alone. Its changes are those that the list
  /// names.
  void add_request(const HistoryEntry& entry);
  /// The same once lists_more() is false.
  void count_request(std::uint64_t number, std::uint64_t time_us, const HistoryAuthor& author,
                     std::string_view what);
  bool lists_more() const { return listed_count_ < kListedMax && listed_.size() < kListedBytesMax; }
  /// A change that happened after all before it.
  void add_effect(const HistoryChange& change) { effect_.add(change); }
  /// Values between the first and the last of a node are not in this history
  /// because there was no time for them: the message shall say so.
  void note_dropped_values() { has_dropped_values_ = true; }

  bool empty() const { return count_ == 0; }
  std::uint64_t first_number() const { return first_number_; }
  std::uint64_t last_number() const { return last_number_; }
  const NetEffect& effect() const { return effect_; }
  /// Memory that this takes, about.
  std::size_t bytes() const { return effect_.bytes() + listed_.size(); }

  /// Author and time of the commit: the last request's.
  const HistoryAuthor& author() const { return author_; }
  std::uint64_t time_us() const { return time_us_; }
  /// The commit's message (HISTORY.md, "Messages").
  std::string message() const;

 private:
  NetEffect effect_;
  HistoryAuthor author_;
  std::uint64_t time_us_ = 0;
  std::uint64_t first_number_ = 0;
  std::uint64_t last_number_ = 0;
  std::size_t count_ = 0;
  std::string subject_;  ///< of the last entry, for a commit of only one
  std::string listed_;
  std::size_t listed_count_ = 0;
  std::vector<std::pair<std::string, std::size_t>> operations_;  ///< how many of each
  bool has_dropped_values_ = false;
};

}  // namespace journal
