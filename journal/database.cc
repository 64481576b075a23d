// SPDX-License-Identifier: MIT
#include "journal/database.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "journal/area.h"
#include "journal/image.h"
#include "journal/pieces.h"

namespace journal {

using store::Result;

namespace {

constexpr std::uint64_t kFirstBytes = std::uint64_t{1} << 20;
// README.md says of each flag why it is, or is not, here.
constexpr unsigned kFlags = MDB_NOSYNC | MDB_WRITEMAP | MDB_NOLOCK | MDB_NOTLS;
// LMDB's own table 0: the free list.
constexpr MDB_dbi kFreeList = 0;

MDB_val as_val(std::string_view text) {
  return {.mv_size = text.size(), .mv_data = const_cast<char*>(text.data())};
}

std::string_view as_text(const MDB_val& val) {
  return {static_cast<const char*>(val.mv_data), val.mv_size};
}

auto lmdb_failed(std::string_view what, int code) {
  return tl::unexpected(std::string(what) + ": " + mdb_strerror(code));
}

/// 0, or the errno of a failure. Unlike posix_fallocate it never writes instead.
int allocate(int fd, std::uint64_t bytes) {
  // A tmpfs takes its time to find that nothing is missing.
  struct stat status {};
  if (::fstat(fd, &status) == 0 && static_cast<std::uint64_t>(status.st_size) >= bytes &&
      static_cast<std::uint64_t>(status.st_blocks) * 512 >= bytes) {
    return 0;
  }
  while (::fallocate(fd, 0, 0, static_cast<off_t>(bytes)) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

/// Removes a piece, if it is there, and says whether another one follows it.
int erase_piece(MDB_cursor* cursor, std::string_view key_text, bool& goes_on, Digest& digest) {
  MDB_val key = as_val(key_text);
  MDB_val value{};
  goes_on = false;
  const int code = mdb_cursor_get(cursor, &key, &value, MDB_SET);
  if (code == MDB_NOTFOUND) return 0;
  if (code != 0) return code;
  const std::string_view old = as_text(value);
  goes_on = old.size() == kPieceMax;
  digest.remove(hash_record(hash_key(key_text), old));
  return mdb_cursor_del(cursor, 0);
}

int erase(MDB_cursor* cursor, std::string_view key, Digest& digest) {
  bool goes_on = false;
  int code = erase_piece(cursor, key, goes_on, digest);
  if (!goes_on) return code;
  PieceKey keys(key);
  while (code == 0 && goes_on) code = erase_piece(cursor, keys.next(), goes_on, digest);
  return code;
}

/// Asked first because a fallocate that fails takes and returns all that is left.
bool file_system_has(int fd, std::uint64_t bytes) {
  struct statvfs status {};
  return ::fstatvfs(fd, &status) == 0 && status.f_bavail * status.f_frsize >= bytes;
}

}  // namespace

void Batch::add(bool is_erase) {
  changes_.push_back({.key = end_, .value = key_end_, .end = bytes_.size(), .is_erase = is_erase});
  end_ = bytes_.size();
}

Batch::Change Batch::operator[](std::size_t i) const {
  const Place& place = changes_[i];
  const std::string_view all = bytes_;
  return {.key = all.substr(place.key, place.value - place.key),
          .value = all.substr(place.value, place.end - place.value),
          .is_erase = place.is_erase};
}

void Batch::clear() {
  bytes_.clear();
  changes_.clear();
  key_end_ = end_ = 0;
}

Result<void, std::string> Database::create(const std::filesystem::path& folder) {
  // LMDB takes only an empty file for a new one, so it goes first. It writes the
  // two meta pages with pwrite, and touches the map not before a transaction.
  const auto made = open(folder, kFirstBytes);
  if (!made.has_value()) return tl::unexpected(made.error());
  return {};
}

Result<std::unique_ptr<Database>, std::string> Database::open(const std::filesystem::path& folder,
                                                              std::uint64_t bytes) {
  MDB_env* env = nullptr;
  if (const int code = mdb_env_create(&env); code != 0) return lmdb_failed("mdb_env_create", code);
  std::unique_ptr<Database> database(new Database(env));
  mdb_env_set_mapsize(env, bytes);
  if (const int code = mdb_env_open(env, folder.c_str(), kFlags, 0600); code != 0) {
    return lmdb_failed("mdb_env_open " + folder.string(), code);
  }
  int fd = -1;
  mdb_env_get_fd(env, &fd);
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);  // LMDB forgets it
  // A no-op, except for a new file or one that was copied and has got holes.
  if (const int error = allocate(fd, bytes); error != 0) {
    return tl::unexpected(system_message("cannot allocate " + folder.string(), error));
  }
  MDB_txn* txn = nullptr;
  if (const int code = mdb_txn_begin(env, nullptr, MDB_RDONLY, &txn); code != 0) {
    return lmdb_failed("mdb_txn_begin", code);
  }
  const int code = mdb_dbi_open(txn, nullptr, 0, &database->table_);
  mdb_txn_abort(txn);
  if (code != 0) return lmdb_failed("mdb_dbi_open", code);
  database->note_pages();
  // Short memory is to be told from a damaged state.
  if (database->bytes().empty()) {
    return tl::unexpected(system_message("cannot map the database a second time", errno));
  }
  return database;
}

Database::~Database() { mdb_env_close(env_); }

std::span<const std::byte> Database::bytes() const {
  // A second mapping: LMDB tells the address of its own only when it is fixed.
  int fd = -1;
  mdb_env_get_fd(env_, &fd);
  const std::size_t size = (pages_.file - pages_.tail) * kPageBytes;
  if (view_.size() != size) view_ = map_shared(fd, size);
  return {static_cast<const std::byte*>(view_.begin()), view_.begin() == nullptr ? 0 : size};
}

void Database::note_pages() {
  MDB_envinfo info{};
  mdb_env_info(env_, &info);
  MDB_stat stat{};
  mdb_env_stat(env_, &stat);
  const std::uint64_t file = info.me_mapsize / kPageBytes;
  // LMDB never gives out the very last page of the map.
  const std::uint64_t used = info.me_last_pgno + 2;
  pages_ = {.tail = file - std::min(file, used),
            .file = file,
            .branch = stat.ms_branch_pages,
            .leaf = stat.ms_leaf_pages,
            .depth = stat.ms_depth};
  last_txn_ = info.me_last_txnid;
  reusable_.reset();
}

Result<bool, std::string> Database::grow(std::uint64_t bytes) {
  int fd = -1;
  mdb_env_get_fd(env_, &fd);
  const std::uint64_t present = pages_.file * kPageBytes;
  if (!file_system_has(fd, bytes - present)) return false;
  if (const int error = allocate(fd, bytes); error != 0) {
    // What it got before it failed goes back; where it cannot, the rule that the
    // map is as large as the file is broken.
    if (::ftruncate(fd, static_cast<off_t>(present)) == 0) return false;
    return tl::unexpected(system_message("cannot grow the state", error));
  }
  if (const int code = mdb_env_set_mapsize(env_, bytes); code != 0) {
    return lmdb_failed("mdb_env_set_mapsize", code);
  }
  note_pages();
  return true;
}

std::uint64_t Database::reusable_pages() {
  if (reusable_) return *reusable_;
  MDB_txn* txn = nullptr;
  if (mdb_txn_begin(env_, nullptr, MDB_RDONLY, &txn) != 0) return 0;
  MDB_cursor* cursor = nullptr;
  std::uint64_t total = 0;
  if (mdb_cursor_open(txn, kFreeList, &cursor) == 0) {
    MDB_val key{};
    MDB_val list{};
    while (mdb_cursor_get(cursor, &key, &list, MDB_NEXT) == 0) {
      std::uint64_t freed_by = 0;
      std::memcpy(&freed_by, key.mv_data, sizeof freed_by);
      // Pages freed by the last transaction still belong to the one before it,
      // which must survive until the next has been committed.
      if (freed_by >= last_txn_) break;
      std::uint64_t count = 0;
      std::memcpy(&count, list.mv_data, sizeof count);
      total += count;
    }
    mdb_cursor_close(cursor);
  }
  mdb_txn_abort(txn);
  reusable_ = total;
  return total;
}

int Database::put_piece(MDB_cursor* cursor, std::string_view key_text, std::string_view piece,
                        bool& former_goes_on, Digest& digest) {
  MDB_val key = as_val(key_text);
  MDB_val value = as_val(piece);
  const std::uint64_t key_hash = hash_key(key_text);
  former_goes_on = false;
  if (key_text > last_key_) {
    last_key_ = key_text;
    digest.add(hash_record(key_hash, piece));
    return mdb_cursor_put(cursor, &key, &value, MDB_APPEND);
  }
  // One search for both cases: the cursor is left on a record that is there.
  const int code = mdb_cursor_put(cursor, &key, &value, MDB_NOOVERWRITE);
  if (code == MDB_KEYEXIST) {
    const std::string_view old = as_text(value);
    former_goes_on = old.size() == kPieceMax;
    if (old == piece) return 0;
    digest.remove(hash_record(key_hash, old));
    digest.add(hash_record(key_hash, piece));
    value = as_val(piece);
    return mdb_cursor_put(cursor, &key, &value, MDB_CURRENT);
  }
  if (code == 0) digest.add(hash_record(key_hash, piece));
  return code;
}

int Database::put(MDB_cursor* cursor, const Batch::Change& change, Digest& digest) {
  bool former_goes_on = false;
  const int code =
      put_piece(cursor, change.key, change.value.substr(0, kPieceMax), former_goes_on, digest);
  if (code != 0 || (change.value.size() < kPieceMax && !former_goes_on)) return code;
  return put_further(cursor, change, former_goes_on, digest);
}

/// All pieces but the first; and away with those that the former value has more.
int Database::put_further(MDB_cursor* cursor, const Batch::Change& change, bool former_goes_on,
                          Digest& digest) {
  PieceKey keys(change.key);
  std::string_view rest = change.value;
  int code = 0;
  while (code == 0 && (rest.size() >= kPieceMax || former_goes_on)) {
    const std::string_view key = keys.next();
    if (rest.size() >= kPieceMax) {
      rest.remove_prefix(kPieceMax);
      code = put_piece(cursor, key, rest.substr(0, kPieceMax), former_goes_on, digest);
    } else {
      code = erase_piece(cursor, key, former_goes_on, digest);
    }
  }
  return code;
}

int Database::apply(MDB_txn* txn, const Batch& batch, Digest& digest) {
  MDB_cursor* cursor = nullptr;
  int code = mdb_cursor_open(txn, table_, &cursor);
  for (std::size_t i = 0; code == 0 && i < batch.size(); ++i) {
    const Batch::Change change = batch[i];
    code = change.is_erase ? erase(cursor, change.key, digest) : put(cursor, change, digest);
  }
  return code;
}

Result<void, std::string> Database::commit(const Batch& batch, Digest& digest, Seal& seal,
                                           std::uint64_t last_entry) {
  MDB_txn* txn = nullptr;
  if (const int code = mdb_txn_begin(env_, nullptr, 0, &txn); code != 0) {
    return lmdb_failed("mdb_txn_begin", code);
  }
  // The cursor goes with the transaction, however that ends.
  if (const int code = apply(txn, batch, digest); code != 0) {
    mdb_txn_abort(txn);
    return lmdb_failed("a change of the state", code);
  }
  seal.prepare(mdb_txn_id(txn), digest, last_entry);
  if (const int code = mdb_txn_commit(txn); code != 0) {
    return lmdb_failed("the commit of the state", code);
  }
  // Not the number from above: a transaction that changed nothing is not made.
  note_pages();
  seal.confirm(last_txn_);
  return {};
}

}  // namespace journal
