// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "tests/simxen/guest.h"
#include "tests/simxen/guest_impl.h"
#include "tests/simxen/shared_state.h"

namespace simxen {
namespace {

/// Held by a program that changes domains; others of these wait.
class ControlLock {
 public:
  explicit ControlLock(const std::string& dir)
      : fd_(open((dir + "/machine").c_str(), O_RDWR | O_CLOEXEC)) {
    if (fd_ < 0 || flock(fd_, LOCK_EX) != 0) give_up("cannot lock " + dir);
  }
  ~ControlLock() { close(fd_); }
  ControlLock(const ControlLock&) = delete;
  ControlLock& operator=(const ControlLock&) = delete;

 private:
  const int fd_;
};

void make_file(const std::string& path, off_t size, std::string_view content) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  const bool made =
      fd >= 0 && ftruncate(fd, size) == 0 &&
      pwrite(fd, content.data(), content.size(), 0) == static_cast<ssize_t>(content.size());
  if (!made) give_up("cannot make " + path);
  close(fd);
}

/// The domain, which must exist.
Domain& domain_of(SharedState& state, std::uint16_t domid) {
  if (!state.snapshot(domid)) give_up("there is no domain " + std::to_string(domid));
  return state->domains[domid];
}

std::uint32_t next_life(SharedState& state) {
  const std::uint32_t life = state->last_life.fetch_add(1) + 1;
  if (life > kMaxLife) give_up("too many domains in this machine's life");
  return life;
}

/// `exists` is set last: who sees it sees the rest.
NewDomain bring_up(SharedState& state, std::uint16_t domid, const Uuid& uuid) {
  const std::uint32_t life = next_life(state);
  make_file(state.file("page", life), sizeof(rings::RingPage), {});
  const NewDomain made{.gfn = 0x10000 + life, .port = 1 + life % 1000};
  Domain& domain = state->domains[domid];
  std::array<std::uint64_t, 2> halves{};
  std::memcpy(halves.data(), uuid.data(), sizeof halves);
  domain.uuid[0].store(halves[0]);
  domain.uuid[1].store(halves[1]);
  domain.gfn.store(made.gfn);
  domain.port.store(made.port);
  domain.events.store(0);
  domain.lost_event.store(0);
  EndWord end{};
  end.kind = kUnboundPort;
  end.life = life & kMaxLife;
  domain.end.store(end);
  DomainWord word{};
  word.exists = 1;
  word.life = life & kMaxLife;
  domain.word.store(word);
  return made;
}

void end_life(SharedState& state, std::uint16_t domid) {
  if (domid == 0) give_up("domain 0 cannot be destroyed");
  Domain& domain = domain_of(state, domid);
  const DomainWord word = domain.word.load();
  domain.word.store({});
  domain.end.store({});
  domain.events.store(0);
  unlink(state.file("page", static_cast<std::uint32_t>(word.life)).c_str());
}

}  // namespace

void give_up(const std::string& reason) {
  std::fprintf(stderr, "simxen: %s (%s)\n", reason.c_str(), std::strerror(errno));
  std::abort();
}

Machine Machine::make(const std::string& dir) {
  if (!SharedState::make(dir)) give_up("cannot make a machine in " + dir);
  Machine machine(dir);
  SharedState& state = *machine.impl_->state;
  const NewDomain own = bring_up(state, 0, Uuid{});
  make_file(dir + "/xsd_port", 0, std::to_string(own.port));
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  make_file(dir + "/nr_open", 0, std::to_string(files.rlim_max));
  const std::string page = state.file("page", state->last_life.load());
  if (link(page.c_str(), (dir + "/xsd_kva").c_str()) != 0) give_up("cannot make " + dir);
  return machine;
}

Machine::Machine(const std::string& dir) : impl_(std::make_unique<Impl>()) {
  impl_->state = SharedState::open(dir);
  if (!impl_->state) give_up("there is no machine in " + dir);
}

Machine::~Machine() = default;
Machine::Machine(Machine&&) noexcept = default;

const std::string& Machine::dir() const { return impl_->state->dir(); }

NewDomain Machine::create(std::uint16_t domid, const Uuid& uuid) {
  const ControlLock lock(dir());
  if (domid >= kDomids) give_up("no domain can be called " + std::to_string(domid));
  if (exists(domid)) give_up("there is a domain " + std::to_string(domid) + " already");
  return bring_up(*impl_->state, domid, uuid);
}

void Machine::shut_down(std::uint16_t domid, int reason) {
  {
    const ControlLock lock(dir());
    Domain& domain = domain_of(*impl_->state, domid);
    DomainWord word = domain.word.load();
    word.is_shut_down = 1;
    word.reason = static_cast<unsigned>(reason) & 0xff;
    domain.word.store(word);
  }
  impl_->state->raise_domain_exception();
}

void Machine::resume(std::uint16_t domid) {
  const ControlLock lock(dir());
  Domain& domain = domain_of(*impl_->state, domid);
  DomainWord word = domain.word.load();
  word.is_shut_down = 0;
  word.reason = 0;
  domain.word.store(word);
}

void Machine::destroy(const std::vector<std::uint16_t>& domids) {
  {
    const ControlLock lock(dir());
    for (const std::uint16_t domid : domids) end_life(*impl_->state, domid);
  }
  impl_->state->raise_domain_exception();
}

void Machine::start_dying(std::uint16_t domid) {
  {
    const ControlLock lock(dir());
    Domain& domain = domain_of(*impl_->state, domid);
    DomainWord word = domain.word.load();
    word.is_dying = 1;
    domain.word.store(word);
    domain.end.store({});  // Xen closes the ports before anything else
  }
  impl_->state->raise_domain_exception();
}

void Machine::fail_map(std::uint16_t domid, bool fails) {
  const ControlLock lock(dir());
  Domain& domain = domain_of(*impl_->state, domid);
  DomainWord word = domain.word.load();
  word.map_fails = fails ? 1 : 0;
  domain.word.store(word);
}

bool Machine::exists(std::uint16_t domid) const {
  return impl_->state->snapshot(domid).has_value();
}

PortState Machine::port_state(std::uint16_t domid) const {
  if (domid >= kDomids) return PortState::kFree;
  const EndWord end = (*impl_->state)->domains[domid].end.load();
  if (end.kind == kFreePort) return PortState::kFree;
  return impl_->state->is_bound(end) ? PortState::kInterdomain : PortState::kUnbound;
}

}  // namespace simxen
