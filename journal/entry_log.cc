// SPDX-License-Identifier: MIT
#include "journal/entry_log.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "journal/seal.h"

namespace journal {

using store::Result;

namespace {

/// In front of the records are two words. The first says where they begin, in units of
/// kUnit, and above that the lowest number of a commit that the first can be of: what lies
/// there may be of a former round. The second is random: entries have clients' bytes in
/// them, who must not be able to make a record of those.
constexpr std::uint32_t kHeaderBytes = 64;
constexpr unsigned kPlaceBits = 22;
constexpr std::uint32_t kUnit = 8;
static_assert(EntryLog::kBytesMax / kUnit <= 1U << kPlaceBits);
/// Of no commit: nothing counts until a record is stored.
constexpr std::uint64_t kNoTxn = UINT64_MAX >> kPlaceBits;
/// The file grows by so much.
constexpr std::uint32_t kStepBytes = 256 << 10;
/// Length of a record that says: go on at the beginning.
constexpr std::uint32_t kWrap = UINT32_MAX;

struct Head {
  std::uint64_t hash;  ///< of what follows, and where it lies
  std::uint64_t txn;
  std::uint32_t bytes;
  std::uint32_t place;
};
static_assert(sizeof(Head) == 24);

constexpr std::uint32_t in_units(std::uint32_t bytes) {
  return (bytes + kUnit - 1) / kUnit * kUnit;
}

std::uint64_t word_of(std::span<const std::byte> file, std::size_t number) {
  std::uint64_t word = 0;
  if (file.size() >= kHeaderBytes) {
    std::memcpy(&word, file.data() + number * sizeof word, sizeof word);
  }
  return word;
}

std::uint64_t hash_of(const Head& head, std::string_view entries, std::span<const std::byte> file) {
  const std::string_view rest(reinterpret_cast<const char*>(&head.txn),
                              sizeof head - offsetof(Head, txn));
  return hash_record(hash_key(rest) ^ word_of(file, 1), entries);
}

struct Found {
  EntryLog::Record record;
  bool is_wrap;
};

std::optional<Found> record_at(std::span<const std::byte> file, std::uint32_t place) {
  Head head{};
  if (place + sizeof head > file.size()) return std::nullopt;
  std::memcpy(&head, file.data() + place, sizeof head);
  const bool is_wrap = head.bytes == kWrap;
  const std::uint32_t bytes = is_wrap ? 0 : head.bytes;
  if (head.place != place || bytes > file.size() - place - sizeof head) return std::nullopt;
  const std::string_view entries(reinterpret_cast<const char*>(file.data() + place + sizeof head),
                                 bytes);
  if (head.hash != hash_of(head, entries, file)) return std::nullopt;
  const std::uint32_t end =
      is_wrap ? kHeaderBytes : place + in_units(static_cast<std::uint32_t>(sizeof head) + bytes);
  return Found{{head.txn, entries, end}, is_wrap};
}

std::uint32_t place_in(std::uint64_t word) {
  const auto place = static_cast<std::uint32_t>(word % (1U << kPlaceBits)) * kUnit;
  return std::max(place, kHeaderBytes);
}

/// Where the records end; `is_wrapped`: they have gone on at the beginning.
struct End {
  std::uint32_t place;
  bool is_wrapped;
};

End walk(std::span<const std::byte> file, std::uint64_t confirmed, const EntryLog::Show& show) {
  const std::uint64_t word = word_of(file, 0);
  End end{place_in(word), false};
  std::uint64_t txn = word >> kPlaceBits;
  for (;;) {
    std::optional<Found> found = record_at(file, end.place);
    // A mark counts with the record that it leads to.
    const bool wraps = found && found->is_wrap && !end.is_wrapped;
    if (wraps) found = record_at(file, kHeaderBytes);
    if (!found || found->is_wrap || found->record.txn < txn || found->record.txn > confirmed) {
      return end;
    }
    end = {found->record.end, end.is_wrapped || wraps};
    txn = found->record.txn;
    if (!show(found->record)) return end;
  }
}

}  // namespace

void show_entries(std::span<const std::byte> file, std::uint64_t confirmed,
                  const EntryLog::Show& show) {
  (void)walk(file, confirmed, show);
}

void scan_entries(std::span<const std::byte> file, const EntryLog::Show& show) {
  for (std::uint32_t place = kHeaderBytes; place < file.size(); place += kUnit) {
    const std::optional<Found> found = record_at(file, place);
    if (found && !found->is_wrap && !show(found->record)) return;
  }
}

Result<EntryLog, std::string> EntryLog::open(const std::filesystem::path& file) {
  const auto refuse = [&](std::string_view what) {
    return tl::unexpected(system_message(std::string(what) + ' ' + file.string(), errno));
  };
  Fd fd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0) return refuse("cannot open");
  if (!S_ISREG(status.st_mode)) {
    errno = EINVAL;
    return refuse("no file is");
  }
  auto bytes = static_cast<std::uint32_t>(std::clamp<off_t>(status.st_size, kStepBytes, kBytesMax));
  bytes -= bytes % kStepBytes;
  // A copy may have holes, a store into which would find the tmpfs full.
  if (::ftruncate(fd.get(), bytes) != 0) return refuse("cannot cut");
  if (const int code = ::posix_fallocate(fd.get(), 0, bytes); code != 0) {
    errno = code;
    return refuse("no room for");
  }
  Mapping mapping = map_shared(fd.get(), kBytesMax);
  if (mapping.begin() == nullptr) return refuse("cannot map");
  // Zero is what a process leaves that is killed before this line.
  auto* const secret = static_cast<std::uint64_t*>(mapping.begin()) + 1;
  if (*secret == 0 && ::getrandom(secret, sizeof *secret, 0) < 0) {
    return refuse("no random number for");
  }
  EntryLog log(std::move(mapping), std::move(fd), bytes);
  if (log.begin() + sizeof(Head) > bytes) log.set_begin(kNoTxn, kHeaderBytes);
  return log;
}

