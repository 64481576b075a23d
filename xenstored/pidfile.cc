// SPDX-License-Identifier: MIT
#include "xenstored/pidfile.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace xenstored {
namespace {

bool write_number(int fd, pid_t pid) {
  const std::string text = std::to_string(pid) + "\n";
  return ::ftruncate(fd, 0) == 0 &&
         ::pwrite(fd, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size());
}

/// Whether `fd` is still what `path` names: its owner may have removed the file
/// between our opening and our locking it.
bool is_at(int fd, const std::string& path) {
  struct stat held {};
  struct stat named {};
  return ::fstat(fd, &held) == 0 && ::stat(path.c_str(), &named) == 0 &&
         held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

}  // namespace

store::Result<PidFile, std::string> PidFile::take(const std::string& path) {
  PidFile file;
  if (path.empty()) return file;
  file.path_ = path;
  do {
    file.fd_.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    if (!file.fd_.valid()) {
      return tl::unexpected("cannot write the pid file " + path + ": " + std::strerror(errno));
    }
    if (::flock(file.fd_.get(), LOCK_EX | LOCK_NB) != 0) {
      return tl::unexpected("the pid file " + path + " belongs to a running daemon");
    }
  } while (!is_at(file.fd_.get(), path));
  // What counts is the lock: on a full tmpfs the number is missing.
  (void)write_number(file.fd_.get(), ::getpid());
  return file;
}

void PidFile::remove() {
  if (!fd_.valid()) return;
  ::unlink(path_.c_str());
  fd_.reset();
}

bool write_pid(const std::string& path, pid_t pid) {
  const std::string fresh = path + ".new";
  const UniqueFd fd(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  return fd.valid() && write_number(fd.get(), pid) && std::rename(fresh.c_str(), path.c_str()) == 0;
}

}  // namespace xenstored
