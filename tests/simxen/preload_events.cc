// SPDX-License-Identifier: MIT
/// libxenevtchn, as Linux does it: ports with an event are read from a file, each
/// stays masked until it is written back.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
extern "C" {  // this header does not say it itself
#include <xenevtchn.h>
}

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "tests/simxen/preload.h"

struct xenevtchn_handle {
  simxen::SharedState& machine;
  const int fd;
  const std::uint32_t number;
};

namespace simxen {
namespace {

/// Lower ports are somebody else's in dom0.
constexpr std::uint32_t kFirstLocalPort = 8;
/// Linux takes no more of one write(), a page.
constexpr std::size_t kMaxWrite = 4096;

/// The handles of this process, for write(), which only knows the descriptor.
std::array<std::atomic<xenevtchn_handle*>, 16> open_handles;

int fail(int error) {
  errno = error;
  return -1;
}

xenevtchn_handle* remember(std::unique_ptr<xenevtchn_handle> handle) {
  for (auto& slot : open_handles) {
    xenevtchn_handle* empty = nullptr;
    if (slot.compare_exchange_strong(empty, handle.get())) return handle.release();
  }
  errno = EMFILE;
  return nullptr;
}

void forget(const xenevtchn_handle* handle) {
  for (auto& slot : open_handles) {
    if (slot.load() == handle) slot.store(nullptr);
  }
}

/// Gives back the local ports that the dead had, and takes away their files.
void sweep(SharedState& machine) {
  std::unordered_set<std::uint32_t> alive;
  std::unordered_set<std::uint32_t> dead;
  for (auto& port : machine->locals) {
    LocalWord seen = port.load();
    if (seen.kind == kFreePort) continue;
    const auto handle = static_cast<std::uint32_t>(seen.handle);
    if (!alive.contains(handle) && !dead.contains(handle)) {
      (machine.is_alive(handle) ? alive : dead).insert(handle);
    }
    if (dead.contains(handle)) port.compare_exchange_strong(seen, LocalWord{});
  }
  for (const std::uint32_t handle : dead) unlink(machine.file("handle", handle).c_str());
}

bool lock_as_holder(int fd) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

std::uint32_t number_of_file(int fd) {
  std::array<char, PATH_MAX> target{};
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  if (readlink(link.c_str(), target.data(), target.size() - 1) < 0) return 0;
  const std::string_view path(target.data());
  const std::size_t at = path.rfind("/handle-");
  if (at == std::string_view::npos) return 0;
  return static_cast<std::uint32_t>(std::strtoul(target.data() + at + 8, nullptr, 10));
}

std::uint32_t allocate(SharedState& machine, const LocalWord& word) {
  for (std::uint32_t local = kFirstLocalPort; local < kLocalPorts; ++local) {
    LocalWord empty{};
    if (machine->locals[local].compare_exchange_strong(empty, word)) return local;
  }
  return 0;
}

LocalWord word_for(const xenevtchn_handle& handle, PortKind kind) {
  LocalWord word{};
  word.kind = kind & 3U;
  word.handle = handle.number & kMaxHandle;
  return word;
}

EndWord end_for(std::uint32_t local, const LocalWord& word) {
  EndWord end{};
  end.kind = word.kind;
  end.handle = word.handle;
  end.local = local & (kLocalPorts - 1);
  end.life = word.life;
  return end;
}

bool is_ours(const xenevtchn_handle& handle, std::uint32_t local) {
  if (local >= kLocalPorts) return false;
  const LocalWord word = handle.machine->locals[local].load();
  return word.kind != kFreePort && word.handle == handle.number;
}

/// The other end first: until it is free too, the local port is not anybody else's.
void release_far_end(SharedState& machine, std::uint32_t local, const LocalWord& word) {
  EndWord end = end_for(local, word);
  if (word.kind == kVirqPort) {
    machine->domain_exceptions.compare_exchange_strong(end, EndWord{});
  } else if (word.kind == kInterdomainPort) {
    EndWord unbound{};
    unbound.kind = kUnboundPort;
    unbound.life = word.life;
    machine->domains[word.domid].end.compare_exchange_strong(end, unbound);
  }
}

}  // namespace

std::optional<long> write_to_events(int fd, const void* bytes, std::size_t count) {
  for (auto& slot : open_handles) {
    const xenevtchn_handle* handle = slot.load();
    if (handle == nullptr || handle->fd != fd) continue;
    const std::size_t taken = std::min(count, kMaxWrite) / sizeof(evtchn_port_t);
    for (std::size_t i = 0; i < taken; ++i) {
      evtchn_port_t port = 0;
      std::memcpy(&port, static_cast<const char*>(bytes) + i * sizeof port, sizeof port);
      handle->machine.unmask(port, handle->number);
    }
    return static_cast<long>(taken * sizeof(evtchn_port_t));
  }
  return std::nullopt;
}

}  // namespace simxen

using simxen::LocalWord;
using simxen::word_for;

SIMXEN_REPLACES xenevtchn_handle* xenevtchn_open(xentoollog_logger* /*logger*/,
                                                 unsigned int flags) {
  simxen::SharedState* machine = simxen::current_machine();
  if (machine == nullptr) return nullptr;
  simxen::sweep(*machine);
  const std::uint32_t number = (*machine)->last_handle.fetch_add(1) + 1;
  if (number > simxen::kMaxHandle) std::abort();
  const std::string path = machine->file("handle", number);
  if (mkfifo(path.c_str(), 0600) != 0) return nullptr;
  const int cloexec = (flags & XENEVTCHN_NO_CLOEXEC) != 0 ? 0 : O_CLOEXEC;
  const int fd = ::open(path.c_str(), O_RDWR | cloexec);
  if (fd < 0 || !simxen::lock_as_holder(fd)) return nullptr;
  return simxen::remember(
      std::unique_ptr<xenevtchn_handle>(new xenevtchn_handle{*machine, fd, number}));
}