std::byte* EntryLog::at(std::uint32_t place) const {
  return static_cast<std::byte*>(mapping_.begin()) + place;
}

void EntryLog::set_begin(std::uint64_t txn, std::uint32_t place) {
  auto* const word = reinterpret_cast<std::uint64_t*>(at(0));
  std::atomic_ref(*word).store(txn << kPlaceBits | place / kUnit, std::memory_order_release);
}

std::uint32_t EntryLog::begin() const { return place_in(word_of({at(0), allocated_}, 0)); }

void EntryLog::load(std::uint64_t confirmed, const Show& show) {
  const End end = walk({at(0), allocated_}, confirmed, show);
  end_ = end.place;
  is_wrapped_ = end.is_wrapped;
  if (end_ + sizeof(Head) <= allocated_) std::memset(at(end_), 0, sizeof(Head));
}

void EntryLog::show(std::uint64_t confirmed, const Show& show) const {
  show_entries({at(0), allocated_}, confirmed, show);
}

bool EntryLog::allocate(std::uint32_t end) {
  while (allocated_ < end) {
    if (allocated_ + kStepBytes > kBytesMax) return false;
    if (::posix_fallocate(fd_.get(), allocated_, kStepBytes) != 0) return false;
    allocated_ += kStepBytes;
  }
  return true;
}

/// Behind the last record, or at the beginning, if that leaves what counts alone. There is
/// always room for a mark behind the last one.
std::optional<std::uint32_t> EntryLog::place_for(std::uint32_t bytes) {
  const std::uint32_t first = begin();
  if (is_wrapped_) {
    if (end_ + bytes + sizeof(Head) <= first) return end_;
    return std::nullopt;
  }
  const bool is_empty = first == end_;
  if (is_empty && kHeaderBytes + bytes + sizeof(Head) <= end_) return kHeaderBytes;
  if (end_ + bytes + sizeof(Head) <= kBytesMax &&
      allocate(end_ + bytes + static_cast<std::uint32_t>(sizeof(Head)))) {
    return end_;
  }
  const bool has_room_for_mark = end_ + sizeof(Head) <= allocated_;
  if (kHeaderBytes + bytes + sizeof(Head) <= first && has_room_for_mark) return kHeaderBytes;
  return std::nullopt;
}

void EntryLog::write(std::uint32_t place, std::uint64_t txn, std::string_view entries) {
  Head head{0, txn, static_cast<std::uint32_t>(entries.size()), place};
  head.hash = hash_of(head, entries, {at(0), allocated_});
  std::memcpy(at(place), &head, sizeof head);
  std::memcpy(at(place) + sizeof head, entries.data(), entries.size());
}

/// Behind the last record: the next is at the beginning.
void EntryLog::write_mark(std::uint64_t txn) {
  Head mark{0, txn, kWrap, end_};
  mark.hash = hash_of(mark, {}, {at(0), allocated_});
  std::memcpy(at(end_), &mark, sizeof mark);
  is_wrapped_ = true;
}

std::optional<std::uint32_t> EntryLog::put(std::uint64_t txn, std::string_view entries) {
  if (entries.size() > kBytesMax / 2) return std::nullopt;
  const std::uint32_t bytes = in_units(static_cast<std::uint32_t>(sizeof(Head) + entries.size()));
  const std::optional<std::uint32_t> place = place_for(bytes);
  if (!place) return std::nullopt;
  const bool is_empty = begin() == end_ && !is_wrapped_;
  write(*place, txn, entries);
  if (is_empty) {
    set_begin(txn, *place);
  } else if (*place < end_) {
    write_mark(txn);
  }
  end_ = *place + bytes;
  return end_;
}

void EntryLog::drop(std::uint64_t txn, std::uint32_t end) {
  if (is_wrapped_ && end < begin()) is_wrapped_ = false;
  // Not of a later one: a commit that came to nothing leaves its number to the next.
  set_begin(txn, end);
}

}  // namespace journal
