// SPDX-License-Identifier: MIT
/// xenstored: what kind of process this start is, and its parts.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "rings/xen_hypervisor.h"
#include "xenstored/claim.h"
#include "xenstored/keeper.h"
#include "xenstored/log.h"
#include "xenstored/options.h"
#include "xenstored/pidfile.h"
#include "xenstored/sd_notify.h"
#include "xenstored/server.h"

namespace {

using xenstored::kExitRefused;
using xenstored::Options;

int refuse(const std::string& reason) {
  std::fprintf(stderr, "xenstored: %s\n", reason.c_str());
  return kExitRefused;
}

using HypervisorPtr = std::unique_ptr<rings::Hypervisor>;

/// Without -D the daemon serves the domains of a Xen; better not to start than to
/// leave them waiting. With -D: null.
store::Result<HypervisorPtr, std::string> open_hypervisor(const Options& options) {
  if (options.no_domain_init) return nullptr;
  auto opened = rings::XenHypervisor::open();
  if (opened.has_value()) return std::move(opened.value());
  std::string reasons = "there is no Xen to serve (-D serves the socket alone):";
  for (const std::string& missing : opened.error()) reasons += "\n  " + missing;
  return tl::unexpected(std::move(reasons));
}

void note_server_pid(const Options& options) {
  if (!xenstored::write_pid(options.server_pid_file(), ::getpid())) {
    xenstored::log::warn("cannot write " + options.server_pid_file());
  }
}

/// A server that comes back allocates a whole tree at once. With large pages the
/// first answer at 10^5 nodes comes after 30 ms instead of 46 (xs-load --scenario
/// restart); malloc reads this only at a program's start. What the operator set
/// stays.
void ask_for_large_pages() { ::setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1", 0); }

/// One process that owns its socket itself.
int serve_alone(const Options& options) {
  const auto hypervisor = open_hypervisor(options);
  if (!hypervisor.has_value()) return refuse(hypervisor.error());
  auto claim = xenstored::Claim::take(options);
  if (!claim.has_value()) return refuse(claim.error());
  const auto on_ready = [&options] {
    note_server_pid(options);
    xenstored::log::ready();
    if (options.print_pid) {
      std::printf("%d\n", ::getpid());
      std::fflush(stdout);
    }
    xenstored::sd_notify("READY=1");
  };
  const int exit_code = xenstored::run_server(
      options, {claim->socket.listen_fd(), on_ready, hypervisor.value().get()});
  xenstored::sd_notify("STOPPING=1");
  if (exit_code == 0) ::unlink(options.server_pid_file().c_str());
  claim->give_up();
  return exit_code;
}

/// The server behind a keeper, which owns socket and pid file.
int serve_kept(const Options& options) {
  const xenstored::Inherited& inherited = *options.inherited;
  for (const int fd : {inherited.listen_fd, inherited.ready_fd, inherited.lock_fd}) {
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return refuse("--kept is for the keeper's use only");
  }
  auto clients = xenstored::HeldClients::open(inherited.channel_fd, inherited.table_fd);
  if (!clients.has_value()) return refuse(clients.error());
  const auto hypervisor = open_hypervisor(options);
  if (!hypervisor.has_value()) {
    // It was there when the keeper started: to be tried again, guests wait.
    xenstored::log::error(hypervisor.error());
    return xenstored::kExitFailed;
  }
  const auto on_ready = [&options, &inherited] {
    note_server_pid(options);
    xenstored::log::ready();
    if (!options.foreground) xenstored::detach_stdio();
    xenstored::sd_notify(("READY=1\nMAINPID=" + std::to_string(::getppid())).c_str());
    xenstored::tell_keeper_ready(inherited);
  };
  return xenstored::run_server(options, {inherited.listen_fd, on_ready, hypervisor.value().get(),
                                         options.close_clients ? nullptr : &clients.value()});
}

/// Started without them, what is opened next would get their numbers, and be taken for them.
void open_standard_descriptors() {
  int fd;
  do {
    fd = ::open("/dev/null", O_RDWR);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0) ::close(fd);
}

}  // namespace

int main(int argc, char* argv[]) {
  open_standard_descriptors();
  const auto parsed = xenstored::parse_options(argc, argv);
  if (!parsed.has_value()) return refuse(parsed.error());
  const Options& options = *parsed;
  if (options.show_help) {
    std::fputs(xenstored::usage().c_str(), stdout);
    return 0;
  }
  const bool has_keeper = !options.foreground || options.supervise;
  if (has_keeper && !options.inherited) {
    // Asked here as well, so that who starts the daemon is told.
    if (const auto there = open_hypervisor(options); !there.has_value()) {
      return refuse(there.error());
    }
    ask_for_large_pages();
    return xenstored::run_keeper(options, argc, argv);
  }
  xenstored::log::open(options.log_to);
  return options.inherited ? serve_kept(options) : serve_alone(options);
}
