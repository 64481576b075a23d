// SPDX-License-Identifier: MIT
#include "tests/simxen/guest.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

#include "tests/simxen/guest_impl.h"

namespace simxen {
namespace {

using Index = std::atomic_ref<std::uint32_t>;

/// The bytes of a stream that lie in one ring, in one or two pieces.
void copy_in(char* ring, std::uint32_t position, std::string_view bytes) {
  const std::size_t at = position % rings::kRingBytes;
  const std::size_t first = std::min<std::size_t>(bytes.size(), rings::kRingBytes - at);
  std::memcpy(ring + at, bytes.data(), first);
  std::memcpy(ring, bytes.data() + first, bytes.size() - first);
}

void copy_out(const char* ring, std::uint32_t position, std::size_t count, std::string& out) {
  const std::size_t at = position % rings::kRingBytes;
  const std::size_t first = std::min<std::size_t>(count, rings::kRingBytes - at);
  out.append(ring + at, first);
  out.append(ring, count - first);
}

}  // namespace

struct GuestEvents::Impl {
  SharedState& state;
  std::uint32_t number;
  int fd;
  std::uint32_t overflows_seen;

  void add_lost(std::vector<std::uint16_t>& domids);
};

/// The domains whose event did not fit into the FIFO.
void GuestEvents::Impl::add_lost(std::vector<std::uint16_t>& domids) {
  const std::uint32_t overflows = state->overflows.load();
  if (overflows == overflows_seen) return;
  overflows_seen = overflows;
  for (std::uint32_t domid = 0; domid < kDomids; ++domid) {
    Domain& domain = state->domains[domid];
    if (domain.events.load() == number && domain.lost_event.exchange(0) != 0) {
      domids.push_back(static_cast<std::uint16_t>(domid));
    }
  }
}

GuestEvents::GuestEvents(Machine& machine) {
  SharedState& state = *machine.impl_->state;
  const std::uint32_t number = state->last_events.fetch_add(1) + 1;
  const std::string path = state.file("events", number);
  if (mkfifo(path.c_str(), 0600) != 0) give_up("cannot make " + path);
  const int fd = open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) give_up("cannot open " + path);
  impl_ = std::make_unique<Impl>(Impl{state, number, fd, state->overflows.load()});
}

GuestEvents::~GuestEvents() {
  unlink(impl_->state.file("events", impl_->number).c_str());
  close(impl_->fd);
}

int GuestEvents::fd() const { return impl_->fd; }

std::vector<std::uint16_t> GuestEvents::take() {
  std::vector<std::uint16_t> domids;
  std::array<std::uint16_t, 2048> some{};
  ssize_t bytes = 0;
  do {
    bytes = read(impl_->fd, some.data(), sizeof some);
    if (bytes > 0) domids.insert(domids.end(), some.begin(), some.begin() + bytes / 2);
  } while (bytes == sizeof some);
  impl_->add_lost(domids);
  return domids;
}

struct Guest::Impl {
  SharedState& state;
  std::uint16_t domid;
  std::uint32_t life;
  std::uint32_t events;
  rings::RingPage* page;
};

Guest::Guest(Machine& machine, GuestEvents& events, std::uint16_t domid) {
  SharedState& state = *machine.impl_->state;
  const auto domain = state.snapshot(domid);
  if (!domain) give_up("there is no domain " + std::to_string(domid));
  const auto life = static_cast<std::uint32_t>(domain->word.life);
  const int fd = state.open_page(life);
  void* page = mmap(nullptr, sizeof(rings::RingPage), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (fd < 0 || page == MAP_FAILED) give_up("cannot map the ring of " + std::to_string(domid));
  close(fd);
  state->domains[domid].events.store(events.impl_->number);
  impl_ = std::make_unique<Impl>(
      Impl{state, domid, life, events.impl_->number, static_cast<rings::RingPage*>(page)});
}

Guest::~Guest() {
  if (!impl_) return;
  std::uint32_t ours = impl_->events;
  impl_->state->domains[impl_->domid].events.compare_exchange_strong(ours, 0);
  munmap(impl_->page, sizeof *impl_->page);
}

Guest::Guest(Guest&&) noexcept = default;

std::uint16_t Guest::domid() const { return impl_->domid; }

bool Guest::is_alive() const {
  const auto domain = impl_->state.snapshot(impl_->domid);
  return domain && domain->word.life == impl_->life;
}

rings::RingPage& Guest::page() { return *impl_->page; }

std::size_t Guest::write(std::string_view bytes) {
  rings::RingPage& page = *impl_->page;
  const std::uint32_t produced = Index(page.req_prod).load(std::memory_order_relaxed);
  const std::uint32_t used = produced - Index(page.req_cons).load(std::memory_order_acquire);
  if (used > rings::kRingBytes) return 0;
  const std::size_t count = std::min<std::size_t>(bytes.size(), rings::kRingBytes - used);
  copy_in(page.req, produced, bytes.substr(0, count));
  Index(page.req_prod)
      .store(produced + static_cast<std::uint32_t>(count), std::memory_order_release);
  return count;
}

std::size_t Guest::read(std::string& out) {
  rings::RingPage& page = *impl_->page;
  const std::uint32_t consumed = Index(page.rsp_cons).load(std::memory_order_relaxed);
  const std::uint32_t count = Index(page.rsp_prod).load(std::memory_order_acquire) - consumed;
  if (count > rings::kRingBytes) return 0;
  copy_out(page.rsp, consumed, count, out);
  Index(page.rsp_cons).store(consumed + count, std::memory_order_release);
  return count;
}

void Guest::notify() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const EndWord end = impl_->state->domains[impl_->domid].end.load();
  if (end.kind != kInterdomainPort || end.life != impl_->life) return;
  LocalWord meant{};
  meant.kind = kInterdomainPort;
  meant.handle = end.handle;
  meant.domid = impl_->domid;
  meant.life = end.life;
  impl_->state.raise(static_cast<std::uint32_t>(end.local), meant);
}

std::size_t Guest::send(std::string_view bytes) {
  rings::RingPage& page = *impl_->page;
  const std::uint32_t before = Index(page.req_prod).load(std::memory_order_relaxed);
  const std::size_t count = write(bytes);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (count > 0 && Index(page.req_cons).load(std::memory_order_relaxed) == before) notify();
  return count;
}

// The server may have filled the ring while we read, and not have seen that yet: whoever is
// second sees the other's index. So its index is looked at again after ours was stored.
std::size_t Guest::receive(std::string& out) {
  rings::RingPage& page = *impl_->page;
  const std::uint32_t before = Index(page.rsp_cons).load(std::memory_order_relaxed);
  const std::size_t count = read(out);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const std::uint32_t produced = Index(page.rsp_prod).load(std::memory_order_relaxed);
  if (produced - before >= rings::kRingBytes) notify();
  return count;
}

}  // namespace simxen
