// SPDX-License-Identifier: MIT
/// A hypervisor in memory, for whole daemons inside a fuzz target: a machine whose
/// domains come and go, and what one daemon's process holds of it. No system calls
/// but those of the one descriptor that says that events wait.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "rings/hypervisor.h"

namespace rings {

class FakeHypervisor;

/// What stays when a daemon dies. Domain 0 is there from the beginning.
class FakeMachine {
 public:
  struct Domain {
    DomainInfo info{};
    /// Of its exact size, so that ASan sees a step beyond it. Stays with whom it is
    /// mapped by when the domain is gone.
    std::shared_ptr<RingPage> page = std::make_shared<RingPage>();
    RemotePort port{};
    bool port_is_closed = false;       ///< by Xen, when the domain dies
    std::optional<LocalPort> bound{};  ///< the daemon's end
    bool fails_to_map = false;
    bool has_event = false;  ///< the daemon sent one that the guest has not taken
  };

  FakeMachine() { create(store::kDom0); }

  /// A new domain, with a handle that no other had.
  Domain& create(store::Domid domid) {
    Domain domain;
    domain.info.domid = domid;
    ++lives_;
    domain.info.handle[0] = static_cast<std::uint8_t>(lives_);
    domain.info.handle[1] = static_cast<std::uint8_t>(lives_ >> 8);
    domain.port = RemotePort{lives_};
    return domains_[domid] = std::move(domain);
  }
  Domain* find(store::Domid domid) {
    const auto found = domains_.find(domid);
    return found == domains_.end() ? nullptr : &found->second;
  }
  std::map<store::Domid, Domain>& domains() { return domains_; }

  /// Takes the guest's pending event; whether there was one.
  bool take_event(store::Domid domid) {
    Domain* domain = find(domid);
    return domain != nullptr && std::exchange(domain->has_event, false);
  }
  inline void notify_daemon(store::Domid domid);
  inline void start_dying(store::Domid domid);
  /// Nothing is left of it. Its end is told with the next domain exception.
  inline void destroy(store::Domid domid);
  inline void raise_domain_exception();

 private:
  friend class FakeHypervisor;
  inline void close_port(Domain& domain);

  std::map<store::Domid, Domain> domains_;
  std::uint32_t lives_ = 0;
  FakeHypervisor* daemon_ = nullptr;
};

/// Destroying it is the process's end: the ports it had bound become unbound.
class FakeHypervisor final : public Hypervisor {
 public:
  explicit FakeHypervisor(FakeMachine& machine)
      : machine_(machine), event_fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    machine.daemon_ = this;
  }
  ~FakeHypervisor() override {
    if (!mapped_.empty()) std::abort();
    for (auto& [domid, domain] : machine_.domains_) domain.bound.reset();
    machine_.daemon_ = nullptr;
    close(event_fd_);
  }

  /// Called before each of the daemon's calls but unmap: in the middle of its turn.
  std::function<void()> on_call;

  void raise(LocalPort port) {
    const auto found = channels_.find(port);
    if (found == channels_.end()) return;
    if (found->second.is_masked) {
      found->second.is_pending = true;
      return;
    }
    found->second.is_masked = true;
    queue(port);
  }
  /// An event that nobody sent, on a port that may be none of ours.
  void raise_spuriously(LocalPort port) { queue(port); }
  void raise_domain_exception() {
    if (exceptions_) raise(*exceptions_);
  }

  int event_fd() const override { return event_fd_; }

  std::span<const LocalPort> take_pending() override {
    call();
    std::size_t count = 0;
    for (; count < taken_.size() && !waiting_.empty(); ++count) {
      taken_[count] = waiting_.front();
      waiting_.pop_front();
    }
    if (waiting_.empty()) {
      eventfd_t ignored = 0;
      (void)eventfd_read(event_fd_, &ignored);
    }
    return {taken_.data(), count};
  }
  void unmask(std::span<const LocalPort> ports) override {
    call();
    for (const LocalPort port : ports) {
      const auto found = channels_.find(port);
      if (found == channels_.end()) continue;
      found->second.is_masked = false;
      if (std::exchange(found->second.is_pending, false)) raise(port);
    }
  }
  void notify(LocalPort port) override {
    call();
    const auto found = channels_.find(port);
    if (found == channels_.end()) std::abort();  // an end that is not ours
    FakeMachine::Domain* domain = machine_.find(found->second.domid);
    if (domain != nullptr && domain->bound == port) domain->has_event = true;
  }

