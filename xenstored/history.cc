// SPDX-License-Identifier: MIT
#include "xenstored/history.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <utility>

#include "journal/salvage.h"
#include "store/path.h"
#include "xenstored/log.h"

namespace xenstored {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kOn = "on";
constexpr std::string_view kBehind = "behind";
/// Entries that the writer has not come to: in the journal, and once more in memory.
constexpr std::size_t kBacklogBytesMax = std::size_t{16} << 20;
/// What they may sum up to while it does not come on at all.
constexpr std::size_t kSumBytesMax = std::size_t{64} << 20;
/// Given at once; what is not taken yet grows to this.
constexpr std::size_t kGivenBytes = std::size_t{1} << 20;

fs::path repository_of(const Options& options) { return fs::path(options.area) / "history.git"; }
std::string boot_file_of(const Options& options) { return options.area + "/history.boot"; }

std::uint64_t real_us() {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(
                                        std::chrono::system_clock::now().time_since_epoch())
                                        .count());
}

std::string first_line(const std::string& file) {
  std::ifstream stream(file);
  std::string line;
  std::getline(stream, line);
  return line;
}

std::string boot_id() { return first_line("/proc/sys/kernel/random/boot_id"); }

/// A name for a damaged repository that nothing has yet.
fs::path name_aside(const fs::path& folder) {
  for (int number = 1;; ++number) {
    fs::path name = folder;
    name += ".damaged-" + std::to_string(number);
    std::error_code error;
    if (!fs::exists(fs::symlink_status(name, error))) return name;
  }
}

/// The whole tree, depth first.
std::vector<journal::HistoryChange> all_of(const store::Node& root) {
  struct Open {
    const store::Node* node;
    std::string path;
  };
  std::vector<journal::HistoryChange> all;
  std::vector<Open> open{{&root, "/"}};
  while (!open.empty()) {
    const Open at = std::move(open.back());
    open.pop_back();
    const store::PermsView perms = at.node->perms()->view();
    all.push_back({at.path, false, std::string(at.node->value()), {perms.begin(), perms.end()}});
    const store::Children* children = at.node->children();
    for (std::uint32_t slot = 0; children != nullptr && slot < children->slot_count(); ++slot) {
      const store::Node* child = children->at(slot);
      if (child != nullptr) open.push_back({child, store::child_path(at.path, child->name())});
    }
  }
  return all;
}

/// One entry into a stream of them, as each_entry() reads it.
class EntryWriter {
 public:
  explicit EntryWriter(std::string& out) : out_(out), begin_(out.size()) {
    out_.append(sizeof(std::uint32_t), '\0');
  }
  ~EntryWriter() {
    const auto length = static_cast<std::uint32_t>(out_.size() - begin_ - sizeof(std::uint32_t));
    std::memcpy(out_.data() + begin_, &length, sizeof length);
  }
  EntryWriter(const EntryWriter&) = delete;
  EntryWriter& operator=(const EntryWriter&) = delete;

 private:
  std::string& out_;
  std::size_t begin_;
};

bool is_told(const store::Change& change) { return !change.path.empty(); }

/// Off for this time if its thread was what killed the servers before.
bool is_too_dangerous(PoisonGuard& poison) {
  constexpr std::uint32_t kDeathsMax = 2;
  if (poison.other_deaths() < kDeathsMax) return false;
  log::error("no history is written until the next start: writing it has killed the server " +
             std::to_string(poison.other_deaths()) + " times");
  poison.forget_other_deaths();
  return true;
}

}  // namespace

History::History(const Options& options, journal::Journal& journal, PoisonGuard& poison,
                 std::filesystem::path damaged)
    : options_(options),
      journal_(journal),
      poison_(poison),
      is_off_(options.history_is_off || is_too_dangerous(poison)),
      damaged_(std::move(damaged)) {}

/// None, having told why.
std::unique_ptr<journal::HistoryRepository> History::open_repository() const {
  const auto open = [this] {
    journal::HistoryRepository::Options wanted;
    wanted.folder = repository_of(options_);
    wanted.limit_bytes = options_.history_limit_bytes;
    if (!options_.history_archive.empty()) wanted.archive = options_.history_archive;
    wanted.note = [](const std::string& line) { log::warn("history: " + line); };
    return journal::HistoryRepository::open(std::move(wanted));
  };
  auto opened = open();
  if (!opened.has_value() && opened.error().kind == journal::OpenError::Kind::kDamaged) {
    const fs::path aside = name_aside(repository_of(options_));
    log::error("history: " + opened.error().message + "; set aside as " + aside.string());
    std::error_code error;
    fs::rename(repository_of(options_), aside, error);
    if (!error) opened = open();
  }
  if (opened.has_value()) return std::move(opened.value());
  log::error("no history is written: " + opened.error().message);
  return nullptr;
}

bool History::open_now() {
  if (!repository_ && !is_off_) repository_ = open_repository();
  return repository_ != nullptr;
}

