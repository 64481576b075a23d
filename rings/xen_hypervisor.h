// SPDX-License-Identifier: MIT
/// The Xen that this host runs on, by Xen's own libraries. No other file calls them.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "rings/hypervisor.h"

// Xen's headers stay in the .cc file: they are C, and want GNU extensions.
struct xc_interface_core;
struct xenevtchn_handle;
struct xengntdev_handle;

namespace rings {

/// Where dom0's kernel shows the store's own ring; other places only in tests.
struct XenPaths {
  std::string xsd_port = "/proc/xen/xsd_port";
  std::string xsd_kva = "/proc/xen/xsd_kva";
  /// Has both, also where xenfs is not mounted on /proc/xen.
  std::string xenbus_backend = "/dev/xen/xenbus_backend";
};

/// Not to be used by a child of the process that opened it. Pages mapped by it must
/// be given back before it is destroyed.
///
/// Xen and dom0's kernel are trusted; what guests wrote is not looked at here. Losing
/// events would leave guests waiting for ever, so a failing event device ends the
/// process: the next start binds everything anew.
class XenHypervisor final : public Hypervisor {
 public:
  /// Error: what is needed to serve domains and is not there, a line each with its reason.
  using Missing = std::vector<std::string>;
  static store::Result<std::unique_ptr<Hypervisor>, Missing> open(const XenPaths& paths = {});

  int event_fd() const override;
  std::span<const LocalPort> take_pending() override;
  void unmask(std::span<const LocalPort> ports) override;
  void notify(LocalPort port) override;

  Result<LocalPort> bind(store::Domid domid, RemotePort remote) override;
  Result<LocalPort> bind_domain_exceptions() override;
  void unbind(LocalPort port) override;

  Result<MappedRing> map_ring(store::Domid domid) override;
  Result<OwnRing> map_own_ring() override;

  Result<std::vector<DomainInfo>> domains() override;
  std::optional<DomainInfo> domain(store::Domid domid) override;

 private:
  struct Close {
    void operator()(xenevtchn_handle* events) const;
    void operator()(xengntdev_handle* grants) const;
    void operator()(xc_interface_core* control) const;
  };
  /// Linux's event device reads and writes at most a page of ports at once.
  static constexpr std::size_t kPortsAtOnce = 1024;

  explicit XenHypervisor(XenPaths paths) : paths_(std::move(paths)) {}
  Missing open_all();
  Result<LocalPort> keep_bound(int port_or_error, const std::string& what);
  std::span<const LocalPort> take_all_after_overflow();
  void unmap(RingPage* page) override;

  XenPaths paths_;
  std::unique_ptr<xenevtchn_handle, Close> events_;
  std::unique_ptr<xengntdev_handle, Close> grants_;
  std::unique_ptr<xc_interface_core, Close> control_;
  std::set<LocalPort> bound_;
  std::set<RingPage*> own_pages_;  ///< mapped from a file, not by a grant
  std::array<LocalPort, kPortsAtOnce> pending_;
  std::vector<LocalPort> all_bound_;
};

}  // namespace rings
