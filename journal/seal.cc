// SPDX-License-Identifier: MIT
#include "journal/seal.h"

#define XXH_INLINE_ALL
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>

namespace journal {

using store::Result;

namespace {

constexpr std::array<char, 8> kMagic = {'X', 'S', 'J', 'O', 'U', 'R', 'N', '\n'};
constexpr std::size_t kFileBytes = 4096;

}  // namespace

/// The file as it is mapped. The first 64 bytes are the same in every format,
/// so that an older daemon can tell a newer state from a damaged one.
struct Seal::Page {
  std::array<char, 8> magic;
  std::uint32_t format;
  std::uint32_t zero;
  std::array<char, 40> boot_id;  // padded with NULs
  std::uint64_t header_hash;     // of the 56 bytes before it

  // The last transaction whose commit returned. Its slot and the one of the
  // next, perhaps begun, are both kept: txn & 1 chooses.
  std::uint64_t confirmed;
  struct Slot {
    std::uint64_t txn;
    std::uint64_t sum;
    std::uint64_t count;
  };
  std::array<Slot, 2> slots;

  std::uint64_t hash_of_header() const { return XXH3_64bits(this, offsetof(Page, header_hash)); }
};

std::uint64_t hash_record(std::string_view key, std::string_view value) {
  return XXH3_64bits_withSeed(value.data(), value.size(), XXH3_64bits(key.data(), key.size()));
}

Seal::Page& Seal::page() const { return *static_cast<Page*>(mapping_.begin()); }

Result<void, std::string> Seal::create(const std::filesystem::path& file,
                                       std::string_view boot_id) {
  static_assert(offsetof(Page, header_hash) == 56 && offsetof(Page, confirmed) == 64 &&
                sizeof(Page) == 120);
  Page page{};
  if (boot_id.size() > page.boot_id.size()) {
    return tl::unexpected(std::string("the boot id is too long to be one"));
  }
  page.magic = kMagic;
  page.format = kFormat;
  std::memcpy(page.boot_id.data(), boot_id.data(), boot_id.size());
  page.header_hash = page.hash_of_header();

  // Written in full, so that no store into its map can find the tmpfs full.
  std::array<char, kFileBytes> bytes{};
  std::memcpy(bytes.data(), &page, sizeof page);
  const Fd fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd || ::write(fd.get(), bytes.data(), bytes.size()) != ssize_t{kFileBytes}) {
    return tl::unexpected(system_message("cannot write " + file.string(), errno));
  }
  return {};
}

Result<Seal, Seal::Error> Seal::open(const std::filesystem::path& file) {
  const auto damaged = [&](std::string_view what) {
    return tl::unexpected(Error{Misfit::kDamaged, file.string() + ": " + std::string(what)});
  };
  const Fd fd(::open(file.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!fd && errno == ENOENT) return damaged("is missing");
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0) {
    return tl::unexpected(
        Error{Misfit::kSystem, system_message("cannot open " + file.string(), errno)});
  }
  if (!S_ISREG(status.st_mode) || status.st_size != off_t{kFileBytes}) {
    return damaged("is not a file of 4096 bytes");
  }
  Mapping mapping = map_shared(fd.get(), kFileBytes);
  if (mapping.begin() == nullptr) {
    return tl::unexpected(
        Error{Misfit::kSystem, system_message("cannot map " + file.string(), errno)});
  }
  const Page& page = *static_cast<const Page*>(mapping.begin());
  if (page.magic != kMagic) return damaged("is not a seal");
  if (page.header_hash != page.hash_of_header()) return damaged("has a damaged header");
  if (page.format > kFormat) {
    return tl::unexpected(Error{Misfit::kNewerFormat,
                                "the state in " + file.parent_path().string() + " has format " +
                                    std::to_string(page.format) +
                                    ", written by a newer xenstored; this one knows only format " +
                                    std::to_string(kFormat)});
  }
  if (page.format != kFormat) return damaged("has an impossible format number");
  std::string boot_id(page.boot_id.data(), ::strnlen(page.boot_id.data(), page.boot_id.size()));
  return Seal(std::move(mapping), std::move(boot_id));
}

// The compiler may not move these stores across the commit between them. The
// processor need not be told: what a killed process stored, it stored in order.

void Seal::prepare(std::uint64_t txn, const Digest& digest) {
  page().slots[txn & 1] = {.txn = txn, .sum = digest.sum, .count = digest.count};
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

void Seal::confirm(std::uint64_t txn) {
  std::atomic_signal_fence(std::memory_order_seq_cst);
  page().confirmed = txn;
}

Result<void, std::string> Seal::check(std::uint64_t txn, const Digest& digest) const {
  const Page& sealed = page();
  if (txn < sealed.confirmed) {
    return tl::unexpected("the database is at commit " + std::to_string(txn) + ", but commit " +
                          std::to_string(sealed.confirmed) + " was made");
  }
  const Page::Slot& slot = sealed.slots[txn & 1];
  if (txn - sealed.confirmed > 1 || slot.txn != txn) {
    return tl::unexpected("the database is at commit " + std::to_string(txn) +
                          ", which the seal does not know");
  }
  if (slot.count != digest.count) {
    return tl::unexpected("the database has " + std::to_string(digest.count) +
                          " records, but should have " + std::to_string(slot.count));
  }
  if (slot.sum != digest.sum) {
    return tl::unexpected(std::string("the records of the database are not those committed"));
  }
  return {};
}

}  // namespace journal