bool History::restore(const journal::HistoryNodeSink& sink) {
  if (first_line(boot_file_of(options_)) != boot_id()) return false;
  if (!open_now() || repository_->is_fresh()) return false;
  const std::string salvaged = salvage();
  const auto shown = repository_->read_tip(sink);
  if (!shown.has_value()) {
    log::error("the tree cannot be taken from its history either: " + shown.error());
    return false;
  }
  log::error("the tree is now that of its history, after entry " +
             std::to_string(repository_->last_entry()) + salvaged +
             ". Not recovered: later changes, if there were any, which domains are introduced, "
             "their connections, watches, transactions and quotas");
  is_restored_ = true;
  return true;
}

/// Commits what the damaged state still has and the repository has not. Tells what it found.
std::string History::salvage() {
  if (damaged_.empty()) return {};
  const auto found = journal::salvage_history(damaged_, repository_->last_entry());
  if (!found.has_value())
    return " (nothing can be read in the damaged state: " + found.error() + ')';
  const auto& [entries, last_seen] = found.value();
  journal::Result<void, std::string> done;
  for (const journal::HistoryEntry& entry : entries) {
    if (done.has_value()) done = repository_->add(std::span(&entry, 1));
  }
  if (done.has_value()) done = repository_->flush();
  if (!done.has_value())
    return " (entries of the damaged state cannot be used: " + done.error() + ')';
  std::string told = " (" + std::to_string(entries.size()) + " of them read in the damaged state";
  if (last_seen != 0) told += "; what cannot be read there goes up to " + std::to_string(last_seen);
  return told + ')';
}

void History::begin(const StoredHistory& stored, const store::Node& root) {
  take_stored(stored);
  const bool is_whole = stored.commits.empty() || last_number_ == journal_.last_entry();
  const bool is_continued = stored.setting == kOn && is_whole;
  if (is_continued && last_number_ != 0 && !is_off_) {
    state_ = State::kOn;
    start_writer();
    to_give_.emplace_back(stored.entries);
    give();
    return;
  }
  if (!open_now()) {
    end();
    if (!stored.setting.empty()) journal_.erase_setting(kSettingName);
    return;
  }
  std::ofstream(boot_file_of(options_)) << boot_id() << '\n';
  const bool is_fresh = repository_->is_fresh();
  last_number_ = std::max({last_number_, journal_.last_entry(), repository_->last_entry()});
  state_ = State::kOn;
  start_writer();
  if (is_continued && !is_fresh) return;
  tell_whole(root, is_restored_             ? "the state was lost, and the tree taken from here"
                   : is_fresh               ? "history begins"
                   : stored.setting.empty() ? "the store began anew, or was without history"
                                            : "history had fallen behind");
}

void History::take_stored(const StoredHistory& stored) {
  last_number_ = stored.commits.empty() ? journal_.last_entry() : 0;
  std::string_view rest = stored.entries;
  std::size_t begin = 0;
  for (const StoredHistory::Commit& commit : stored.commits) {
    const std::size_t bytes = commit.end - begin;
    begin = commit.end;
    // Only the last one is read: many may be waiting, and nobody is served yet.
    std::string_view entries = rest.substr(0, bytes);
    std::string_view last;
    while (const auto entry = journal::take_entry(entries)) last = *entry;
    if (const auto entry = journal::decode_entry(last); entry.has_value()) {
      last_number_ = std::max(last_number_, entry.value().number);
    }
    rest.remove_prefix(bytes);
    stored_.push_back({last_number_, bytes, commit.mark});
    stored_bytes_ += bytes;
  }
}

void History::start_writer() {
  auto opened =
      std::make_shared<std::unique_ptr<journal::HistoryRepository>>(std::move(repository_));
  const auto open = [this, opened] { return *opened ? std::move(*opened) : open_repository(); };
  writer_ = std::make_unique<HistoryWriter>(open, last_number_);
}

/// From here on only what comes after this counts.
void History::tell_whole(const store::Node& root, std::string_view reason) {
  last_number_ = std::max(last_number_, writer_->flushed()) + 1;
  fall_behind();
  sum_ = {};
  HistoryWriter::Whole whole;
  whole.entry = {last_number_, real_us(), {}, std::string(reason), all_of(root)};
  to_give_.emplace_back(std::move(whole));
  is_whole_given_ = true;
  awaited_number_ = last_number_;
  state_ = State::kLeaving;
  give();
}

void History::note(const journal::HistoryAuthor& author, std::string_view what,
                   const std::vector<store::Change>& changes) {
  if (state_ == State::kOff || std::ranges::none_of(changes, is_told)) return;
  const std::uint64_t number = ++last_number_;
  if (time_us_ == 0) time_us_ = real_us();
  if (state_ == State::kBehind) {
    sum_up(number, author, what, changes);
    return;
  }
  if (turn_.empty()) turn_first_ = number;
  const EntryWriter writer(turn_);
  journal::append_entry_head(number, time_us_, author, what, turn_);
  for (const store::Change& change : changes) {
    if (!is_told(change)) continue;
    if (change.node) {
      journal::append_set(change.path, change.node->value(), change.node->perms()->view(), turn_);
    } else {
      journal::append_removal(change.path, turn_);
    }
  }
}

