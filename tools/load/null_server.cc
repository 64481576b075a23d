// SPDX-License-Identifier: MIT
/// xs-null: what a xenstore server costs before it does anything.
///
/// It makes the system calls that a sensible server makes (epoll_wait, recv, send), looks at no
/// more of a request than its header, and answers from a table. All requests that one recv brought
/// are answered with one send. The difference between it and a real server is that server's work.
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
#include <optional>
#include <string>
#include <string_view>
#include <vector>

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

std::string_view canned_reply(Op op) {
  switch (op) {
    case Op::kRead:
      return "0123456789"sv;
    case Op::kDirectory:
      return "a\0b\0c\0"sv;
    case Op::kDirectoryPart:
      return "1\0a\0b\0c\0\0"sv;
    case Op::kGetPerms:
      return "n0\0"sv;
    case Op::kTransactionStart:
      return "1\0"sv;
    case Op::kGetDomainPath:
      return "/local/domain/0\0"sv;
    case Op::kIsDomainIntroduced:
      return "T\0"sv;
    default:
      return "OK\0"sv;
  }
}

void append_frame(std::string& out, Header header, std::string_view payload) {
  header.len = static_cast<std::uint32_t>(payload.size());
  out.append(reinterpret_cast<const char*>(&header), sizeof header);
  out.append(payload);
}

class NullServer {
 public:
  explicit NullServer(const std::string& path);
  [[noreturn]] void run();

 private:
  void accept_all();
  void serve(int fd);
  /// Appends the replies to all whole frames of `input`; returns the bytes taken, or nothing to
  /// close the peer.
  static std::optional<std::size_t> answer(std::string_view input, std::string& out);
  void drop(int fd);

  int listener_;
  int epoll_;
  std::vector<std::unique_ptr<Peer>> peers_;  ///< by descriptor
  std::array<char, kInputBytes> input_{};
  std::string out_;
};

NullServer::NullServer(const std::string& path)
    : listener_(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)) {
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
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = listener_;
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, listener_, &event) != 0) die("xs-null: epoll_ctl");
}

void NullServer::run() {
  std::array<epoll_event, 64> events{};
  while (true) {
    const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      if (fd == listener_) {
        accept_all();
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
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) {
      close(fd);
      continue;
    }
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
  const auto taken = answer(input, out_);
  if (!taken) return drop(fd);
  peer.partial = std::string(input.substr(*taken));
  if (out_.empty()) return;
  if (send(fd, out_.data(), out_.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(out_.size())) {
    drop(fd);
  }
}

std::optional<std::size_t> NullServer::answer(std::string_view input, std::string& out) {
  std::size_t taken = 0;
  while (input.size() - taken >= sizeof(Header)) {
    Header header{};
    std::memcpy(&header, input.data() + taken, sizeof header);
    if (header.len > xenstored::kPayloadMax) return std::nullopt;
    if (input.size() - taken < sizeof header + header.len) break;
    const std::string_view payload = input.substr(taken + sizeof header, header.len);
    append_frame(out, header, canned_reply(static_cast<Op>(header.type)));
    // A watch's first event carries the path and token that were asked for: the same bytes.
    if (static_cast<Op>(header.type) == Op::kWatch) {
      append_frame(out, {static_cast<std::uint32_t>(Op::kWatchEvent), 0, 0, 0}, payload);
    }
    taken += sizeof header + header.len;
  }
  return taken;
}

void NullServer::drop(int fd) {
  close(fd);
  peers_[static_cast<std::size_t>(fd)].reset();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 || argv[1] != "--socket"sv) {
    std::fprintf(stderr, "usage: xs-null --socket PATH\n");
    return 2;
  }
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  NullServer(argv[2]).run();
}
