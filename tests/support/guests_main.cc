// SPDX-License-Identifier: MIT
/// xenstored-with-guests: the daemon, and a way in for guests while there is no
/// ring. On `<rundir>/guests` a client sends two bytes, a domid, and from then on
/// is that introduced domain. A domid from 20000 on exists only while there is a
/// file `<rundir>/exists-<domid>`, so that tests have domains that are not there.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "xenstored/daemon.h"
#include "xenstored/server.h"

// The real run_server, and the one that main() is linked with instead (ld --wrap).
// NOLINTBEGIN(bugprone-reserved-identifier): the names are the linker's.
extern "C" int
__real_run_server(const xenstored::Options& options, const xenstored::ServerStart& start) asm(
    "__real__ZN9xenstored10run_serverERKNS_7OptionsERKNS_11ServerStartE");
extern "C" int
__wrap_run_server(const xenstored::Options& options, const xenstored::ServerStart& start) asm(
    "__wrap__ZN9xenstored10run_serverERKNS_7OptionsERKNS_11ServerStartE");

namespace {

constexpr store::Domid kFirstInQuestion{20000};

class SomeDomains final : public xenstored::DomainOracle {
 public:
  explicit SomeDomains(const std::string& run_dir) : prefix_(run_dir + "/exists-") {}
  bool exists(store::Domid domid) override {
    return domid < kFirstInQuestion ||
           access((prefix_ + std::to_string(raw(domid))).c_str(), F_OK) == 0;
  }

 private:
  std::string prefix_;
};

int listen_at(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  unlink(path.c_str());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      listen(fd, 1024) != 0) {
    return -1;
  }
  return fd;
}

void accept_guests(xenstored::Daemon& daemon, int listen_fd) {
  for (;;) {
    xenstored::UniqueFd guest(accept4(listen_fd, nullptr, nullptr, SOCK_CLOEXEC));
    if (!guest.valid()) return;
    std::uint16_t domid = 0;
    if (recv(guest.get(), &domid, sizeof domid, MSG_WAITALL) != sizeof domid) continue;
    daemon.attach_domain(store::Domid{domid}, std::move(guest));
  }
}

}  // namespace

// NOLINTNEXTLINE(bugprone-reserved-identifier)
int __wrap_run_server(const xenstored::Options& options, const xenstored::ServerStart& start) {
  SomeDomains domains(options.run_dir);
  xenstored::ServerStart with_guests = start;
  with_guests.oracle = &domains;
  with_guests.prepare = [&options](xenstored::Daemon& daemon) {
    const int fd = listen_at(options.run_dir + "/guests");
    if (fd >= 0) daemon.add_source(fd, [&daemon, fd] { accept_guests(daemon, fd); });
  };
  return __real_run_server(options, with_guests);
}
