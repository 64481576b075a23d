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

constexpr std::array<char, 8> kSealMagic = {'X', 'S', 'J', 'O', 'U', 'R', 'N', '\n'};
constexpr std::size_t kSealBytes = 4096;

}  // namespace

/// The file as it is mapped. The first 64 bytes are the same in every format,
/// so that an older daemon can tell a newer state from a damaged one.
struct Seal::Page {
  std::array<char, 8> magic;
  std::uint32_t format;
  std::uint32_t zero;
  std::array<char, 40> boot_id;  // padded with NULs
  std::uint64_t header_hash;     // of the 56 bytes before it

  // The last transaction that has happened. Its slot and the one of the next,
  // perhaps begun, are both kept: txn & 1 chooses.
  std::uint64_t confirmed;
  struct Slot {
    std::uint64_t txn;
    std::uint64_t sum;
    std::uint64_t count;
    std::uint64_t last_entry;
  };
  std::array<Slot, 2> slots;
  std::uint64_t confirmed_too;  // written after `confirmed`: a flipped bit shows

  std::uint64_t hash_of_header() const { return XXH3_64bits(this, offsetof(Page, header_hash)); }
};

std::uint64_t hash_key(std::string_view key) { return XXH3_64bits(key.data(), key.size()); }

std::uint64_t hash_record(std::uint64_t key_hash, std::string_view value) {
  return XXH3_64bits_withSeed(value.data(), value.size(), key_hash);
}

Seal::Page& Seal::page() const { return *static_cast<Page*>(mapping_.begin()); }

Result<void, std::string> Seal::create(const std::filesystem::path& file,
                                       std::string_view boot_id) {
  static_assert(offsetof(Page, header_hash) == 56 && offsetof(Page, confirmed) == 64 &&
                sizeof(Page) == 144);
  Page page{};
  if (boot_id.size() > page.boot_id.size()) {
    return tl::unexpected(std::string("the boot id is too long to be one"));
  }
  page.magic = kSealMagic;
  page.format = kFormat;
  std::memcpy(page.boot_id.data(), boot_id.data(), boot_id.size());
  page.header_hash = page.hash_of_header();

  // Written in full, so that no store into its map can find the tmpfs full.
  std::array<char, kSealBytes> bytes{};
  std::memcpy(bytes.data(), &page, sizeof page);
  const Fd fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd || ::write(fd.get(), bytes.data(), bytes.size()) != ssize_t{kSealBytes}) {
    return tl::unexpected(system_message("cannot write " + file.string(), errno));
  }
  return {};
}

Result<Seal, Seal::Error> Seal::open(const std::filesystem::path& file, Use use) {
  const auto damaged = [&](std::string_view what) {
    return tl::unexpected(Error{Misfit::kDamaged, file.string() + ": " + std::string(what)});
  };
  const Fd fd(
      ::open(file.c_str(), (use == Use::kServe ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW));
  if (!fd && errno == ENOENT) return damaged("is missing");
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0) {
    return tl::unexpected(
        Error{Misfit::kSystem, system_message("cannot open " + file.string(), errno)});
  }
  if (!S_ISREG(status.st_mode) || status.st_size != off_t{kSealBytes}) {
    return damaged("is not a file of 4096 bytes");
  }
  Mapping mapping =
      use == Use::kServe ? map_shared(fd.get(), kSealBytes) : map_private(fd.get(), kSealBytes);
  if (mapping.begin() == nullptr) {
    return tl::unexpected(
        Error{Misfit::kSystem, system_message("cannot map " + file.string(), errno)});
  }
  const Page& page = *static_cast<const Page*>(mapping.begin());
  if (page.magic != kSealMagic) return damaged("is not a seal");
  if (page.header_hash != page.hash_of_header()) return damaged("has a damaged header");
  if (page.format > kFormat) {
    return tl::unexpected(Error{Misfit::kNewerFormat,
                                "the state in " + file.parent_path().string() + " has format " +
                                    std::to_string(page.format) +
                                    ", written by a newer xenstored; this one knows only format " +
                                    std::to_string(kFormat)});
  }
  if (page.format == 0) return damaged("has an impossible format number");
  std::string boot_id(page.boot_id.data(), ::strnlen(page.boot_id.data(), page.boot_id.size()));
  return Seal(std::move(mapping), std::move(boot_id));
}

std::uint32_t Seal::format() const { return page().format; }

// The compiler may not move these stores across the commit between them. The
// processor need not be told: what a killed process stored, it stored in order.

void Seal::prepare(std::uint64_t txn, const Digest& digest, std::uint64_t last_entry) {
  page().slots[txn & 1] = {
      .txn = txn, .sum = digest.sum, .count = digest.count, .last_entry = last_entry};
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

std::uint64_t Seal::confirmed() const { return page().confirmed; }

std::uint64_t Seal::last_entry() const { return page().slots[page().confirmed & 1].last_entry; }

void Seal::confirm(std::uint64_t txn) {
  std::atomic_signal_fence(std::memory_order_seq_cst);
  // A server killed between the two stores below has left them one apart.
  page().confirmed_too = page().confirmed;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  page().confirmed = txn;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  page().confirmed_too = txn;
}

Result<void, std::string> Seal::check(std::uint64_t txn, const Digest& digest) const {
  const Page& sealed = page();
  if (sealed.confirmed - sealed.confirmed_too > 1) {
    return tl::unexpected(std::string("the seal contradicts itself about the last commit"));
  }
  if (txn < sealed.confirmed) {
    return tl::unexpected("the database is at commit " + std::to_string(txn) + ", but commit " +
                          std::to_string(sealed.confirmed) + " was made");
  }
  const Page::Slot& slot = sealed.slots[txn & 1];
  if (txn != sealed.confirmed || slot.txn != txn) {
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
