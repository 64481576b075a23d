// SPDX-License-Identifier: MIT
#include "journal/journal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <utility>

#include "journal/area.h"
#include "journal/database.h"
#include "journal/guard.h"
#include "journal/image.h"
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

OpenError::Kind kind_of(Seal::Misfit misfit) {
  switch (misfit) {
    case Seal::Misfit::kDamaged:
      return OpenError::Kind::kDamaged;
    case Seal::Misfit::kNewerFormat:
      return OpenError::Kind::kNewerFormat;
    case Seal::Misfit::kSystem:
      return OpenError::Kind::kSystem;
  }
  return OpenError::Kind::kSystem;
}

Result<Seal, OpenError> open_seal(const fs::path& area) {
  auto seal = Seal::open(area / kStateName / kSealName);
  if (!seal.has_value()) return open_failed(kind_of(seal.error().kind), seal.error().message);
  return std::move(seal.value());
}

/// Opens the state, whichever boot it is of; makes one if there is none.
Result<Seal, OpenError> open_or_create(const fs::path& area, std::string_view boot_id,
                                       std::vector<std::string>& notes) {
  struct stat status {};
  if (::lstat((area / kStateName).c_str(), &status) != 0 && errno == ENOENT) {
    const auto created = create_state(area, boot_id);
    if (!created.has_value()) return tl::unexpected(created.error());
    notes.push_back("began an empty state in " + area.string());
  } else if (!S_ISDIR(status.st_mode)) {
    return open_failed(OpenError::Kind::kDamaged, (area / kStateName).string() + " is no folder");
  }
  return open_seal(area);
}

Result<Seal, OpenError> begin_anew(const fs::path& area, std::string_view boot_id,
                                   std::string_view why, std::vector<std::string>& notes) {
  const auto aside = set_state_aside(area, why, notes);
  if (!aside.has_value()) return tl::unexpected(aside.error());
  return open_or_create(area, boot_id, notes);
}

/// Opens the database, if its file is one.
Result<std::unique_ptr<Database>, OpenError> open_database(const fs::path& area) {
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
  const ssize_t count = ::pread(fd.get(), first.data(), first.size(), 0);
  const auto file_bytes = static_cast<std::uint64_t>(status.st_size);
  const auto sound = check_metas(first, count == ssize_t{first.size()} ? file_bytes : 0);
  if (!sound.has_value()) return open_failed(OpenError::Kind::kDamaged, sound.error());

  auto database = Database::open(area / kStateName, file_bytes - file_bytes % kPageBytes);
  if (!database.has_value()) return open_failed(OpenError::Kind::kSystem, database.error());
  return std::move(database.value());
}

}  // namespace

struct Journal::Impl {
  Impl(const Options& options_arg, Fd lock_arg, Seal seal_arg, LoadingCount deaths_arg,
       std::unique_ptr<Database> database_arg)
      : options(options_arg),
        lock(std::move(lock_arg)),
        seal(std::move(seal_arg)),
        deaths(std::move(deaths_arg)),
        database(std::move(database_arg)) {}

  template <class Record>
  void put(const Record& record);
  void end_erase();
  Result<Image, std::string> check() const;
  Result<void, std::string> show(const Image& image, RecordSink& sink) const;
  bool ensure(const Space& space, Purpose purpose);
  bool grow(std::uint64_t missing_pages);

  const Options options;
  const Fd lock;
  Seal seal;
  LoadingCount deaths;
  const std::unique_ptr<Database> database;
  Digest digest;
  Batch batch;
  Space promised;  // by `reserve`, since the last commit
  Space used;      // by the puts in `batch`
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
    seal = begin_anew(options.area, boot_id.value(), "boot", notes);
  } else if (deaths.value().deaths() >= kDeathsMax) {
    notes.push_back("reading the state has killed the process " +
                    std::to_string(deaths.value().deaths()) +
                    " times: it is taken for damaged and NOT used; everything in it is lost");
    deaths.value().clear();
    seal = begin_anew(options.area, boot_id.value(), "damaged", notes);
  }
  if (!seal.has_value()) return tl::unexpected(seal.error());

  const LoadingGuard guard(deaths.value(), options.load_seconds_max);
  auto database = open_database(options.area);
  if (!database.has_value()) return tl::unexpected(database.error());
  auto impl = std::make_unique<Impl>(options, std::move(lock.value()), std::move(seal.value()),
                                     std::move(deaths.value()), std::move(database.value()));
  return std::unique_ptr<Journal>(new Journal(std::move(impl)));
}

