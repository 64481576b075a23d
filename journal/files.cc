// SPDX-License-Identifier: MIT
#include "journal/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "journal/system.h"

namespace journal {
namespace {

namespace fs = std::filesystem;

constexpr mode_t kFileMode = 0644;
constexpr int kLockTries = 50;
constexpr useconds_t kLockPauseUs = 10'000;
constexpr time_t kForgottenSeconds = 10;

auto call_failed(std::string_view doing, const fs::path& file) {
  return tl::unexpected(
      system_message("cannot " + std::string(doing) + " " + file.string(), errno));
}

bool write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

bool is_forgotten(const fs::path& lock) {
  struct stat facts {};
  return ::stat(lock.c_str(), &facts) == 0 && ::time(nullptr) - facts.st_mtime > kForgottenSeconds;
}

Result<Fd, std::string> open_lock(const fs::path& lock) {
  for (int i = 0;; ++i) {
    Fd fd(::open(lock.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kFileMode));
    if (fd) return fd;
    if (errno != EEXIST || i == kLockTries) return call_failed("make", lock);
    if (is_forgotten(lock)) ::unlink(lock.c_str());
    ::usleep(kLockPauseUs);
  }
}

}  // namespace

std::uint64_t pages_of(const fs::path& file) {
  struct stat facts {};
  if (::lstat(file.c_str(), &facts) != 0) return 0;
  return in_pages(static_cast<std::uint64_t>(facts.st_size));
}

Result<void, std::string> make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (!error && fs::is_directory(folder, error)) return {};
  return tl::unexpected("cannot make the folder " + folder.string() + ": " + error.message());
}

Result<void, std::string> write_pieces(const fs::path& file,
                                       std::initializer_list<std::string_view> pieces) {
  const Fd fd(
      ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, kFileMode));
  if (!fd) return call_failed("make", file);
  for (const std::string_view piece : pieces) {
    if (write_all(fd.get(), piece)) continue;
    auto failure = call_failed("write", file);
    ::unlink(file.c_str());
    return failure;
  }
  return {};
}

Result<void, std::string> rename_file(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) return call_failed("rename", from);
  return {};
}

Result<void, std::string> remove_file(const fs::path& file) {
  if (::unlink(file.c_str()) != 0 && errno != ENOENT) return call_failed("remove", file);
  return {};
}

Result<void, std::string> copy_into_place(const fs::path& from, const fs::path& to) {
  // A name that git takes for rubbish, should we not come to the renaming.
  const fs::path aside = to.parent_path() / "tmp_history_copy";
  std::error_code error;
  fs::copy_file(from, aside, fs::copy_options::overwrite_existing, error);
  if (error) {
    std::error_code ignored;
    fs::remove(aside, ignored);
    return tl::unexpected("cannot copy " + from.string() + " to " + to.string() + ": " +
                          error.message());
  }
  return rename_file(aside, to);
}

std::optional<std::string> read_text(const fs::path& file, std::size_t max) {
  const Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat facts {};
  if (!fd || ::fstat(fd.get(), &facts) != 0 || !S_ISREG(facts.st_mode)) return std::nullopt;
  if (static_cast<std::uint64_t>(facts.st_size) > max) return std::nullopt;
  std::string text(static_cast<std::size_t>(facts.st_size), '\0');
  const ssize_t count = ::pread(fd.get(), text.data(), text.size(), 0);
  if (count < 0) return std::nullopt;
  text.resize(static_cast<std::size_t>(count));
  return text;
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

Result<void, std::string> replace_locked(const fs::path& file, std::string_view text) {
  const fs::path lock = file.string() + ".lock";
  auto fd = open_lock(lock);
  if (!fd.has_value()) return tl::unexpected(fd.error());
  if (!write_all(fd.value().get(), text)) {
    auto failure = call_failed("write", lock);
    ::unlink(lock.c_str());
    return failure;
  }
  return rename_file(lock, file);
}

}  // namespace journal
