// SPDX-License-Identifier: MIT
#include "journal/area.h"

#include <fcntl.h>
#include <lmdb.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <memory>
#include <utility>

#include "journal/database.h"

namespace journal {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kSetAsideKept = 3;

auto system_failed(std::string message) {
  return tl::unexpected(OpenError{OpenError::Kind::kSystem, std::move(message)});
}

std::string read_small_file(int fd) {
  std::array<char, 128> bytes{};
  const ssize_t count = ::pread(fd, bytes.data(), bytes.size(), 0);
  std::string text(bytes.data(), count > 0 ? static_cast<std::size_t>(count) : 0);
  text.erase(std::find_if(text.begin(), text.end(), [](char c) { return c <= ' '; }), text.end());
  return text;
}

/// The folders set aside, by ascending number: state.<why>-<number>.
std::vector<std::pair<unsigned, fs::path>> folders_set_aside(const fs::path& area) {
  std::vector<std::pair<unsigned, fs::path>> found;
  std::error_code error;
  for (fs::directory_iterator it(area, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    const std::size_t dash = name.rfind('-');
    if (!name.starts_with("state.") || dash == std::string::npos) continue;
    unsigned number = 0;
    const char* const stop = name.data() + name.size();
    const auto parsed = std::from_chars(name.data() + dash + 1, stop, number);
    if (parsed.ec == std::errc() && parsed.ptr == stop) found.emplace_back(number, it->path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

Result<Fd, OpenError> lock_area(const fs::path& area) {
  if (::mkdir(area.c_str(), 0700) != 0 && errno != EEXIST) {
    return system_failed(system_message("cannot make " + area.string(), errno));
  }
  const fs::path file = area / kLockName;
  Fd fd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return system_failed(system_message("cannot open " + file.string(), errno));
  // A tool that reads the state of a dead server holds the lock for an instant.
  constexpr int kTries = 50;
  constexpr useconds_t kPauseUs = 20'000;
  int held = ::flock(fd.get(), LOCK_EX | LOCK_NB);
  for (int i = 0; i < kTries && held != 0 && errno == EWOULDBLOCK; ++i) {
    ::usleep(kPauseUs);
    held = ::flock(fd.get(), LOCK_EX | LOCK_NB);
  }
  if (held != 0) {
    if (errno != EWOULDBLOCK)
      return system_failed(system_message("cannot lock " + file.string(), errno));
    return tl::unexpected(OpenError{OpenError::Kind::kLocked,
                                    area.string() + " is in use by process " +
                                        read_small_file(fd.get()) + "; only one may serve it"});
  }
  // Only for the message above: an unwritten pid on a full tmpfs harms nothing.
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(fd.get(), 0) == 0) (void)!::pwrite(fd.get(), pid.data(), pid.size(), 0);
  return fd;
}

OpenError::Kind open_error_kind(Seal::Misfit misfit) {
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

Result<std::string, OpenError> read_boot_id(const fs::path& file) {
  const Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text = fd ? read_small_file(fd.get()) : std::string();
  if (text.empty()) return system_failed(system_message("no boot id in " + file.string(), errno));
  return text;
}

Result<fs::path, OpenError> set_state_aside(const fs::path& area, std::string_view why,
                                            std::vector<std::string>& notes) {
  const auto earlier = folders_set_aside(area);
  const unsigned number = earlier.empty() ? 1 : earlier.back().first + 1;
  const fs::path to = area / ("state." + std::string(why) + "-" + std::to_string(number));
  if (::rename((area / kStateName).c_str(), to.c_str()) != 0) {
    return system_failed(system_message("cannot rename the state to " + to.string(), errno));
  }
  notes.push_back("the former state is kept in " + to.string());

  const std::size_t surplus = earlier.size() + 1 - std::min(earlier.size() + 1, kSetAsideKept);
  for (std::size_t i = 0; i < surplus; ++i) {
    std::error_code ignored;  // what stays is only an old copy too many
    fs::remove_all(earlier[i].second, ignored);
    notes.push_back("removed " + earlier[i].second.string() + ", set aside long ago");
  }
  return to;
}

Result<void, OpenError> create_state(const fs::path& area, std::string_view boot_id) {
  const fs::path unfinished = area / kUnfinishedName;
  std::error_code error;
  fs::remove_all(unfinished, error);
  if (::mkdir(unfinished.c_str(), 0700) != 0) {
    return system_failed(system_message("cannot make " + unfinished.string(), errno));
  }
  const auto database = Database::create(unfinished);
  if (!database.has_value()) return system_failed(database.error());
  const auto seal = Seal::create(unfinished / kSealName, boot_id);
  if (!seal.has_value()) return system_failed(seal.error());
  if (::rename(unfinished.c_str(), (area / kStateName).c_str()) != 0) {
    return system_failed(system_message("cannot rename " + unfinished.string(), errno));
  }
  return {};
}

}  // namespace journal
