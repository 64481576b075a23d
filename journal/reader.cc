// SPDX-License-Identifier: MIT
#include "journal/reader.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "journal/area.h"
#include "journal/entry_log.h"
#include "journal/pieces.h"

namespace journal {
namespace {

namespace fs = std::filesystem;

auto failed(OpenError::Kind kind, std::string message) {
  return tl::unexpected(OpenError{kind, std::move(message)});
}

/// Does a daemon hold the area's lock? Takes it for an instant, shared, which a
/// daemon that starts in that instant would notice: there is no other way to ask.
Result<void, OpenError> check_unlocked(const fs::path& area) {
  const fs::path file = area / kLockName;
  const Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd && errno == ENOENT) return {};  // a copy
  if (!fd) {
    return failed(OpenError::Kind::kSystem, system_message("cannot open " + file.string(), errno));
  }
  if (::flock(fd.get(), LOCK_SH | LOCK_NB) == 0) return {};
  return failed(OpenError::Kind::kLocked, area.string() + " is served by a running daemon");
}

}  // namespace

Result<std::vector<std::byte>, OpenError> read_pages(const fs::path& file) {
  const Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return failed(OpenError::Kind::kDamaged, file.string() + " is missing or not a file");
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(status.st_size));
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count =
        ::pread(fd.get(), bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
    if (count <= 0) {
      return failed(OpenError::Kind::kSystem,
                    system_message("cannot read " + file.string(), errno));
    }
    done += static_cast<std::size_t>(count);
  }
  bytes.resize(bytes.size() - bytes.size() % kPageBytes);
  return bytes;
}

namespace {

/// A state without the file has none.
Result<void, std::string> show_stored_entries(const fs::path& folder, std::uint64_t confirmed,
                                              RecordSink& sink) {
  const auto file = read_pages(folder / kEntriesName);
  if (!file.has_value()) return {};
  Result<void, std::string> shown;
  show_entries(file.value(), confirmed, [&](const EntryLog::Record& record) {
    shown = sink.history({record.entries, {record.txn, record.end}});
    return shown.has_value();
  });
  return shown;
}

}  // namespace

Result<StateFacts, OpenError> read_state(const fs::path& area, std::string_view state,
                                         RecordSink& sink) {
  const auto unlocked = check_unlocked(area);
  if (!unlocked.has_value()) return tl::unexpected(unlocked.error());
  const fs::path folder = area / state;
  const auto seal = Seal::open(folder / kSealName, Seal::Use::kRead);
  if (!seal.has_value()) {
    return failed(open_error_kind(seal.error().kind), seal.error().message);
  }
  if (seal.value().format() != kFormat) {
    return failed(OpenError::Kind::kOlderFormat, folder.string() + " is of an older format");
  }
  auto file = read_pages(folder / kDataName);
  if (!file.has_value()) return tl::unexpected(file.error());
  if (const auto edit = unconfirmed_commit(file.value(), seal.value().confirmed())) {
    std::memcpy(file.value().data() + edit->offset, &edit->txn, sizeof edit->txn);
  }
  const auto image = check_state(file.value(), seal.value());
  if (!image.has_value()) return failed(OpenError::Kind::kDamaged, image.error());
  auto shown = show_stored_entries(folder, seal.value().confirmed(), sink);
  if (shown.has_value()) shown = show_state(file.value(), image.value(), sink);
  if (!shown.has_value()) return failed(OpenError::Kind::kDamaged, shown.error());
  return StateFacts{seal.value().boot_id(), image.value().txn, seal.value().last_entry(),
                    file.value().size(), image.value().pages};
}

Result<Image, std::string> check_state(std::span<const std::byte> file, const Seal& seal) {
  auto image = check_image(file);
  if (!image.has_value()) return image;
  const auto sealed = seal.check(image.value().txn, image.value().digest);
  if (!sealed.has_value()) return tl::unexpected(sealed.error());
  return image;
}

Result<void, std::string> show_state(std::span<const std::byte> file, const Image& image,
                                     RecordSink& sink) {
  const std::string first_node(1, static_cast<char>(Table::kNode));
  store::Perms perms;
  PieceJoiner joiner;
  const auto show_piece = [&](std::string_view key,
                              std::string_view value) -> Result<void, std::string> {
    const auto whole = joiner.add(key, value);
    if (!whole.has_value()) return tl::unexpected(whole.error());
    if (!whole.value()) return {};
    return show_record(whole.value()->key, whole.value()->value, sink, perms);
  };
  auto shown = show_records(file, image, first_node, show_piece);
  if (shown.has_value() && joiner.is_waiting()) {
    return tl::unexpected(std::string("the last record lacks its end"));
  }
  return shown;
}

}  // namespace journal
