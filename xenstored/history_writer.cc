// SPDX-License-Identifier: MIT
#include "xenstored/history_writer.h"

#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <iterator>
#include <utility>

#include "xenstored/log.h"

namespace xenstored {
namespace {

/// Between two rounds at least: a round writes the repository's newest part anew.
constexpr std::uint64_t kRoundUs = 100'000;
/// More requests than these in a round share commits.
constexpr std::size_t kCommitsARound = 20'000;
/// With more changes than these in a second, serving is busy. It would be slower by another
/// thread beside it, so this one rests until it is calm; after the time of a short burst, and
/// many times what the last round took, it goes on nevertheless.
constexpr std::uint64_t kBusyChanges = 10'000;
constexpr std::uint64_t kRestPerUsed = 200;
constexpr std::uint64_t kRestUsMin = 2'000'000;
constexpr std::uint64_t kRestUsMax = 10'000'000;
/// After an error that may pass, such as a full tmpfs.
constexpr std::uint64_t kTryAgainUs = 1'000'000;
/// The lowest priority: whoever serves or is served goes first on a busy machine.
constexpr int kNice = 19;

std::uint64_t us_of(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000 +
         static_cast<std::uint64_t>(time.tv_nsec) / 1000;
}

/// The signals are the serving thread's, but for those of faults: blocked, they would kill
/// without being noted (poison.h).
class NoSignals {
 public:
  NoSignals() {
    sigset_t all;
    sigfillset(&all);
    for (const int fault : {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE}) sigdelset(&all, fault);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~NoSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  NoSignals(const NoSignals&) = delete;
  NoSignals& operator=(const NoSignals&) = delete;

 private:
  sigset_t before_{};
};

std::size_t count_entries(std::string_view entries) {
  std::size_t count = 0;
  while (journal::take_entry(entries)) ++count;
  return count;
}

}  // namespace

HistoryWriter::HistoryWriter(Opener open, std::uint64_t last_number)
    : open_(std::move(open)),
      last_number_at_start_(last_number),
      news_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      noted_(last_number) {
  if (!news_.valid()) {
    log::error("no history is written: " + std::string(std::strerror(errno)));
    has_failed_.store(true, std::memory_order_release);
    return;
  }
  const NoSignals inherited;
  thread_ = std::thread([this] { run(); });
}

HistoryWriter::~HistoryWriter() {
  is_stopping_.store(true, std::memory_order_release);
  { const std::lock_guard lock(mutex_); }
  has_work_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void HistoryWriter::read_news() const {
  eventfd_t count = 0;
  (void)::eventfd_read(news_.get(), &count);
}

void HistoryWriter::tell_news() const { (void)::eventfd_write(news_.get(), 1); }

void HistoryWriter::try_give(std::deque<Work>& works) {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return;
  std::ranges::move(works, std::back_inserter(works_));
  works.clear();
  is_hungry_.store(false, std::memory_order_release);
  has_work_.notify_one();
}

void HistoryWriter::run() {
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNice);
  const bool is_open = open();
  while (is_open && !is_stopping() && !has_failed()) {
    std::vector<Work> works = take();
    const std::uint64_t before_us = us_of(CLOCK_THREAD_CPUTIME_ID);
    write(works);
    tell_news();
    rest(us_of(CLOCK_THREAD_CPUTIME_ID) - before_us);
  }
  tell_news();
}

bool HistoryWriter::open() {
  repository_ = open_();
  if (!repository_) {
    has_failed_.store(true, std::memory_order_release);
    return false;
  }
  flushed_.store(repository_->flushed_entry(), std::memory_order_release);
  const bool is_ahead = repository_->last_entry() > last_number_at_start_;
  needs_whole_.store(repository_->is_fresh() || is_ahead, std::memory_order_release);
  return true;
}

/// Waits until there is some.
std::vector<HistoryWriter::Work> HistoryWriter::take() {
  std::unique_lock lock(mutex_);
  is_hungry_.store(works_.empty(), std::memory_order_release);
  lock.unlock();
  tell_news();
  lock.lock();
  has_work_.wait(lock, [this] { return !works_.empty() || is_stopping(); });
  return std::exchange(works_, {});
}

void HistoryWriter::write(std::vector<Work>& works) {
  std::size_t entries = 0;
  for (const Work& work : works) {
    if (const auto* some = std::get_if<Entries>(&work)) entries += count_entries(*some);
  }
  const std::size_t in_a_commit =
      is_calm() ? (entries + kCommitsARound - 1) / kCommitsARound : entries;
  for (Work& work : works) {
    if (is_stopping()) break;
    bool is_added = true;
    if (needs_whole() && !std::holds_alternative<Whole>(work)) {
      is_added = true;  // the whole that is asked for has it
    } else if (const auto* some = std::get_if<Entries>(&work)) {
      is_added = add_entries(*some, in_a_commit);
    } else if (auto* sum = std::get_if<HistorySum>(&work)) {
      is_added = is_done(repository_->add(sum->take_commit()));
    } else {
      is_added = add(std::get<Whole>(work));
    }
    work = Entries();  // its memory is needed no more
    if (!is_added) break;
  }
  flush();
}

bool HistoryWriter::add_entries(const Entries& entries, std::size_t in_a_commit) {
  std::vector<journal::HistoryEntry> together;
  bool is_good = true;
  const auto add_together = [&] {
    is_good = is_good && is_done(repository_->add(together));
    together.clear();
  };
  const bool is_whole = journal::each_entry(entries, [&](journal::HistoryEntry&& entry) {
    if (together.empty() && entry.number > repository_->last_entry() + 1) {
      needs_whole_.store(true, std::memory_order_release);
      return false;
    }
    together.push_back(std::move(entry));
    if (together.size() >= in_a_commit) add_together();
    return is_good && !is_stopping();
  });
  if (is_good && !together.empty() && !is_stopping()) add_together();
  if (is_whole) return is_good;
  return is_done(tl::unexpected(std::string("entries that are none")));
}

bool HistoryWriter::add(const Whole& whole) {
  const journal::HistoryEntry& entry = whole.entry;
  const auto show_all =
      [&entry](const journal::HistoryNodeSink& sink) -> journal::Result<void, std::string> {
    for (const journal::HistoryChange& change : entry.changes) {
      auto shown = sink({change.path, change.value, change.perms});
      if (!shown.has_value()) return shown;
    }
    return {};
  };
  needs_whole_.store(false, std::memory_order_release);
  return is_done(repository_->add_whole(entry.number, entry.time_us, entry.what, show_all));
}

/// As long as it takes: nothing else can be done meanwhile, and what comes waits.
void HistoryWriter::flush() {
  for (bool is_told = false;;) {
    const auto done = repository_->flush();
    if (done.has_value()) break;
    if (!is_told) log::error("history cannot be written for now: " + done.error());
    is_told = true;
    (void)repository_->drop_oldest();
    if (!pause(kTryAgainUs)) return;
  }
  has_flushed_.store(true, std::memory_order_release);
  flushed_.store(repository_->flushed_entry(), std::memory_order_release);
}

/// False, once told: history ends here until the next start.
bool HistoryWriter::is_done(const journal::Result<void, std::string>& done) {
  if (done.has_value()) return true;
  log::error("history is not written any more, until the next start: " + done.error());
  has_failed_.store(true, std::memory_order_release);
  return false;
}

/// At least until the next round, and for as long as the last one took; longer while serving
/// is busy.
void HistoryWriter::rest(std::uint64_t used_us) {
  const std::uint64_t longest = std::clamp(used_us * kRestPerUsed, kRestUsMin, kRestUsMax);
  const std::uint64_t begin = us_of(CLOCK_MONOTONIC);
  std::uint64_t now = begin;
  for (std::uint64_t us = std::max(kRoundUs, used_us); now - begin < longest; us = kRoundUs) {
    const std::uint64_t before = now;
    const std::uint64_t noted = noted_.load(std::memory_order_relaxed);
    if (!pause(us)) return;
    now = us_of(CLOCK_MONOTONIC);
    const std::uint64_t changes = noted_.load(std::memory_order_relaxed) - noted;
    is_calm_.store(changes * 1'000'000 <= (now - before) * kBusyChanges, std::memory_order_relaxed);
    if (is_calm() || is_pressed_.load(std::memory_order_relaxed)) return;
  }
}

/// Sleeps; false when it is to end.
bool HistoryWriter::pause(std::uint64_t us) {
  std::unique_lock lock(mutex_);
  has_work_.wait_for(lock, std::chrono::microseconds(us), [this] { return is_stopping(); });
  return !is_stopping();
}

}  // namespace xenstored
