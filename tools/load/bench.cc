// SPDX-License-Identifier: MIT
#include "tools/load/bench.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "tools/load/node_sessions.h"
#include "tools/load/server_process.h"

namespace load {
namespace {

using xenstored::Op;
using namespace std::string_view_literals;

/// The server's pid. Asked after a first reply: a keeper listens before its server has begun.
pid_t find_serving(const std::string& socket_path, SocketConnection& connection) {
  connection.ask(Op::kRead, {"/", kNul});
  return find_server(socket_path, connection.fd());
}

/// WATCH on distinct paths where no scenario writes.
class WatchSession : public Session {
 public:
  explicit WatchSession(std::uint64_t first) : next_(first) {}

  void begin(Outbox& out) override {
    const std::string number = std::to_string(next_ % 1000);
    const std::string directory = "/bench-watched/" + std::to_string(next_ / 1000) + "/";
    ++next_;
    out.add(Op::kWatch, 0, {directory, number, kNul, "token", kNul});
  }
  Step on_reply(const Frame& reply, Outbox& /*out*/) override {
    return is_ok(reply, Op::kWatch) ? Step::kDone : Step::kWrong;
  }

 private:
  std::uint64_t next_;
};

}  // namespace

Bench::Bench(const Options& options)
    : options_(options),
      control_(options.socket),
      server_(options.pid != 0 ? options.pid : find_serving(options.socket, control_)) {
  if (options.machine.empty()) return;
  guests_ = std::make_unique<Guests>(options.machine, options.socket);
  guests_->introduce(options.clients + options.idle);
}

std::unique_ptr<Connection> Bench::connect(unsigned client) {
  if (guests_) return guests_->connect(domid_of(client));
  return std::make_unique<SocketConnection>(options_.socket);
}

void Bench::write(const std::string& path, std::string_view value) {
  if (!is_ok(control_.ask(Op::kWrite, {path, kNul, value}), Op::kWrite)) {
    die("setting up: WRITE " + path + " was refused");
  }
}

void Bench::let(const std::string& path, const std::string& perms) {
  if (!guests_) return;
  if (!is_ok(control_.ask(Op::kSetPerms, {path, kNul, perms, kNul}), Op::kSetPerms)) {
    die("setting up: SET_PERMS " + path + " was refused");
  }
}

std::string Bench::read(const std::string& path) {
  const Frame reply = control_.ask(Op::kRead, {path, kNul});
  return reply.is(Op::kRead) ? std::string(reply.payload) : std::string();
}

void Bench::remove(const std::string& path) { control_.ask(Op::kRm, {path, kNul}); }

std::uint64_t Bench::count_children(const std::string& path) {
  std::uint64_t children = 0;
  std::size_t offset = 0;
  while (true) {
    const Frame reply =
        control_.ask(Op::kDirectoryPart, {path, kNul, std::to_string(offset), kNul});
    if (!reply.is(Op::kDirectoryPart)) return 0;
    // "<generation>\0" comes first; an empty name marks the end of the list.
    std::string_view names = reply.payload.substr(reply.payload.find('\0') + 1);
    const bool is_last = names == "\0"sv || names.ends_with("\0\0"sv);
    if (is_last) names.remove_suffix(1);
    children += static_cast<std::uint64_t>(std::count(names.begin(), names.end(), '\0'));
    offset += names.size();
    if (is_last) return children;
  }
}

void Bench::make_directories() {
  for (unsigned client = 0; client < options_.clients; ++client) {
    const std::string directory = directory_of(options_, client);
    write(directory, "");
    let(directory, "r" + std::to_string(domid_of(client)));
    for (std::uint64_t node = 0; node < options_.nodes; ++node) {
      // A new node has its parent's owner and permissions.
      write(directory + "/" + std::to_string(node), plain_value(options_.value_bytes));
    }
  }
}

Background Bench::make_background() {
  constexpr unsigned kWatchers = 4;
  Background background;
  for (unsigned i = 0; i < options_.idle; ++i) {
    background.silent.push_back(connect(options_.clients + i));
  }
  if (options_.watches == 0) return background;

  // Always sockets: no guest may have so many.
  background.watchers.reserve(kWatchers);
  const std::uint64_t each = (options_.watches + kWatchers - 1) / kWatchers;
  for (unsigned i = 0; i < kWatchers; ++i) {
    background.watchers.emplace_back(std::make_unique<SocketConnection>(options_.socket),
                                     std::make_unique<WatchSession>(i * each));
  }
  Options setup = options_;
  setup.ops = options_.watches;
  setup.inflight = kSetupInflight;
  if (Driver(background.watchers, 0, nullptr).run(setup).errors > 0) {
    die("setting up: WATCH was refused");
  }
  return background;
}

std::string root_of(const Options& options) { return "/bench/" + options.scenario; }

std::string directory_of(const Options& options, unsigned client) {
  return root_of(options) + "/" + std::to_string(client);
}

void sleep_for(double seconds) {
  timespec time{};
  time.tv_sec = static_cast<time_t>(seconds);
  time.tv_nsec = static_cast<long>((seconds - static_cast<double>(time.tv_sec)) * 1e9);
  nanosleep(&time, nullptr);
}

/// Kills the process and waits until it is gone, all its descriptors closed.
void kill_and_wait(pid_t pid) {
  const int handle = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (handle < 0) die("pidfd_open " + std::to_string(pid), errno);
  if (kill(pid, SIGKILL) != 0) die("kill", errno);
  pollfd gone{handle, POLLIN, 0};
  while (poll(&gone, 1, -1) < 0 && errno == EINTR) {
  }
  close(handle);
}

/// The pid in the pid file, once it is not `dead`.
pid_t wait_for_successor(const std::string& socket_path, pid_t dead) {
  const std::uint64_t until = now_ns() + 10'000'000'000;
  while (now_ns() < until) {
    const pid_t pid = server_pid_from_file(socket_path);
    if (pid != 0 && pid != dead) return pid;
    sleep_for(0.001);
  }
  die("no new server in xenstored-server.pid; is there a keeper?");
}

}  // namespace load
