// SPDX-License-Identifier: MIT
/// The stand-in hypervisor as test programs see it: a machine whose domains are
/// made and ended at will, and guests that use a xenstore ring.
///
/// A machine is a directory on tmpfs. Daemons run on it with libsimxen.so
/// preloaded and SIMXEN=<directory> in their environment. Several processes may
/// use one machine; a domain lives until it is destroyed, whoever made it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "rings/ring_page.h"

namespace simxen {

using Uuid = std::array<std::uint8_t, 16>;

/// What a new domain's toolstack passes to INTRODUCE.
struct NewDomain {
  std::uint64_t gfn;   ///< of the ring page
  std::uint32_t port;  ///< unbound, meant for domain 0
};

enum class PortState { kFree, kUnbound, kInterdomain };

/// The machine. Aborts with a message when the directory cannot be used: test code.
class Machine {
 public:
  /// Makes a machine with only domain 0 in it (its ring and port are made as well).
  static Machine make(const std::string& dir);
  /// Opens one that was made by anyone.
  explicit Machine(const std::string& dir);
  ~Machine();
  Machine(Machine&&) noexcept;

  /// A new running domain, with zeroed ring page and an unbound port. The domid must be free.
  NewDomain create(std::uint16_t domid, const Uuid& uuid);
  /// Shut down (poweroff 0, reboot 1, suspend 2, crash 3); raises VIRQ_DOM_EXC.
  void shut_down(std::uint16_t domid, int reason = 0);
  /// Runs again (after a cancelled suspend).
  void resume(std::uint16_t domid);
  /// Destroys them all, then raises VIRQ_DOM_EXC once. Their ports close; a mapped
  /// page stays with whom it is mapped by.
  void destroy(const std::vector<std::uint16_t>& domids);
  /// Marks as being destroyed (is listed with "dying"); raises VIRQ_DOM_EXC.
  void start_dying(std::uint16_t domid);
  /// From now on mapping this domain's ring fails (or works again).
  void fail_map(std::uint16_t domid, bool fails);
  bool exists(std::uint16_t domid) const;
  /// The state of a domain's own store port, as Xen would tell it.
  PortState port_state(std::uint16_t domid) const;
  const std::string& dir() const;

 private:
  friend class Guest;
  friend class GuestEvents;
  struct Impl;
  explicit Machine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Where events for guests of this process arrive; one serves any number of guests.
class GuestEvents {
 public:
  explicit GuestEvents(Machine& machine);
  ~GuestEvents();
  /// Readable while an event is waiting.
  int fd() const;
  /// Takes what is waiting: the domids (some twice, perhaps). Does not wait.
  std::vector<std::uint16_t> take();

 private:
  friend class Guest;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// One domain's side of its xenstore ring. Domain 0 is dom0's kernel. The domain's
/// events go to the latest Guest made for it.
class Guest {
 public:
  Guest(Machine& machine, GuestEvents& events, std::uint16_t domid);
  ~Guest();
  Guest(Guest&&) noexcept;

  std::uint16_t domid() const;
  /// Whether the domain still lives that this is part of.
  bool is_alive() const;
  /// Puts as much as there is space for into the request ring, without notifying.
  std::size_t write(std::string_view bytes);
  /// Takes what the reply ring has, appends it, without notifying. Returns how much.
  std::size_t read(std::string& out);
  /// Sends an event to the daemon's end; nothing happens while there is none.
  void notify();
  /// write() and read(), with the events that Linux sends and no others: when the
  /// request ring was empty before, and when the reply ring was full.
  std::size_t send(std::string_view bytes);
  std::size_t receive(std::string& out);
  /// Every byte of the page, for guests with bad manners.
  rings::RingPage& page();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// One process, one guest, one request at a time, as a kernel's driver would do it:
/// sends a whole message, waits for the reply. Watch events are kept in order.
struct Message {
  std::uint32_t type, req_id, tx_id;
  std::string payload;
};
class SimpleClient {
 public:
  SimpleClient(Machine& machine, std::uint16_t domid);
  ~SimpleClient();
  /// Sends one request and waits for its reply; aborts after `seconds`.
  Message call(std::uint32_t type, std::string_view payload, std::uint32_t tx_id = 0,
               int seconds = 10);
  /// Events received so far, oldest first, and forgets them.
  std::vector<Message> take_events();
  Guest& guest();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace simxen
