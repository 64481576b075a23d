// SPDX-License-Identifier: MIT
/// What all processes on a machine share: one file of atomic words, and a FIFO for
/// each handle on the event channels.
///
/// A daemon is killed at any instruction, also in here. So whatever a daemon
/// changes it changes with one store or compare-and-swap of one word, a word that
/// is half of a pair is believed only together with the other half, and there is no
/// lock that a daemon takes. Programs that control the machine are not killed:
/// they lock each other out with flock().
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

namespace simxen {

inline constexpr std::uint32_t kDomids = 0x7FF0;
/// As many as fit into a FIFO at once, each in four bytes.
inline constexpr std::uint32_t kLocalPorts = 16384;
inline constexpr std::uint32_t kMaxHandle = (1U << 20) - 1;
inline constexpr std::uint32_t kMaxLife = (1U << 24) - 1;

/// A domain. `life` is never used twice, a domid is.
struct DomainWord {
  std::uint64_t exists : 1;
  std::uint64_t is_shut_down : 1;
  std::uint64_t is_dying : 1;
  std::uint64_t map_fails : 1;
  std::uint64_t reason : 8;
  std::uint64_t life : 24;
  std::uint64_t unused : 28;
};

enum PortKind : std::uint64_t { kFreePort, kUnboundPort, kInterdomainPort, kVirqPort };

/// A domain's own store port, or who has VIRQ_DOM_EXC. Bound only while the handle
/// is alive: it is the death of the handle that ends all its bindings.
struct EndWord {
  std::uint64_t kind : 2;
  std::uint64_t handle : 20;
  std::uint64_t local : 18;
  std::uint64_t life : 24;
};

/// A daemon's port. `masked`: was given to the daemon, who has not unmasked it yet.
struct LocalWord {
  std::uint64_t kind : 2;
  std::uint64_t masked : 1;
  std::uint64_t pending : 1;
  std::uint64_t handle : 20;
  std::uint64_t domid : 16;
  std::uint64_t life : 24;
};

bool operator==(const EndWord& one, const EndWord& other);

struct Domain {
  std::atomic<DomainWord> word;
  std::atomic<EndWord> end;
  std::array<std::atomic<std::uint64_t>, 2> uuid;
  std::atomic<std::uint64_t> gfn;
  std::atomic<std::uint32_t> port;
  std::atomic<std::uint32_t> events;      ///< FIFO of its latest Guest; 0: none
  std::atomic<std::uint32_t> lost_event;  ///< one did not fit into that FIFO
};

struct Shared {
  std::atomic<std::uint32_t> last_handle;
  std::atomic<std::uint32_t> last_life;
  std::atomic<std::uint32_t> last_events;
  std::atomic<std::uint32_t> overflows;  ///< counts the lost events of all domains
  std::atomic<EndWord> domain_exceptions;
  std::array<std::atomic<LocalWord>, kLocalPorts> locals;
  std::array<Domain, kDomids> domains;
};
static_assert(std::atomic<DomainWord>::is_always_lock_free);
static_assert(std::atomic<EndWord>::is_always_lock_free);
static_assert(std::atomic<LocalWord>::is_always_lock_free);

/// The writing ends of numbered FIFOs, opened when first needed. They are opened for
/// reading too, so that nobody is sent a SIGPIPE for a reader that has died.
class FifoWriters {
 public:
  enum class Outcome { kWritten, kFull, kNoFifo };
  explicit FifoWriters(std::string prefix) : prefix_(std::move(prefix)) {}
  ~FifoWriters();
  FifoWriters(const FifoWriters&) = delete;
  FifoWriters& operator=(const FifoWriters&) = delete;

  /// All bytes or none.
  Outcome write(std::uint32_t number, const void* bytes, std::size_t count);

 private:
  int end_of(std::uint32_t number);

  const std::string prefix_;
  std::mutex mutex_;
  std::unordered_map<std::uint32_t, int> ends_;
};

/// A domain as a query sees it, all of one life.
struct DomainSnapshot {
  DomainWord word;
  std::array<std::uint8_t, 16> uuid;
};

class SharedState {
 public:
  /// Lays out an empty machine in `dir`, which is made. False, errno: could not.
  static bool make(const std::string& dir);
  /// None, errno: there is no machine.
  static std::unique_ptr<SharedState> open(const std::string& dir);
  ~SharedState();
  SharedState(const SharedState&) = delete;
  SharedState& operator=(const SharedState&) = delete;

  Shared* operator->() { return shared_; }
  const std::string& dir() const { return dir_; }
  std::string file(const char* kind, std::uint32_t number) const;

  /// Whether any process still holds this handle's file.
  bool is_alive(std::uint32_t handle) const;
  bool is_bound(const EndWord& end) const;
  /// None: there is no such domain.
  std::optional<DomainSnapshot> snapshot(std::uint32_t domid);
  /// A file descriptor for the ring page of that life. -1, errno.
  int open_page(std::uint32_t life) const;

  /// An event for a local port, if it still is this one of this handle.
  void raise(std::uint32_t local, const LocalWord& meant);
  /// Lets a local port of `handle` raise events again.
  void unmask(std::uint32_t local, std::uint32_t handle);
  /// An event for whoever has VIRQ_DOM_EXC.
  void raise_domain_exception();
  /// An event for a domain's own port.
  void notify_domain(std::uint32_t domid, std::uint32_t life);

 private:
  SharedState(std::string dir, Shared* shared);
  void deliver(std::uint32_t local, std::uint32_t handle);

  const std::string dir_;
  Shared* const shared_;
  FifoWriters to_handles_;
  FifoWriters to_guests_;
  mutable std::atomic<std::uint32_t> last_dead_{0};  ///< a handle; no number is used twice
};

}  // namespace simxen
