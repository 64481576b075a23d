// SPDX-License-Identifier: MIT
#include "rings/xen_hypervisor.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
extern "C" {  // these headers do not say it themselves
#include <xenctrl.h>
// these need the one before
#include <xen/sys/evtchn.h>
#include <xen/sys/xenbus_dev.h>
#include <xenevtchn.h>
#include <xengnttab.h>
#include <xentoollog.h>
}

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <utility>

namespace rings {
namespace {

using Missing = XenHypervisor::Missing;

static_assert(sizeof(LocalPort) == sizeof(evtchn_port_t), "read from the device as it is");
static_assert(sizeof(DomainHandle) == sizeof(xen_domain_handle_t));
static_assert(sizeof(RingPage) <= XC_PAGE_SIZE);

/// Domains asked for by one hypercall.
constexpr std::size_t kDomainsAtOnce = 1024;

/// Xen's libraries would write to stderr what we return with the reason.
void say_nothing(xentoollog_logger*, xentoollog_level, int, const char*, const char*, va_list) {}
xentoollog_logger quiet{.vmessage = say_nothing, .progress = nullptr, .destroy = nullptr};

std::string reason() { return std::strerror(errno); }

/// `what` failed; errno says why.
tl::unexpected<Hypervisor::Error> failed(const std::string& what) {
  const int error = errno;
  return tl::unexpected(Hypervisor::Error{error, what + ": " + std::strerror(error)});
}

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "xenstored: %s: %s\n", what, std::strerror(errno));
  std::abort();
}

std::string show(store::Domid domid) { return "domain " + std::to_string(store::raw(domid)); }

class File {
 public:
  explicit File(const std::string& path, int flags)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC)) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  File& operator=(File&&) = delete;
  bool is_open() const { return fd_ >= 0; }
  int fd() const { return fd_; }

 private:
  int fd_;
};

std::optional<std::uint32_t> read_number(const File& file) {
  char text[16];
  const ssize_t length = ::read(file.fd(), text, sizeof text);
  if (length <= 0) return std::nullopt;
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text, text + length, number);
  if (error != std::errc()) return std::nullopt;
  return number;
}

/// Dom0's ring as its kernel shows it: a file to map, and the port.
struct OwnRingFile {
  File page;
  RemotePort port;
};

std::optional<OwnRingFile> open_in_xenfs(const XenPaths& paths, Missing& missing) {
  const File port_file(paths.xsd_port, O_RDONLY);
  std::optional<std::uint32_t> port;
  const std::string purpose = " (the event channel of dom0's own ring): ";
  if (!port_file.is_open()) {
    missing.push_back(paths.xsd_port + purpose + reason());
  } else if (port = read_number(port_file); !port) {
    missing.push_back(paths.xsd_port + purpose + "there is no number in it");
  }
  File page(paths.xsd_kva, O_RDWR);
  if (!page.is_open()) {
    missing.push_back(paths.xsd_kva + " (the page of dom0's own ring): " + reason());
  }
  if (!port || !page.is_open()) return std::nullopt;
  return OwnRingFile{std::move(page), RemotePort{*port}};
}

std::optional<OwnRingFile> open_backend(const XenPaths& paths, Missing& missing) {
  File page(paths.xenbus_backend, O_RDWR);
  const int port = page.is_open() ? ::ioctl(page.fd(), IOCTL_XENBUS_BACKEND_EVTCHN) : -1;
  if (port >= 0) return OwnRingFile{std::move(page), RemotePort{static_cast<std::uint32_t>(port)}};
  missing.push_back(paths.xenbus_backend + " (or both by this): " + reason());
  return std::nullopt;
}

store::Result<OwnRingFile, Missing> open_own_ring(const XenPaths& paths) {
  Missing missing;
  if (auto file = open_in_xenfs(paths, missing)) return std::move(*file);
  if (auto file = open_backend(paths, missing)) return std::move(*file);
  return tl::unexpected(std::move(missing));
}

