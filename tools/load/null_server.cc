// SPDX-License-Identifier: MIT
/// xs-null: what a xenstore server costs before it does anything.
///
/// It makes the system calls that a sensible server makes (epoll_wait, recv, send), looks at no
/// more of a request than its header, and answers from a table. All requests that one recv brought
/// are answered with one send. The difference between it and a real server is that server's work.
///
/// With --rings it serves domains too, by the daemon's own rings library: INTRODUCE and RELEASE are
/// the only requests whose payload it looks at.
///
/// It serves its own load generator only: a peer that breaks the framing or does not read its
/// replies is closed.
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tools/load/null_replies.h"
#include "tools/load/null_rings.h"
#include "xenstored/wire.h"

namespace {

using xenstored::Header;
using xenstored::Op;
using namespace std::string_view_literals;

constexpr std::size_t kInputBytes = std::size_t{64} * 1024;

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

/// A frame that is not whole yet; most peers never have one.
struct Peer {
  std::string partial;
};

class NullServer {
 public:
  /// `rings` may be null.
  NullServer(const std::string& path, std::unique_ptr<load::NullRings> rings);
  [[noreturn]] void run();

 private:
  void accept_all();
  void serve(int fd);
  void drop(int fd);

  void poll(int fd);
  void follow(std::string_view input);

  int listener_;
  int epoll_;
  std::unique_ptr<load::NullRings> rings_;
  std::vector<std::unique_ptr<Peer>> peers_;  ///< by descriptor
  std::array<char, kInputBytes> input_{};
  std::string out_;
};

NullServer::NullServer(const std::string& path, std::unique_ptr<load::NullRings> rings)
    : listener_(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      rings_(std::move(rings)) {
  if (listener_ < 0 || epoll_ < 0) die("xs-null: socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) die("xs-null: path too long");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  unlink(path.c_str());
  if (bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener_, SOMAXCONN) != 0) {
    die("xs-null: bind");
  }
  poll(listener_);
  if (rings_) poll(rings_->event_fd());
}

void NullServer::poll(int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) die("xs-null: epoll_ctl");
}

void NullServer::run() {
  std::array<epoll_event, 64> events{};
  while (true) {
    const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      if (fd == listener_) {
        accept_all();
      } else if (rings_ && fd == rings_->event_fd()) {
        rings_->serve();
      } else {
        serve(fd);
      }
    }
  }
}

void NullServer::accept_all() {
  while (true) {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    poll(fd);
    const auto slot = static_cast<std::size_t>(fd);
    if (peers_.size() <= slot) peers_.resize(slot + 1);
    peers_[slot] = std::make_unique<Peer>();
  }
}

void NullServer::serve(int fd) {
  Peer& peer = *peers_[static_cast<std::size_t>(fd)];
  const ssize_t got = recv(fd, input_.data(), input_.size(), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return drop(fd);

  std::string_view input(input_.data(), static_cast<std::size_t>(got));
  if (!peer.partial.empty()) {
    peer.partial.append(input);
    input = peer.partial;
  }
  out_.clear();
  if (rings_) follow(input);
  const auto taken = load::answer_all(input, out_);
  if (!taken) return drop(fd);
  peer.partial = std::string(input.substr(*taken));
  if (out_.empty()) return;
  if (send(fd, out_.data(), out_.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(out_.size())) {
    drop(fd);
  }
}

/// Whoever introduces domains sends nothing else until it has the reply.
void NullServer::follow(std::string_view input) {
  Header header{};
  if (input.size() < sizeof header) return;
  std::memcpy(&header, input.data(), sizeof header);
  const std::string_view payload = input.substr(sizeof header);
  if (static_cast<Op>(header.type) == Op::kIntroduce) rings_->introduce(payload);
  if (static_cast<Op>(header.type) == Op::kRelease) rings_->release(payload);
}

void NullServer::drop(int fd) {
  close(fd);
  peers_[static_cast<std::size_t>(fd)].reset();
}

}  // namespace

int main(int argc, char** argv) {
  const bool has_rings = argc == 4 && argv[3] == "--rings"sv;
  if ((argc != 3 && !has_rings) || argv[1] != "--socket"sv) {
    std::fprintf(stderr, "usage: xs-null --socket PATH [--rings]\n");
    return 2;
  }
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  NullServer(argv[2], has_rings ? load::NullRings::open() : nullptr).run();
}
