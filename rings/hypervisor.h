// SPDX-License-Identifier: MIT
/// What xenstored needs of the hypervisor, and no more: the door through which
/// everything passes that is neither a socket nor the journal.
///
/// All of it is gone when the process dies: Xen closes our event channels (the
/// guest's end becomes unbound and can be bound again) and drops our mappings;
/// the guest's page with all that is in it stays.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rings/ring_page.h"
#include "store/ids.h"
#include "store/result.h"

namespace rings {

/// Our end of an event channel.
enum class LocalPort : std::uint32_t {};
/// The other domain's end; the number that INTRODUCE names.
enum class RemotePort : std::uint32_t {};

/// The uuid that the toolstack gave a domain: tells it from another with its domid.
using DomainHandle = std::array<std::uint8_t, 16>;

struct DomainInfo {
  store::Domid domid;
  DomainHandle handle;
  bool is_shut_down;  ///< shut down or crashed, for whatever reason
  bool is_dying;      ///< being destroyed
};

class Hypervisor {
 public:
  /// Gives a page back to whom it was mapped by, who must still be there.
  struct Unmap {
    Hypervisor* hypervisor = nullptr;
    void operator()(RingPage* page) const { hypervisor->unmap(page); }
  };
  using MappedRing = std::unique_ptr<RingPage, Unmap>;
  /// The ring of the domain that we run in, and where its kernel listens.
  struct OwnRing {
    MappedRing page;
    RemotePort port;
  };
  /// A sentence for the log; `error` is an errno.
  struct Error {
    int error;
    std::string message;
  };
  template <class T>
  using Result = store::Result<T, Error>;

  virtual ~Hypervisor() = default;

  /// Readable while an event is waiting to be taken.
  virtual int event_fd() const = 0;
  /// The ports with an event, some at a time, each masked until it is unmasked.
  /// Does not wait. Valid until the next call. May name ports that were unbound
  /// meanwhile, and ports without an event when the kernel lost count of them.
  virtual std::span<const LocalPort> take_pending() = 0;
  /// Lets these ports raise events again; one that had another meanwhile does so at once.
  virtual void unmask(std::span<const LocalPort> ports) = 0;
  /// Sends an event. To an end that is not bound: nothing happens.
  virtual void notify(LocalPort port) = 0;

  /// Binds to the other domain's port, which must be unbound and meant for us. An
  /// event is pending right after.
  virtual Result<LocalPort> bind(store::Domid domid, RemotePort remote) = 0;
  /// The port on which Xen tells that some domain shut down or died (VIRQ_DOM_EXC).
  virtual Result<LocalPort> bind_domain_exceptions() = 0;
  virtual void unbind(LocalPort port) = 0;

  /// Maps a domain's ring page by its grant (GNTTAB_RESERVED_XENSTORE).
  virtual Result<MappedRing> map_ring(store::Domid domid) = 0;
  /// Maps our own domain's ring (/proc/xen/xsd_kva) and finds its port (xsd_port).
  virtual Result<OwnRing> map_own_ring() = 0;

  /// All domains there are, by ascending domid; a few hypercalls, however many.
  virtual Result<std::vector<DomainInfo>> domains() = 0;
  /// One of them; none: there is no such domain, or Xen would not tell.
  virtual std::optional<DomainInfo> domain(store::Domid domid) = 0;

 private:
  virtual void unmap(RingPage* page) = 0;
};

}  // namespace rings
