// SPDX-License-Identifier: MIT
#include "tests/simxen/shared_state.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace simxen {
namespace {

constexpr std::size_t kMaxOpenEnds = 256;

/// The preloaded library has its own open() and write(); these go past them.
int open_file(const std::string& path, int flags, mode_t mode = 0600) {
  return static_cast<int>(syscall(SYS_openat, AT_FDCWD, path.c_str(), flags | O_CLOEXEC, mode));
}

bool is_same_port(const LocalWord& one, const LocalWord& other) {
  return one.kind == other.kind && one.handle == other.handle && one.domid == other.domid &&
         one.life == other.life;
}

}  // namespace

bool operator==(const EndWord& one, const EndWord& other) {
  return std::bit_cast<std::uint64_t>(one) == std::bit_cast<std::uint64_t>(other);
}

FifoWriters::~FifoWriters() {
  for (const auto& [number, fd] : ends_) close(fd);
}

int FifoWriters::end_of(std::uint32_t number) {
  const auto found = ends_.find(number);
  if (found != ends_.end()) return found->second;
  // Most of so many belong to processes that are gone; the others are opened again.
  if (ends_.size() >= kMaxOpenEnds) {
    for (const auto& [old, fd] : ends_) close(fd);
    ends_.clear();
  }
  const int fd = open_file(prefix_ + std::to_string(number), O_RDWR | O_NONBLOCK);
  if (fd >= 0) ends_[number] = fd;
  return fd;
}

FifoWriters::Outcome FifoWriters::write(std::uint32_t number, const void* bytes,
                                        std::size_t count) {
  const std::lock_guard lock(mutex_);
  const int fd = end_of(number);
  if (fd < 0) return Outcome::kNoFifo;
  const long written = syscall(SYS_write, fd, bytes, count);
  return written < 0 ? Outcome::kFull : Outcome::kWritten;
}

SharedState::SharedState(std::string dir, Shared* shared)
    : dir_(std::move(dir)),
      shared_(shared),
      to_handles_(dir_ + "/handle-"),
      to_guests_(dir_ + "/events-") {}

SharedState::~SharedState() { munmap(shared_, sizeof *shared_); }

bool SharedState::make(const std::string& dir) {
  if (mkdir(dir.c_str(), 0700) != 0 && errno != EEXIST) return false;
  const int fd = open_file(dir + "/machine", O_RDWR | O_CREAT | O_EXCL);
  if (fd < 0) return false;
  const bool made = ftruncate(fd, sizeof(Shared)) == 0;
  close(fd);
  return made;
}

std::unique_ptr<SharedState> SharedState::open(const std::string& dir) {
  const int fd = open_file(dir + "/machine", O_RDWR);
  if (fd < 0) return nullptr;
  void* memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (memory == MAP_FAILED) return nullptr;
  return std::unique_ptr<SharedState>(new SharedState(dir, static_cast<Shared*>(memory)));
}

std::string SharedState::file(const char* kind, std::uint32_t number) const {
  return dir_ + "/" + kind + "-" + std::to_string(number);
}

// The holder has the file locked; the lock goes when the last copy of its
// descriptor is closed, in whichever process, just as a device file's state does.
bool SharedState::is_alive(std::uint32_t handle) const {
  // The ports that a dead server had are all asked about, one by one.
  if (handle == last_dead_.load()) return false;
  const int fd = open_file(file("handle", handle), O_RDWR | O_NONBLOCK);
  if (fd < 0) {
    last_dead_.store(handle);
    return false;
  }
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  const bool asked = fcntl(fd, F_OFD_GETLK, &lock) == 0;
  close(fd);
  return asked && lock.l_type != F_UNLCK;
}

bool SharedState::is_bound(const EndWord& end) const {
  return end.kind > kUnboundPort && is_alive(static_cast<std::uint32_t>(end.handle));
}

std::optional<DomainSnapshot> SharedState::snapshot(std::uint32_t domid) {
  if (domid >= kDomids) return std::nullopt;
  Domain& domain = shared_->domains[domid];
  for (;;) {
    const DomainWord word = domain.word.load();
    if (!word.exists) return std::nullopt;
    DomainSnapshot seen{word, {}};
    const std::array<std::uint64_t, 2> uuid{domain.uuid[0].load(), domain.uuid[1].load()};
    std::memcpy(seen.uuid.data(), uuid.data(), sizeof uuid);
    if (domain.word.load().life == word.life) return seen;
  }
}

int SharedState::open_page(std::uint32_t life) const {
  return open_file(file("page", life), O_RDWR);
}

void SharedState::deliver(std::uint32_t local, std::uint32_t handle) {
  to_handles_.write(handle, &local, sizeof local);
}

void SharedState::raise(std::uint32_t local, const LocalWord& meant) {
  std::atomic<LocalWord>& port = shared_->locals[local];
  // What the event is about must be seen by whoever sees `pending`.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  LocalWord seen = port.load();
  for (;;) {
    if (!is_same_port(seen, meant)) return;
    LocalWord next = seen;
    if (seen.masked != 0) {
      if (seen.pending != 0) return;
      next.pending = 1;
    } else {
      next.masked = 1;
    }
    if (port.compare_exchange_weak(seen, next)) break;
  }
  if (seen.masked == 0) deliver(local, static_cast<std::uint32_t>(meant.handle));
}

void SharedState::unmask(std::uint32_t local, std::uint32_t handle) {
  if (local >= kLocalPorts) return;
  std::atomic<LocalWord>& port = shared_->locals[local];
  LocalWord seen = port.load();
  for (;;) {
    if (seen.kind == kFreePort || seen.handle != handle || seen.masked == 0) return;
    LocalWord next = seen;
    next.masked = seen.pending;
    next.pending = 0;
    if (port.compare_exchange_weak(seen, next)) break;
  }
  if (seen.pending != 0) deliver(local, handle);
}

void SharedState::raise_domain_exception() {
  const EndWord end = shared_->domain_exceptions.load();
  if (end.kind != kVirqPort) return;
  LocalWord meant{};
  meant.kind = kVirqPort;
  meant.handle = end.handle;
  raise(static_cast<std::uint32_t>(end.local), meant);
}

void SharedState::notify_domain(std::uint32_t domid, std::uint32_t life) {
  Domain& domain = shared_->domains[domid];
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const DomainWord word = domain.word.load();
  if (!word.exists || word.life != life) return;
  const std::uint32_t events = domain.events.load();
  if (events == 0) return;
  const auto id = static_cast<std::uint16_t>(domid);
  if (to_guests_.write(events, &id, sizeof id) != FifoWriters::Outcome::kFull) return;
  // Its reader looks for lost events after it has emptied the FIFO. If it did so
  // before this was set then there is space now.
  domain.lost_event.store(1);
  shared_->overflows.fetch_add(1);
  to_guests_.write(events, &id, sizeof id);
}

}  // namespace simxen
