// SPDX-License-Identifier: MIT
/// The machine of this process, the files of /proc/xen, and write() to the event
/// channels. Everything else that a program opens or writes passes through.
// NOLINTBEGIN(bugprone-reserved-identifier): the names are libc's.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "tests/simxen/preload.h"

namespace simxen {

SharedState* current_machine() {
  static std::mutex mutex;
  static std::vector<std::unique_ptr<SharedState>> machines;
  const char* dir = std::getenv("SIMXEN");
  if (dir == nullptr) {
    errno = ENOENT;
    return nullptr;
  }
  const std::lock_guard lock(mutex);
  for (const auto& machine : machines) {
    if (machine->dir() == dir) return machine.get();
  }
  auto machine = SharedState::open(dir);
  if (!machine) return nullptr;
  machines.push_back(std::move(machine));
  return machines.back().get();
}

namespace {

/// The last part of `path`, with its slash, in the directory that a variable names.
std::string moved_to(const char* variable, std::string_view path) {
  const char* dir = std::getenv(variable);
  return dir == nullptr ? std::string() : dir + std::string(path.substr(path.rfind('/')));
}

/// Where the file is that a program gets when it asks for this one; empty: there.
/// The machine has what dom0's kernel has for xenstored, and the greatest limit of
/// open files, which oxenstored must be able to set. Oxenstored's own files, whose
/// places it cannot be told, are where C xenstored would have them.
std::string redirected(const char* path) {
  const std::string_view asked(path == nullptr ? "" : path);
  if (asked.starts_with("/proc/xen/") || asked == "/proc/sys/fs/nr_open") {
    return moved_to("SIMXEN", asked);
  }
  if (asked.starts_with("/var/run/xenstored/") || asked.starts_with("/var/run/xen/") ||
      asked.starts_with("/var/log/xen/")) {
    return moved_to("XENSTORED_RUNDIR", asked);
  }
  return {};
}

int open_redirected(int at, const char* path, int flags, mode_t mode) {
  const std::string other = redirected(path);
  if (!other.empty()) path = other.c_str();
  return static_cast<int>(syscall(SYS_openat, at, path, flags, mode));
}

FILE* fopen_redirected(const char* name, const char* path, const char* mode) {
  using Function = FILE* (*)(const char*, const char*);
  const auto next = reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
  const std::string other = redirected(path);
  return next(other.empty() ? path : other.c_str(), mode);
}

bool takes_mode(int flags) { return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE; }

}  // namespace
}  // namespace simxen

using simxen::open_redirected;

/// The mode is there only with some flags.
#define SIMXEN_MODE_AFTER(flags)      \
  mode_t mode = 0;                    \
  if (simxen::takes_mode(flags)) {    \
    va_list arguments;                \
    va_start(arguments, flags);       \
    mode = va_arg(arguments, mode_t); \
    va_end(arguments);                \
  }

SIMXEN_REPLACES int open(const char* path, int flags, ...) {
  SIMXEN_MODE_AFTER(flags)
  return open_redirected(AT_FDCWD, path, flags, mode);
}

SIMXEN_REPLACES int open64(const char* path, int flags, ...) {
  SIMXEN_MODE_AFTER(flags)
  return open_redirected(AT_FDCWD, path, flags, mode);
}

SIMXEN_REPLACES int openat(int at, const char* path, int flags, ...) {
  SIMXEN_MODE_AFTER(flags)
  return open_redirected(at, path, flags, mode);
}

SIMXEN_REPLACES int openat64(int at, const char* path, int flags, ...) {
  SIMXEN_MODE_AFTER(flags)
  return open_redirected(at, path, flags, mode);
}

// What a program built with _FORTIFY_SOURCE calls when it gives no mode.
SIMXEN_REPLACES int __open_2(const char* path, int flags) {
  return open_redirected(AT_FDCWD, path, flags, 0);
}

SIMXEN_REPLACES int __open64_2(const char* path, int flags) {
  return open_redirected(AT_FDCWD, path, flags, 0);
}

SIMXEN_REPLACES FILE* fopen(const char* path, const char* mode) {
  return simxen::fopen_redirected("fopen", path, mode);
}

SIMXEN_REPLACES FILE* fopen64(const char* path, const char* mode) {
  return simxen::fopen_redirected("fopen64", path, mode);
}

SIMXEN_REPLACES int access(const char* path, int mode) noexcept {
  const std::string other = simxen::redirected(path);
  return static_cast<int>(syscall(SYS_access, other.empty() ? path : other.c_str(), mode));
}

SIMXEN_REPLACES int unlink(const char* path) noexcept {
  const std::string other = simxen::redirected(path);
  return static_cast<int>(syscall(SYS_unlink, other.empty() ? path : other.c_str()));
}

SIMXEN_REPLACES int bind(int fd, const sockaddr* address, socklen_t length) noexcept {
  sockaddr_un moved{};
  if (address->sa_family == AF_UNIX && length <= sizeof moved) {
    std::memcpy(&moved, address, length);
    const std::string other = simxen::redirected(moved.sun_path);
    if (!other.empty() && other.size() < sizeof moved.sun_path) {
      other.copy(moved.sun_path, other.size());
      moved.sun_path[other.size()] = '\0';
      address = reinterpret_cast<const sockaddr*>(&moved);
      length = sizeof moved;
    }
  }
  return static_cast<int>(syscall(SYS_bind, fd, address, length));
}

SIMXEN_REPLACES ssize_t write(int fd, const void* bytes, size_t count) {
  if (const auto taken = simxen::write_to_events(fd, bytes, count)) return *taken;
  return syscall(SYS_write, fd, bytes, count);
}
// NOLINTEND(bugprone-reserved-identifier)