std::string join(const Missing& missing) {
  std::string all;
  for (const std::string& one : missing) all += (all.empty() ? "" : "; ") + one;
  return all;
}

DomainInfo to_domain_info(const xc_domaininfo_t& from) {
  DomainInfo info{.domid = store::Domid{from.domain},
                  .handle = {},
                  .is_shut_down = (from.flags & XEN_DOMINF_shutdown) != 0,
                  .is_dying = (from.flags & XEN_DOMINF_dying) != 0};
  std::copy(std::begin(from.handle), std::end(from.handle), info.handle.begin());
  return info;
}

}  // namespace

void XenHypervisor::Close::operator()(xenevtchn_handle* events) const { xenevtchn_close(events); }
void XenHypervisor::Close::operator()(xengntdev_handle* grants) const { xengnttab_close(grants); }
void XenHypervisor::Close::operator()(xc_interface_core* control) const {
  xc_interface_close(control);
}

store::Result<std::unique_ptr<Hypervisor>, Missing> XenHypervisor::open(const XenPaths& paths) {
  std::unique_ptr<XenHypervisor> xen(new XenHypervisor(paths));
  Missing missing = xen->open_all();
  if (!missing.empty()) return tl::unexpected(std::move(missing));
  return xen;
}

/// Goes on after a failure: the operator wants to know all that is missing.
Missing XenHypervisor::open_all() {
  Missing missing;
  events_.reset(xenevtchn_open(&quiet, 0));
  if (!events_) {
    missing.push_back("/dev/xen/evtchn (event channels): " + reason());
  } else if (::fcntl(event_fd(), F_SETFL, O_RDWR | O_NONBLOCK) != 0) {
    missing.push_back("/dev/xen/evtchn (event channels without waiting): " + reason());
  }
  grants_.reset(xengnttab_open(&quiet, 0));
  if (!grants_) {
    missing.push_back("/dev/xen/gntdev (domains' pages): " + reason());
  } else {
    // Linux before 5.5 limits them; where it does not, there is nothing to set.
    xengnttab_set_max_grants(grants_.get(), store::raw(store::kFirstReservedDomid));
  }
  control_.reset(xc_interface_open(&quiet, &quiet, 0));
  if (!control_) {
    missing.push_back("/dev/xen/privcmd (the list of domains): " + reason());
  } else if (xc_domaininfo_t first; xc_domain_getinfolist(control_.get(), 0, 1, &first) < 0) {
    missing.push_back("/dev/xen/privcmd (the list of domains): Xen refuses, " + reason());
  }
  if (const auto own = open_own_ring(paths_); !own.has_value()) {
    missing.insert(missing.end(), own.error().begin(), own.error().end());
  }
  return missing;
}

int XenHypervisor::event_fd() const { return xenevtchn_fd(events_.get()); }

std::span<const LocalPort> XenHypervisor::take_pending() {
  const ssize_t bytes = ::read(event_fd(), pending_.data(), sizeof pending_);
  if (bytes >= 0) return {pending_.data(), static_cast<std::size_t>(bytes) / sizeof(LocalPort)};
  if (errno == EAGAIN || errno == EINTR) return {};
  if (errno == EFBIG) return take_all_after_overflow();
  die("cannot read event channels");
}

/// Linux before 4.5 had room for 1024 events; the others were masked and forgotten.
/// Any bound port may be one of them.
std::span<const LocalPort> XenHypervisor::take_all_after_overflow() {
  if (::ioctl(event_fd(), IOCTL_EVTCHN_RESET) != 0) die("cannot reset event channels");
  all_bound_.assign(bound_.begin(), bound_.end());
  return all_bound_;
}

void XenHypervisor::unmask(std::span<const LocalPort> ports) {
  while (!ports.empty()) {
    const ssize_t bytes = ::write(event_fd(), ports.data(), ports.size_bytes());
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes <= 0) die("cannot unmask event channels");
    ports = ports.subspan(static_cast<std::size_t>(bytes) / sizeof(LocalPort));
  }
}