SIMXEN_REPLACES xenevtchn_handle* xenevtchn_fdopen(xentoollog_logger* /*logger*/, int fd,
                                                   unsigned /*flags*/) {
  simxen::SharedState* machine = simxen::current_machine();
  if (machine == nullptr) return nullptr;
  const std::uint32_t number = simxen::number_of_file(fd);
  if (number == 0) {
    errno = EBADF;
    return nullptr;
  }
  return simxen::remember(
      std::unique_ptr<xenevtchn_handle>(new xenevtchn_handle{*machine, fd, number}));
}

// Only the descriptor: a process forked from this one may have another copy, and as
// long as there is one all ports stay bound.
SIMXEN_REPLACES int xenevtchn_close(xenevtchn_handle* handle) {
  if (handle == nullptr) return 0;
  const std::unique_ptr<xenevtchn_handle> closed(handle);
  simxen::forget(handle);
  const int result = close(handle->fd);
  if (!handle->machine.is_alive(handle->number)) {
    unlink(handle->machine.file("handle", handle->number).c_str());
  }
  return result;
}

SIMXEN_REPLACES int xenevtchn_fd(xenevtchn_handle* handle) { return handle->fd; }

SIMXEN_REPLACES int xenevtchn_restrict(xenevtchn_handle* /*handle*/, domid_t /*domid*/) {
  return simxen::fail(EOPNOTSUPP);
}

SIMXEN_REPLACES int xenevtchn_notify(xenevtchn_handle* handle, evtchn_port_t port) {
  if (!simxen::is_ours(*handle, port)) return simxen::fail(ENOTCONN);
  const LocalWord word = handle->machine->locals[port].load();
  if (word.kind == simxen::kInterdomainPort) {
    handle->machine.notify_domain(static_cast<std::uint32_t>(word.domid),
                                  static_cast<std::uint32_t>(word.life));
  }
  return 0;
}

SIMXEN_REPLACES xenevtchn_port_or_error_t xenevtchn_bind_unbound_port(xenevtchn_handle* handle,
                                                                      uint32_t domid) {
  const auto domain = handle->machine.snapshot(domid);
  if (!domain) return simxen::fail(ESRCH);
  const std::uint32_t local =
      simxen::allocate(handle->machine, word_for(*handle, simxen::kUnboundPort));
  return local == 0 ? simxen::fail(ENOSPC) : static_cast<int>(local);
}

SIMXEN_REPLACES xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle* handle,
                                                                     uint32_t domid,
                                                                     evtchn_port_t remote_port) {
  simxen::SharedState& machine = handle->machine;
  const auto domain = machine.snapshot(domid);
  if (!domain) return simxen::fail(ESRCH);
  simxen::Domain& remote = machine->domains[domid];
  simxen::EndWord before = remote.end.load();
  if (remote.port.load() != remote_port || before.kind == simxen::kFreePort ||
      before.life != domain->word.life || machine.is_bound(before)) {
    return simxen::fail(EINVAL);
  }
  LocalWord word = word_for(*handle, simxen::kInterdomainPort);
  word.domid = domid & 0xffff;
  word.life = domain->word.life;
  const std::uint32_t local = simxen::allocate(machine, word);
  if (local == 0) return simxen::fail(ENOSPC);
  if (!remote.end.compare_exchange_strong(before, simxen::end_for(local, word))) {
    machine->locals[local].store({});
    return simxen::fail(EINVAL);
  }
  // Whatever the other end has sent while it was not bound is lost; Xen makes up for
  // it with one event.
  machine.raise(local, word);
  return static_cast<int>(local);
}

SIMXEN_REPLACES xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle* handle,
                                                              unsigned int virq) {
  if (virq != VIRQ_DOM_EXC) return simxen::fail(EINVAL);
  simxen::SharedState& machine = handle->machine;
  simxen::EndWord before = machine->domain_exceptions.load();
  if (machine.is_bound(before)) return simxen::fail(EEXIST);
  const LocalWord word = word_for(*handle, simxen::kVirqPort);
  const std::uint32_t local = simxen::allocate(machine, word);
  if (local == 0) return simxen::fail(ENOSPC);
  if (!machine->domain_exceptions.compare_exchange_strong(before, simxen::end_for(local, word))) {
    machine->locals[local].store({});
    return simxen::fail(EEXIST);
  }
  return static_cast<int>(local);
}

SIMXEN_REPLACES int xenevtchn_unbind(xenevtchn_handle* handle, evtchn_port_t port) {
  if (!simxen::is_ours(*handle, port)) return simxen::fail(ENOTCONN);
  simxen::SharedState& machine = handle->machine;
  simxen::release_far_end(machine, port, machine->locals[port].load());
  machine->locals[port].store({});
  return 0;
}

SIMXEN_REPLACES xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle* handle) {
  evtchn_port_t port = 0;
  if (read(handle->fd, &port, sizeof port) != sizeof port) return -1;
  return static_cast<int>(port);
}

SIMXEN_REPLACES int xenevtchn_unmask(xenevtchn_handle* handle, evtchn_port_t port) {
  handle->machine.unmask(port, handle->number);
  return 0;
}
