// SPDX-License-Identifier: MIT
/// epoll with a pointer a descriptor. Cost is that of what is ready, however many
/// descriptors are idle.
#pragma once

#include <sys/epoll.h>

#include <array>
#include <cstdint>
#include <span>

#include "xenstored/unique_fd.h"

namespace xenstored {

class Poller {
 public:
  Poller();
  /// Asks for `events` (0: none for now) on `fd`; what is ready comes with `tag`.
  void add(int fd, std::uint32_t events, void* tag);
  void change(int fd, std::uint32_t events, void* tag);
  void remove(int fd);
  /// Waits until something is ready or `timeout_ms` passed (-1: for ever).
  std::span<const epoll_event> wait(int timeout_ms);

 private:
  UniqueFd epoll_;
  std::array<epoll_event, 256> ready_;
};

}  // namespace xenstored
