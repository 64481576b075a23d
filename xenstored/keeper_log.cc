// SPDX-License-Identifier: MIT
#include "xenstored/keeper_log.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <string_view>
#include <utility>

#include "xenstored/unique_fd.h"

namespace xenstored {
namespace {

constexpr std::size_t kLineMax = 400;

/// One datagram; syslog(3) would wait for a stuck log daemon.
void to_syslog(int priority, const char* text) {
  const UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_un address{AF_UNIX, "/dev/log"};
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return;
  }
  char line[kLineMax + 64];
  std::snprintf(line, sizeof(line), "<%d>xenstored[%d]: %s", LOG_DAEMON | priority, ::getpid(),
                text);
  ::send(fd.get(), line, std::strlen(line), MSG_NOSIGNAL);
}

/// A pipe or terminal that can take a line now takes it without waiting.
void to_fd(int fd, const char* text) {
  pollfd ready{fd, POLLOUT, 0};
  if (::poll(&ready, 1, 0) != 1 || (ready.revents & POLLOUT) == 0) return;
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  localtime_r(&now, &parts);
  char stamp[32];
  std::strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", &parts);
  char line[kLineMax + 64];
  const int length =
      std::snprintf(line, sizeof(line), "%s xenstored[%d] keeper: %s\n", stamp, ::getpid(), text);
  const auto size = std::min(static_cast<std::size_t>(length), sizeof(line) - 1);
  // A lost line is no reason to stop keeping.
  [[maybe_unused]] const ssize_t written = ::write(fd, line, size);
}

void to_file(const std::string& path, const char* text) {
  const UniqueFd fd(::open(
      path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640));
  if (fd.valid()) to_fd(fd.get(), text);
}

}  // namespace

KeeperLog::KeeperLog(std::string where) : where_(std::move(where)) {
  ::tzset();  // reads the time zone's file now, so that localtime_r need not later
}

void KeeperLog::say(int priority, const char* format, ...) {
  char text[kLineMax];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  if (to_stderr_) to_fd(STDERR_FILENO, text);
  if (where_ == "stderr") return;
  if (where_ == "syslog") {
    to_syslog(priority, text);
  } else {
    to_file(where_, text);
  }
}

}  // namespace xenstored