  Result<LocalPort> bind(store::Domid domid, RemotePort remote) override {
    call();
    FakeMachine::Domain* domain = machine_.find(domid);
    if (domain == nullptr || domain->port_is_closed || domain->port != remote || domain->bound) {
      return tl::unexpected(Error{EINVAL, "there is no such unbound port"});
    }
    domain->bound = open_channel(domid);
    raise(*domain->bound);
    return *domain->bound;
  }
  Result<LocalPort> bind_domain_exceptions() override {
    exceptions_ = open_channel(store::kDomidInvalid);
    return *exceptions_;
  }
  void unbind(LocalPort port) override {
    call();
    const auto found = channels_.find(port);
    if (found == channels_.end()) std::abort();
    FakeMachine::Domain* domain = machine_.find(found->second.domid);
    if (domain != nullptr && domain->bound == port) domain->bound.reset();
    channels_.erase(found);
  }

  Result<MappedRing> map_ring(store::Domid domid) override {
    call();
    FakeMachine::Domain* domain = machine_.find(domid);
    if (domain == nullptr || domain->fails_to_map || domain->info.is_dying) {
      return tl::unexpected(Error{EINVAL, "cannot be mapped"});
    }
    mapped_.emplace(domain->page.get(), domain->page);
    return MappedRing(domain->page.get(), Unmap{this});
  }
  Result<OwnRing> map_own_ring() override {
    FakeMachine::Domain& own = *machine_.find(store::kDom0);
    mapped_.emplace(own.page.get(), own.page);
    return OwnRing{MappedRing(own.page.get(), Unmap{this}), own.port};
  }

  Result<std::vector<DomainInfo>> domains() override {
    call();
    std::vector<DomainInfo> all;
    for (const auto& [domid, domain] : machine_.domains_) all.push_back(domain.info);
    return all;
  }
  std::optional<DomainInfo> domain(store::Domid domid) override {
    call();
    const FakeMachine::Domain* found = machine_.find(domid);
    return found == nullptr ? std::nullopt : std::optional(found->info);
  }

 private:
  struct Channel {
    store::Domid domid;
    bool is_masked = false;   ///< taken or waiting to be
    bool is_pending = false;  ///< raised meanwhile
  };

  void call() {
    if (on_call) on_call();
  }
  LocalPort open_channel(store::Domid domid) {
    const LocalPort port{++last_port_};
    channels_[port] = Channel{domid};
    return port;
  }
  void queue(LocalPort port) {
    waiting_.push_back(port);
    (void)eventfd_write(event_fd_, 1);
  }
  void unmap(RingPage* page) override {
    const auto found = mapped_.find(page);
    if (found == mapped_.end()) std::abort();
    mapped_.erase(found);
  }

  FakeMachine& machine_;
  const int event_fd_;
  std::map<LocalPort, Channel> channels_;
  std::deque<LocalPort> waiting_;
  std::array<LocalPort, 2> taken_{};  // few, so that one call seldom gives all
  std::optional<LocalPort> exceptions_;
  std::multimap<RingPage*, std::shared_ptr<RingPage>> mapped_;
  std::uint32_t last_port_ = 100;
};

void FakeMachine::notify_daemon(store::Domid domid) {
  const Domain* domain = find(domid);
  if (daemon_ != nullptr && domain != nullptr && domain->bound) daemon_->raise(*domain->bound);
}

void FakeMachine::close_port(Domain& domain) {
  domain.port_is_closed = true;
  domain.bound.reset();
}

void FakeMachine::start_dying(store::Domid domid) {
  Domain* domain = find(domid);
  if (domain == nullptr) return;
  domain->info.is_dying = true;
  close_port(*domain);
}

void FakeMachine::destroy(store::Domid domid) { domains_.erase(domid); }

void FakeMachine::raise_domain_exception() {
  if (daemon_ != nullptr) daemon_->raise_domain_exception();
}

}  // namespace rings
