// SPDX-License-Identifier: MIT
#include "journal/journal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <optional>
#include <span>
#include <utility>

#include "journal/area.h"
#include "journal/database.h"
#include "journal/entry_log.h"
#include "journal/guard.h"
#include "journal/image.h"
#include "journal/reader.h"
#include "journal/seal.h"
#include "journal/space.h"

namespace journal {
namespace {

namespace fs = std::filesystem;

/// A state that killed its reader so often is not tried again.
constexpr std::uint32_t kDeathsMax = 2;
constexpr std::uint64_t kGrowBytesMin = std::uint64_t{1} << 20;
/// LMDB lets one transaction change 131071 pages.
constexpr std::uint64_t kDirtyPagesMax = 100'000;
/// More than any key, and than the numbers in any value (records.cc).
constexpr std::size_t kKeyBytesMax = kLabelMax + 16;
constexpr std::size_t kNumbersBytesMax = 128;

auto open_failed(OpenError::Kind kind, std::string message) {
  return tl::unexpected(OpenError{kind, std::move(message)});
}

Result<Seal, OpenError> open_seal(const fs::path& area) {
  auto seal = Seal::open(area / kStateName / kSealName, Seal::Use::kServe);
  if (!seal.has_value())
    return open_failed(open_error_kind(seal.error().kind), seal.error().message);
  return std::move(seal.value());
}

/// Opens the state, whichever boot it is of; makes one if there is none.
Result<Seal, OpenError> open_or_create(const fs::path& area, std::string_view boot_id,
                                       std::vector<std::string>& notes) {
  struct stat status {};
  const int looked = ::lstat((area / kStateName).c_str(), &status);
  if (looked != 0 && errno != ENOENT) {
    return open_failed(OpenError::Kind::kSystem,
                       system_message("cannot look at " + (area / kStateName).string(), errno));
  }
  if (looked != 0) {
    const auto created = create_state(area, boot_id);
    if (!created.has_value()) return tl::unexpected(created.error());
    notes.push_back("began an empty state in " + area.string());
  } else if (!S_ISDIR(status.st_mode)) {
    return open_failed(OpenError::Kind::kDamaged, (area / kStateName).string() + " is no folder");
  }
  return open_seal(area);
}

Result<Seal, OpenError> begin_anew(const fs::path& area, std::string_view boot_id,
                                   std::vector<std::string>& notes) {
  const auto aside = set_state_aside(area, "boot", notes);
  if (!aside.has_value()) return tl::unexpected(aside.error());
  return open_or_create(area, boot_id, notes);
}

std::string older_format(const fs::path& area, const Seal& seal) {
  const std::string state = (area / kStateName).string();
  return "the state in " + state + " has format " + std::to_string(seal.format()) +
         ", written by an older xenstored that can still serve it; this one knows only format " +
         std::to_string(kFormat) + " and would begin with an empty state if " + state +
         " were moved away";
}

/// Opens the database, if its file is one, at its last confirmed commit.
Result<std::unique_ptr<Database>, OpenError> open_database(const fs::path& area,
                                                           std::uint64_t confirmed) {
  const fs::path file = area / kStateName / kDataName;
  const Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat status {};
  if (!fd && (errno == ENOENT || errno == ELOOP)) {
    return open_failed(OpenError::Kind::kDamaged, file.string() + " is missing");
  }
  if (!fd || ::fstat(fd.get(), &status) != 0) {
    return open_failed(OpenError::Kind::kSystem,
                       system_message("cannot open " + file.string(), errno));
  }
  if (!S_ISREG(status.st_mode)) {
    return open_failed(OpenError::Kind::kDamaged, file.string() + " is not a file");
  }
  std::array<std::byte, 2 * kPageBytes> first{};
  ssize_t count = ::pread(fd.get(), first.data(), first.size(), 0);
  if (const auto edit = unconfirmed_commit(first, confirmed)) {
    const Fd writable(::open(file.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
    if (::pwrite(writable.get(), &edit->txn, sizeof edit->txn, static_cast<off_t>(edit->offset)) !=
        ssize_t{sizeof edit->txn}) {
      return open_failed(OpenError::Kind::kSystem,
                         system_message("cannot write " + file.string(), errno));
    }
    count = ::pread(fd.get(), first.data(), first.size(), 0);
  }
  if (count < 0) {
    return open_failed(OpenError::Kind::kSystem,
                       system_message("cannot read " + file.string(), errno));
  }
  const auto file_bytes = static_cast<std::uint64_t>(status.st_size);
  const auto sound = check_metas(first, count == ssize_t{first.size()} ? file_bytes : 0);
  if (!sound.has_value()) return open_failed(OpenError::Kind::kDamaged, sound.error());

  auto database = Database::open(area / kStateName, file_bytes - file_bytes % kPageBytes);
  if (!database.has_value()) return open_failed(OpenError::Kind::kSystem, database.error());
  return std::move(database.value());
}

/// Shows entries to the sink, until it says that something is wrong.
class ShowTo {
 public:
  explicit ShowTo(RecordSink& sink) : sink_(sink) {}
  bool operator()(const EntryLog::Record& record) {
    if (shown_.has_value()) shown_ = sink_.history({record.entries, {record.txn, record.end}});
    return true;
  }
  const Result<void, std::string>& result() const { return shown_; }

 private:
  RecordSink& sink_;
  Result<void, std::string> shown_;
};

/// What cannot be such a file is put out of the way; history then tells the whole tree.
Result<EntryLog, std::string> open_entries(const fs::path& file, std::vector<std::string>& notes) {
  auto entries = EntryLog::open(file);
  if (entries.has_value()) return entries;
  std::error_code error;
  fs::rename(file, file.string() + ".damaged", error);
  if (error) return entries;
  notes.push_back(entries.error() + "; it is now " + file.string() + ".damaged");
  return EntryLog::open(file);
}

}  // namespace

struct Journal::Impl {
  Impl(const Options& options_arg, Fd lock_arg, Seal seal_arg, LoadingCount deaths_arg,
       std::unique_ptr<Database> database_arg, EntryLog entries_arg)
      : options(options_arg),
        lock(std::move(lock_arg)),
        seal(std::move(seal_arg)),
        deaths(std::move(deaths_arg)),
        database(std::move(database_arg)),
        entries(std::move(entries_arg)),
        last_entry(seal.last_entry()) {}

  template <class Record>
  void put(const Record& record);
  void end_erase();
  bool ensure(const Space& space, Purpose purpose);
  bool grow(std::uint64_t missing_pages);

  const Options options;
  const Fd lock;
  Seal seal;
  LoadingCount deaths;
  const std::unique_ptr<Database> database;
  EntryLog entries;
  std::uint64_t last_entry;
  Digest digest;
  Batch batch;
  Space promised;  // by `reserve`, since the last commit
  std::uint64_t refused = 0;
  Space used;  // by the puts in `batch`
  std::size_t erases = 0;
  bool is_loaded = false;
  std::string failure;  // the first one; nothing is committed after it
};

Journal::Journal(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Journal::~Journal() = default;

Result<std::unique_ptr<Journal>, OpenError> Journal::open(const Options& options,
                                                          std::vector<std::string>& notes) {
  auto lock = lock_area(options.area);
  if (!lock.has_value()) return tl::unexpected(lock.error());
  const auto boot_id = read_boot_id(options.boot_id_file);
  if (!boot_id.has_value()) return tl::unexpected(boot_id.error());

  auto seal = open_or_create(options.area, boot_id.value(), notes);
  if (!seal.has_value()) return tl::unexpected(seal.error());
  auto deaths = LoadingCount::open(options.area / kLoadingName);
  if (!deaths.has_value()) return open_failed(OpenError::Kind::kSystem, deaths.error());

  if (seal.value().boot_id() != boot_id.value()) {
    notes.push_back("the state is of an earlier boot and not used");
    deaths.value().clear();
    seal = begin_anew(options.area, boot_id.value(), notes);
  } else if (seal.value().format() != kFormat) {
    return open_failed(OpenError::Kind::kOlderFormat, older_format(options.area, seal.value()));
  } else if (deaths.value().deaths() >= kDeathsMax) {
    return open_failed(OpenError::Kind::kDamaged, "reading the state has killed the process " +
                                                      std::to_string(deaths.value().deaths()) +
                                                      " times: it is taken for damaged");
  }
  if (!seal.has_value()) return tl::unexpected(seal.error());

  const LoadingGuard guard(deaths.value(), options.load_seconds_max);
  auto database = open_database(options.area, seal.value().confirmed());
  if (!database.has_value()) return tl::unexpected(database.error());
  auto entries = open_entries(options.area / kStateName / kEntriesName, notes);
  if (!entries.has_value()) return open_failed(OpenError::Kind::kSystem, entries.error());
  auto impl = std::make_unique<Impl>(options, std::move(lock.value()), std::move(seal.value()),
                                     std::move(deaths.value()), std::move(database.value()),
                                     std::move(entries.value()));
  return std::unique_ptr<Journal>(new Journal(std::move(impl)));
}

Result<fs::path, OpenError> Journal::set_aside(const Options& options,
                                               std::vector<std::string>& notes) {
  const auto lock = lock_area(options.area);
  if (!lock.has_value()) return tl::unexpected(lock.error());
  auto deaths = LoadingCount::open(options.area / kLoadingName);
  if (!deaths.has_value()) return open_failed(OpenError::Kind::kSystem, deaths.error());
  deaths.value().clear();
  return set_state_aside(options.area, "damaged", notes);
}

Result<void, LoadError> Journal::load(RecordSink& sink) {
  const LoadingGuard guard(impl_->deaths, impl_->options.load_seconds_max);
  const std::span<const std::byte> file = impl_->database->bytes();
  const auto image = check_state(file, impl_->seal);
  if (!image.has_value()) return tl::unexpected(LoadError{image.error()});
  ShowTo history(sink);
  impl_->entries.load(impl_->seal.confirmed(), std::ref(history));
  auto shown = history.result();
  if (shown.has_value()) shown = show_state(file, image.value(), sink);
  if (!shown.has_value()) return tl::unexpected(LoadError{shown.error()});
  impl_->digest = image.value().digest;
  impl_->database->set_last_key(image.value().last_key);
  impl_->is_loaded = true;
  impl_->deaths.clear();
  return {};
}

Result<void, std::string> Journal::verify(RecordSink& sink) const {
  const std::span<const std::byte> file = impl_->database->bytes();
  const auto image = check_state(file, impl_->seal);
  if (!image.has_value()) return tl::unexpected(image.error());
  ShowTo history(sink);
  impl_->entries.show(impl_->seal.confirmed(), std::ref(history));
  if (!history.result().has_value()) return history.result();
  return show_state(file, image.value(), sink);
}

template <class Record>
void Journal::Impl::put(const Record& record) {
  const std::size_t begin = batch.bytes().size();
  append_key(record, batch.bytes());
  const std::size_t key_end = batch.bytes().size();
  batch.end_key();
  if (!append_value(record, batch.bytes())) {
    batch.drop_unfinished();
    if (failure.empty()) failure = "a record beyond the journal's limits was put";
    return;
  }
  used += space_of_put(key_end - begin, batch.bytes().size() - key_end);
  batch.add_put();
}

void Journal::Impl::end_erase() {
  batch.end_key();
  batch.add_erase();
  ++erases;
}

void Journal::put(const NodeRecord& record) { impl_->put(record); }
void Journal::put(const DomainRecord& record) { impl_->put(record); }
void Journal::put(const ConnectionRecord& record) { impl_->put(record); }
void Journal::put(const WatchRecord& record) { impl_->put(record); }
void Journal::put(const OutputRecord& record) { impl_->put(record); }
void Journal::put(const SpecialRecord& record) { impl_->put(record); }
void Journal::put(const SettingRecord& record) { impl_->put(record); }

void Journal::erase_node(NodeId id) {
  append_node_key(id, impl_->batch.bytes());
  impl_->end_erase();
}

void Journal::erase_domain(Domid domid) {
  append_domain_key(domid, impl_->batch.bytes());
  impl_->end_erase();
}

void Journal::erase_connection(ConnId conn) {
  append_connection_key(conn, impl_->batch.bytes());
  impl_->end_erase();
}

void Journal::erase_watch(ConnId conn, std::uint64_t seq) {
  append_watch_key(conn, seq, impl_->batch.bytes());
  impl_->end_erase();
}

void Journal::erase_output(ConnId conn, std::uint64_t seq) {
  append_output_key(conn, seq, impl_->batch.bytes());
  impl_->end_erase();
}

void Journal::erase_special(std::string_view name) {
  append_special_key(name, impl_->batch.bytes());
  impl_->end_erase();
}

void Journal::erase_setting(std::string_view name) {
  append_setting_key(name, impl_->batch.bytes());
  impl_->end_erase();
}

std::optional<HistoryMark> Journal::put_history(std::string_view entries) {
  const std::uint64_t txn = impl_->seal.confirmed() + 1;
  const auto end = impl_->entries.put(txn, entries);
  if (!end) return std::nullopt;
  return HistoryMark{txn, *end};
}

void Journal::drop_history(const HistoryMark& mark) { impl_->entries.drop(mark.txn, mark.end); }

void Journal::note_last_entry(std::uint64_t number) { impl_->last_entry = number; }

std::uint64_t Journal::last_entry() const { return impl_->seal.last_entry(); }

bool Journal::dirty() const { return !impl_->batch.empty() || !impl_->failure.empty(); }

Result<void, std::string> Journal::commit() {
  Impl& impl = *impl_;
  const Space promised = std::exchange(impl.promised, Space{});
  if (!dirty()) return {};
  if (impl.failure.empty() && !impl.is_loaded)
    impl.failure = "a commit before the state was loaded";
  const Space needed = impl.used + space_of_removals(impl.erases);
  // What nobody reserved gets what room there is; LMDB says if that is too little.
  if (!needed.fits(promised)) (void)impl.ensure(needed, Purpose::kRemoval);
  if (!impl.failure.empty()) return tl::unexpected(impl.failure);

  auto done = impl.database->commit(impl.batch, impl.digest, impl.seal, impl.last_entry);
  if (!done.has_value()) impl.failure = done.error();
  impl.batch.clear();
  impl.used = {};
  impl.erases = 0;
  return done;
}

std::uint64_t Journal::confirmed() const { return impl_->seal.confirmed(); }

bool Journal::reserve(const Space& space, Purpose purpose) {
  const Space wanted = impl_->promised + space;
  if (!impl_->ensure(wanted, purpose)) {
    ++impl_->refused;
    return false;
  }
  impl_->promised = wanted;
  return true;
}

bool Journal::Impl::ensure(const Space& space, Purpose purpose) {
  const Pages& pages = database->pages();
  const Demand demand = demand_of(space, pages);
  if (demand.total() > kDirtyPagesMax) return false;
  const std::uint64_t wanted = demand.total() + headroom(pages, purpose);
  // Compared with the tail alone: what else is free may be scattered.
  if (wanted <= pages.tail) return true;
  if (grow(wanted - pages.tail)) return true;
  if (!failure.empty()) return false;  // the database is not to be used any more

  // The tmpfs is full. Free pages inside the file serve for all but runs; a run
  // may take some of them, too, if it finds them side by side.
  const std::uint64_t reusable = database->reusable_pages();
  const std::uint64_t from_tail = demand.runs + demand.total() - std::min(demand.total(), reusable);
  const bool spares_tail = from_tail + tail_headroom(pages, purpose) <= pages.tail;
  return (from_tail == 0 || spares_tail) && wanted <= pages.tail + reusable;
}

/// Makes the tail longer by so many pages, and some more if there is room.
bool Journal::Impl::grow(std::uint64_t missing_pages) {
  const std::uint64_t present = database->pages().file * kPageBytes;
  const std::uint64_t missing = missing_pages * kPageBytes;
  const std::uint64_t step =
      std::max({missing, kGrowBytesMin, present / 8 / kPageBytes * kPageBytes});
  for (const std::uint64_t by : {step, missing}) {
    if (options.max_bytes != 0 && present + by > options.max_bytes) continue;
    const auto grown = database->grow(present + by);
    if (!grown.has_value()) {
      failure = grown.error();
      return false;
    }
    if (grown.value()) return true;
  }
  return false;
}

std::uint64_t Journal::refused() const { return impl_->refused; }

Space Journal::space_for_put(std::size_t bytes) {
  return space_of_put(kKeyBytesMax, bytes + kNumbersBytesMax);
}

Space Journal::space_for_removals(std::size_t count) { return space_of_removals(count); }

std::uint64_t Journal::file_bytes() const { return impl_->database->pages().file * kPageBytes; }

}  // namespace journal
