// SPDX-License-Identifier: MIT
#include "xenstored/poller.h"

#include <cerrno>
#include <cstdlib>

#include "xenstored/log.h"

namespace xenstored {

Poller::Poller() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (epoll_.valid()) return;
  log::error("epoll_create1 failed");
  std::abort();
}

bool Poller::add(int fd, std::uint32_t events, PollTarget* target) {
  epoll_event event{.events = events, .data = {.ptr = target}};
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

void Poller::change(int fd, std::uint32_t events, PollTarget* target) {
  epoll_event event{.events = events, .data = {.ptr = target}};
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

void Poller::remove(int fd) { epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

std::span<const epoll_event> Poller::wait(int timeout_ms) {
  const int count =
      epoll_wait(epoll_.get(), ready_.data(), static_cast<int>(ready_.size()), timeout_ms);
  return {ready_.data(), count < 0 ? 0U : static_cast<std::size_t>(count)};
}

}  // namespace xenstored
