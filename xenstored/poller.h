// SPDX-License-Identifier: MIT
/// epoll with a target a descriptor. Cost is that of what is ready, however many
/// descriptors are idle.
#pragma once

#include <sys/epoll.h>

#include <array>
#include <cstdint>
#include <span>

#include "xenstored/unique_fd.h"

namespace xenstored {

/// What an event is for; the base of either kind.
struct PollTarget {
  enum class Kind : std::uint8_t { kSource, kConnection };
  Kind kind;
};

class Poller {
 public:
  Poller();
  /// Asks for `events` (0: none for now) on `fd`; what is ready comes with `target`.
  /// False: the system has no room for another.
  [[nodiscard]] bool add(int fd, std::uint32_t events, PollTarget* target);
  void change(int fd, std::uint32_t events, PollTarget* target);
  void remove(int fd);
  /// Waits until something is ready or `timeout_ms` passed (-1: for ever).
  std::span<const epoll_event> wait(int timeout_ms);

 private:
  UniqueFd epoll_;
  std::array<epoll_event, 256> ready_;
};

}  // namespace xenstored