void XenHypervisor::notify(LocalPort port) {
  // Fails when the port is not ours (any more): then nobody listens either.
  xenevtchn_notify(events_.get(), static_cast<evtchn_port_t>(port));
}

Hypervisor::Result<LocalPort> XenHypervisor::keep_bound(int port_or_error,
                                                        const std::string& what) {
  if (port_or_error < 0) return failed("cannot bind " + what);
  const LocalPort port{static_cast<std::uint32_t>(port_or_error)};
  bound_.insert(port);
  return port;
}

Hypervisor::Result<LocalPort> XenHypervisor::bind(store::Domid domid, RemotePort remote) {
  const auto port = static_cast<evtchn_port_t>(remote);
  const int result = xenevtchn_bind_interdomain(events_.get(), store::raw(domid), port);
  return keep_bound(result, "to event channel " + std::to_string(port) + " of " + show(domid));
}

Hypervisor::Result<LocalPort> XenHypervisor::bind_domain_exceptions() {
  return keep_bound(xenevtchn_bind_virq(events_.get(), VIRQ_DOM_EXC),
                    "to the end of domains (VIRQ_DOM_EXC; served by another xenstored?)");
}

void XenHypervisor::unbind(LocalPort port) {
  bound_.erase(port);
  xenevtchn_unbind(events_.get(), static_cast<evtchn_port_t>(port));
}

Hypervisor::Result<Hypervisor::MappedRing> XenHypervisor::map_ring(store::Domid domid) {
  void* const page = xengnttab_map_grant_ref(grants_.get(), store::raw(domid),
                                             GNTTAB_RESERVED_XENSTORE, PROT_READ | PROT_WRITE);
  if (page == nullptr) return failed("cannot map the ring of " + show(domid));
  return MappedRing(static_cast<RingPage*>(page), Unmap{this});
}

Hypervisor::Result<Hypervisor::OwnRing> XenHypervisor::map_own_ring() {
  const auto file = open_own_ring(paths_);
  if (!file.has_value()) return tl::unexpected(Error{ENODEV, join(file.error())});
  void* const page =
      ::mmap(nullptr, XC_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file->page.fd(), 0);
  if (page == MAP_FAILED) return failed("cannot map dom0's own ring");
  own_pages_.insert(static_cast<RingPage*>(page));
  return OwnRing{MappedRing(static_cast<RingPage*>(page), Unmap{this}), file->port};
}

void XenHypervisor::unmap(RingPage* page) {
  if (own_pages_.erase(page) != 0) {
    ::munmap(page, XC_PAGE_SIZE);
  } else {
    xengnttab_unmap(grants_.get(), page, 1);
  }
}

Hypervisor::Result<std::vector<DomainInfo>> XenHypervisor::domains() {
  std::vector<xc_domaininfo_t> chunk(kDomainsAtOnce);
  std::vector<DomainInfo> all;
  for (;;) {
    // Xen lists by ascending domid, from the one named on.
    const std::uint32_t next = all.empty() ? 0 : store::raw(all.back().domid) + 1U;
    const int count = xc_domain_getinfolist(control_.get(), next, kDomainsAtOnce, chunk.data());
    if (count < 0) return failed("cannot list the domains");
    std::transform(chunk.begin(), chunk.begin() + count, std::back_inserter(all), to_domain_info);
    if (static_cast<std::size_t>(count) < kDomainsAtOnce) return all;
  }
}

std::optional<DomainInfo> XenHypervisor::domain(store::Domid domid) {
  xc_domaininfo_t info;
  // The first from this domid on: it, or another, or none.
  const int count = xc_domain_getinfolist(control_.get(), store::raw(domid), 1, &info);
  if (count != 1 || info.domain != store::raw(domid)) return std::nullopt;
  return to_domain_info(info);
}

}  // namespace rings