void History::sum_up(std::uint64_t number, const journal::HistoryAuthor& author,
                     std::string_view what, const std::vector<store::Change>& changes) {
  for (const store::Change& change : changes) {
    if (is_told(change)) sum_.touch(change.path, !change.node);
  }
  if (!sum_.lists_more()) {
    sum_.count_request(number, time_us_, author, what);
    return;
  }
  journal::HistoryEntry entry{number, time_us_, author, std::string(what), {}};
  for (const store::Change& change : changes) {
    if (is_told(change)) entry.changes.push_back({change.path, !change.node, {}, {}});
  }
  sum_.add_request(entry);
}

void History::save() {
  drop_written();
  if (!turn_.empty()) store_turn();
  journal_.note_last_entry(last_number_);
  if (writer_) writer_->note_last(last_number_);
  is_setting_new_ = false;  // one that was put just now goes with this commit, too
}

void History::store_turn() {
  const auto mark = journal_.put_history(turn_);
  if (!mark) {
    sum_up_turn();
    return;
  }
  stored_.push_back({last_number_, turn_.size(), *mark});
  stored_bytes_ += turn_.size();
}

/// Too much to be stored, or the tmpfs is full.
void History::sum_up_turn() {
  log::warn("there is no room for history: changes are summed up for a while");
  fall_behind();
  awaited_number_ = turn_first_ - 1;
  (void)journal::each_entry(turn_, [this](journal::HistoryEntry&& entry) {
    for (const journal::HistoryChange& change : entry.changes) {
      sum_.touch(change.path, change.is_removal);
    }
    sum_.add_request(entry);
    return true;
  });
  turn_.clear();
}

/// What is in the repository need not be stored.
void History::drop_written() {
  const std::uint64_t flushed = writer_ ? writer_->flushed() : 0;
  for (; !stored_.empty() && stored_.front().last <= flushed; stored_.pop_front()) {
    stored_bytes_ -= stored_.front().bytes;
    if (stored_.size() == 1 || stored_[1].last > flushed) {
      journal_.drop_history(stored_.front().mark);
    }
  }
}

void History::put_setting(std::string_view value) {
  journal_.put(journal::SettingRecord{std::string(kSettingName), std::string(value)});
  is_setting_new_ = true;
}

void History::tend(const store::Store& store) {
  if (state_ == State::kOff) return;
  time_us_ = 0;
  if (!turn_.empty()) {
    auto* last = to_give_.empty() ? nullptr : std::get_if<std::string>(&to_give_.back());
    if (last != nullptr && last->size() < kGivenBytes) {
      last->append(turn_);
      turn_.clear();
    } else {
      to_give_.emplace_back(std::exchange(turn_, {}));
    }
  }
  if (telling_) look_up();
  writer_->press(sum_.bytes() > kSumBytesMax / 4);
  give();
  if (poison_.other_deaths() != 0 && writer_->has_flushed()) {
    poison_.forget_other_deaths();
  }
  if (writer_->has_failed() || sum_.bytes() > kSumBytesMax) {
    end();
    put_setting(kBehind);
  } else if (writer_->needs_whole()) {
    if (!is_whole_given_) tell_whole(store.root(), "history had lost its place");
  } else if (state_ == State::kBehind && writer_->flushed() >= awaited_number_ &&
             to_give_.empty() && !telling_) {
    tell_sum(store);
  } else if (state_ == State::kLeaving && writer_->flushed() >= awaited_number_) {
    put_setting(kOn);
    is_whole_given_ = false;
    state_ = State::kOn;
  }
  if (state_ != State::kBehind && stored_bytes_ > kBacklogBytesMax) {
    log::warn("history is written too slowly: changes are summed up for a while");
    fall_behind();
  }
}

/// It stays behind if storing what comes now would only bring it back there.
void History::tell_sum(const store::Store& store) {
  const bool is_over = sum_.empty() || writer_->is_calm();
  if (!is_over && !writer_->is_hungry()) return;
  awaited_number_ = last_number_;
  if (!sum_.empty()) telling_ = Telling{std::exchange(sum_, {}), store.snapshot()};
  if (is_over) state_ = State::kLeaving;
}

bool History::is_waiting() const {
  return is_setting_new_ || telling_ || (!to_give_.empty() && writer_->is_hungry());
}

/// So many in a turn that serving does not notice.
void History::look_up() {
  constexpr std::size_t kNodesATurn = 1024;
  if (!telling_->sum.look_up(*telling_->root, kNodesATurn)) return;
  to_give_.emplace_front(std::move(telling_->sum));
  telling_.reset();
}

void History::give() {
  if (!telling_ && !to_give_.empty() && writer_->is_hungry()) writer_->try_give(to_give_);
}

/// The journal's entries are no longer all there is.
void History::fall_behind() {
  put_setting(kBehind);
  awaited_number_ = last_number_;
  is_whole_given_ = false;
  state_ = State::kBehind;
}

/// Nothing more is written until the next start.
void History::end() {
  state_ = State::kOff;
  to_give_.clear();
  turn_.clear();
  sum_ = {};
  telling_.reset();
}

}  // namespace xenstored
