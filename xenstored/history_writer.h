// SPDX-License-Identifier: MIT
/// The second thread: turns what the serving thread gives it into commits of the
/// repository. Serving never waits for it; what it may take of a core is bounded
/// (ARCHITECTURE.md, "History").
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "journal/history_repository.h"
#include "xenstored/history_sum.h"
#include "xenstored/unique_fd.h"

namespace xenstored {

class HistoryWriter {
 public:
  /// Entries one after the other, each behind its length (u32).
  using Entries = std::string;
  /// The whole tree, as the changes of one entry; `what` says why it is told.
  struct Whole {
    journal::HistoryEntry entry;
  };
  using Work = std::variant<Entries, HistorySum, Whole>;

  /// Gives the repository, or nothing, having told why.
  using Opener = std::function<std::unique_ptr<journal::HistoryRepository>()>;

  /// Starts the thread, which begins by opening the repository: a start does not wait for
  /// that. `last_number` is that of the last entry there is; with the repository at
  /// another place than `work` and that number say, needs_whole() becomes true.
  HistoryWriter(Opener open, std::uint64_t last_number);
  /// Ends it, after the commit under way; what it was given and did not come to is
  /// not in the repository.
  ~HistoryWriter();
  HistoryWriter(const HistoryWriter&) = delete;
  HistoryWriter& operator=(const HistoryWriter&) = delete;

  /// Readable when one of the answers below may have become another, until it is read.
  int news_fd() const { return news_.get(); }
  void read_news() const;
  /// This is now the number of the last entry there is, given to it or not yet: while they
  /// come fast, it rests.
  void note_last(std::uint64_t number) { noted_.store(number, std::memory_order_relaxed); }
  /// So much has been put by for it that it must not rest now.
  void press(bool is_pressing) { is_pressed_.store(is_pressing, std::memory_order_relaxed); }
  /// Few changes come, as far as it knows.
  bool is_calm() const { return is_calm_.load(std::memory_order_relaxed); }
  /// Is it ready for work, and has none? What comes while it is not is given in one.
  bool is_hungry() const { return is_hungry_.load(std::memory_order_acquire); }
  /// Gives it `works`, in the order of entries' numbers, and so empties them; or leaves
  /// them, if it cannot be had at this instant.
  void try_give(std::deque<Work>& works);
  /// Entries are missing that nobody has: only a Whole will be taken.
  bool needs_whole() const { return needs_whole_.load(std::memory_order_acquire); }
  /// Entries up to this one are in the repository.
  std::uint64_t flushed() const { return flushed_.load(std::memory_order_acquire); }
  /// Something was written since it began.
  bool has_flushed() const { return has_flushed_.load(std::memory_order_acquire); }
  /// It has met an error that does not pass, told it, and does nothing any more.
  bool has_failed() const { return has_failed_.load(std::memory_order_acquire); }

 private:
  void run();
  bool open();
  std::vector<Work> take();
  void write(std::vector<Work>& works);
  bool add_entries(const Entries& entries, std::size_t in_a_commit);
  bool add(const Whole& whole);
  void flush();
  bool is_done(const journal::Result<void, std::string>& done);
  void tell_news() const;
  void rest(std::uint64_t used_us);
  bool pause(std::uint64_t us);
  bool is_stopping() const { return is_stopping_.load(std::memory_order_acquire); }

  std::unique_ptr<journal::HistoryRepository> repository_;
  const Opener open_;
  const std::uint64_t last_number_at_start_;
  const UniqueFd news_;
  std::atomic<std::uint64_t> noted_;
  std::atomic<std::uint64_t> flushed_{0};
  std::atomic<bool> needs_whole_{false};
  std::atomic<bool> has_flushed_{false};
  std::atomic<bool> has_failed_{false};
  std::atomic<bool> is_hungry_{true};
  std::atomic<bool> is_calm_{true};
  std::atomic<bool> is_pressed_{false};
  std::atomic<bool> is_stopping_{false};

  std::mutex mutex_;
  std::condition_variable has_work_;
  std::vector<Work> works_;
  std::thread thread_;  ///< last: it uses all of the above
};

}  // namespace xenstored