Result<void, OpenError> Journal::set_aside(const Options& options,
                                           std::vector<std::string>& notes) {
  const auto lock = lock_area(options.area);
  if (!lock.has_value()) return tl::unexpected(lock.error());
  auto deaths = LoadingCount::open(options.area / kLoadingName);
  if (!deaths.has_value()) return open_failed(OpenError::Kind::kSystem, deaths.error());
  deaths.value().clear();
  return set_state_aside(options.area, "damaged", notes);
}

Result<Image, std::string> Journal::Impl::check() const {
  auto image = check_image(database->bytes());
  if (!image.has_value()) return image;
  const auto sealed = seal.check(image.value().txn, image.value().digest);
  if (!sealed.has_value()) return tl::unexpected(sealed.error());
  return image;
}

Result<void, std::string> Journal::Impl::show(const Image& image, RecordSink& sink) const {
  const std::string first_node(1, static_cast<char>(Table::kNode));
  store::Perms perms;
  return show_records(database->bytes(), image, first_node,
                      [&](std::string_view key, std::string_view value) {
                        return show_record(key, value, sink, perms);
                      });
}

Result<void, LoadError> Journal::load(RecordSink& sink) {
  const LoadingGuard guard(impl_->deaths, impl_->options.load_seconds_max);
  const auto image = impl_->check();
  if (!image.has_value()) return tl::unexpected(LoadError{image.error()});
  const auto shown = impl_->show(image.value(), sink);
  if (!shown.has_value()) return tl::unexpected(LoadError{shown.error()});
  impl_->digest = image.value().digest;
  impl_->database->set_last_key(image.value().last_key);
  impl_->is_loaded = true;
  impl_->deaths.clear();
  return {};
}

Result<void, std::string> Journal::verify(RecordSink& sink) const {
  const auto image = impl_->check();
  if (!image.has_value()) return tl::unexpected(image.error());
  return impl_->show(image.value(), sink);
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

bool Journal::dirty() const { return !impl_->batch.empty() || !impl_->failure.empty(); }

Result<void, std::string> Journal::commit() {
  Impl& impl = *impl_;
  impl.promised = {};
  if (!dirty()) return {};
  if (impl.failure.empty() && !impl.is_loaded)
    impl.failure = "a commit before the state was loaded";
  const Space needed = impl.used + space_of_removals(impl.erases, impl.database->pages());
  if (impl.failure.empty() && !impl.ensure(needed, Purpose::kRemoval)) {
    impl.failure = "no room for the commit";
  }
  if (!impl.failure.empty()) return tl::unexpected(impl.failure);

  auto done = impl.database->commit(impl.batch, impl.digest, impl.seal);
  if (!done.has_value()) impl.failure = done.error();
  impl.batch.clear();
  impl.used = {};
  impl.erases = 0;
  return done;
}

bool Journal::reserve(const Space& space, Purpose purpose) {
  const Space wanted = impl_->promised + space;
  if (!impl_->ensure(wanted, purpose)) return false;
  impl_->promised = wanted;
  return true;
}

bool Journal::Impl::ensure(const Space& space, Purpose purpose) {
  const bool leaves_headroom = purpose == Purpose::kNormal;
  const Demand demand = demand_of(space, database->pages());
  const std::uint64_t wanted = demand.total() + (leaves_headroom ? headroom(database->pages()) : 0);
  if (demand.total() > kDirtyPagesMax) return false;
  // Compared with the tail alone: what else is free may be scattered.
  if (wanted <= database->pages().tail) return true;
  if (grow(wanted - database->pages().tail)) return true;

  // The tmpfs is full. Free pages inside the file serve for all but runs; a run
  // may take some of them, too, if it finds them side by side.
  const Pages& pages = database->pages();
  const std::uint64_t reusable = database->reusable_pages();
  const std::uint64_t from_tail = demand.runs + demand.total() - std::min(demand.total(), reusable);
  return from_tail + (leaves_headroom ? tail_headroom(pages) : 0) <= pages.tail &&
         wanted <= pages.tail + reusable;
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

Space Journal::space_for_put(std::size_t bytes) const {
  return space_of_put(kKeyBytesMax, bytes + kNumbersBytesMax);
}

Space Journal::space_for_removals(std::size_t count) const {
  return space_of_removals(count, impl_->database->pages());
}

std::uint64_t Journal::file_bytes() const { return impl_->database->bytes().size(); }

}  // namespace journal
