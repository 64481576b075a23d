// SPDX-License-Identifier: MIT
#include "xenstored/held_clients.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

namespace xenstored {
namespace {

/// A message with at most one descriptor beside it.
struct Envelope {
  HeldNote note{};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))]{};
  iovec part{&note, sizeof note};
  msghdr message{};

  Envelope() {
    message.msg_iov = &part;
    message.msg_iovlen = 1;
  }
  Envelope(const Envelope&) = delete;
  Envelope& operator=(const Envelope&) = delete;
};

bool send_note(int channel, const HeldNote& note, int fd) {
  Envelope envelope;
  envelope.note = note;
  if (fd >= 0) {
    envelope.message.msg_control = envelope.control;
    envelope.message.msg_controllen = sizeof envelope.control;
    cmsghdr* const header = CMSG_FIRSTHDR(&envelope.message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  ssize_t sent;
  do {
    sent = ::sendmsg(channel, &envelope.message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent >= 0;
}

}  // namespace

store::Result<HeldClients, std::string> HeldClients::open(int channel_fd, int table_fd) {
  HeldClients clients{UniqueFd(channel_fd)};
  const UniqueFd file(table_fd);
  for (const int fd : {channel_fd, table_fd}) {
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
      return tl::unexpected(std::string("no channel to the keeper"));
  }
  // As large as the keeper made it, which may be of another version.
  struct stat facts {};
  const bool has_size = ::fstat(table_fd, &facts) == 0;
  const std::size_t bytes = has_size ? static_cast<std::size_t>(facts.st_size) : 0;
  void* const begin = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, table_fd, 0);
  if (begin == MAP_FAILED) return tl::unexpected(std::string("cannot map the keeper's table"));
  const std::span slots(static_cast<const HeldTable::Slot*>(begin),
                        bytes / sizeof(HeldTable::Slot));
  for (const HeldTable::Slot& slot : slots) {
    if (slot.conn == 0) continue;
    UniqueFd fd(static_cast<int>(slot.fd));
    if (::fcntl(fd.get(), F_SETFD, FD_CLOEXEC) != 0) continue;
    clients.inherited_.push_back({store::ConnId{slot.conn}, std::move(fd)});
  }
  ::munmap(begin, bytes);
  clients.held_ = clients.inherited_.size();
  return clients;
}

std::vector<HeldClients::Client> HeldClients::take() { return std::exchange(inherited_, {}); }

bool HeldClients::has_room() { return !is_gone_ && held_ < kHeldMax && catch_up(); }

bool HeldClients::hold(store::ConnId id, int fd) {
  if (!send_note(channel_.get(), {raw(id), HeldNote::kHold, 0}, fd)) {
    is_gone_ = errno == EPIPE;
    return false;
  }
  ++held_;
  return true;
}

void HeldClients::let_go(store::ConnId id) {
  untold_.push_back(id);
  --held_;
}

bool HeldClients::catch_up() {
  while (!untold_.empty()) {
    if (!send_note(channel_.get(), {raw(untold_.front()), HeldNote::kLetGo, 0}, -1)) {
      if (errno != EPIPE) return false;
      is_gone_ = true;  // and what it held
      untold_.clear();
      return true;
    }
    untold_.pop_front();
  }
  return true;
}

store::Result<ClientHolder, std::string> ClientHolder::make() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return tl::unexpected(std::string("socketpair: ") + std::strerror(errno));
  }
  UniqueFd near(ends[0]);
  UniqueFd far(ends[1]);
  UniqueFd file(::memfd_create("xenstored-clients", MFD_CLOEXEC));
  if (!file.valid() || ::ftruncate(file.get(), sizeof(HeldTable)) != 0) {
    return tl::unexpected(std::string("memfd: ") + std::strerror(errno));
  }
  void* const begin =
      ::mmap(nullptr, sizeof(HeldTable), PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (begin == MAP_FAILED) return tl::unexpected(std::string("mmap: ") + std::strerror(errno));
  return ClientHolder(std::move(near), std::move(far), std::move(file),
                      static_cast<HeldTable*>(begin));
}

ClientHolder::ClientHolder(UniqueFd near, UniqueFd far, UniqueFd table_file, HeldTable* table)
    : near_(std::move(near)),
      far_(std::move(far)),
      table_file_(std::move(table_file)),
      table_(table) {}

ClientHolder::ClientHolder(ClientHolder&& other) noexcept
    : near_(std::move(other.near_)),
      far_(std::move(other.far_)),
      table_file_(std::move(other.table_file_)),
      table_(std::exchange(other.table_, nullptr)) {}

ClientHolder::~ClientHolder() {
  if (table_ == nullptr) return;
  for (const HeldTable::Slot& slot : table_->slots) {
    if (slot.conn != 0) ::close(static_cast<int>(slot.fd));
  }
  ::munmap(table_, sizeof(HeldTable));
}

void ClientHolder::listen() {
  for (;;) {
    Envelope envelope;
    envelope.message.msg_control = envelope.control;
    envelope.message.msg_controllen = sizeof envelope.control;
    // Not close-on-exec: the next server inherits it under this number.
    const ssize_t got = ::recvmsg(near_.get(), &envelope.message, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return;
    UniqueFd fd;
    const cmsghdr* const header = CMSG_FIRSTHDR(&envelope.message);
    if (header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
        header->cmsg_len == CMSG_LEN(sizeof(int))) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(header), sizeof number);
      fd.reset(number);
    }
    if (got != ssize_t{sizeof envelope.note}) continue;
    if (envelope.note.what == HeldNote::kLetGo) let_go(envelope.note.conn);
    if (envelope.note.what == HeldNote::kHold && fd.valid()) {
      hold(envelope.note.conn, std::move(fd));
    }
  }
}

HeldTable::Slot* ClientHolder::find(std::uint64_t conn) {
  auto* const end = std::end(table_->slots);
  auto* const found = std::find_if(std::begin(table_->slots), end,
                                   [conn](const auto& slot) { return slot.conn == conn; });
  return found == end ? nullptr : found;
}

void ClientHolder::hold(std::uint64_t conn, UniqueFd fd) {
  let_go(conn);
  HeldTable::Slot* const slot = find(0);
  if (slot == nullptr || conn == 0) return;  // it ends with its server
  *slot = {conn, fd.release()};
}

void ClientHolder::let_go(std::uint64_t conn) {
  HeldTable::Slot* const slot = conn == 0 ? nullptr : find(conn);
  if (slot == nullptr) return;
  ::close(static_cast<int>(slot->fd));
  *slot = {};
}

}  // namespace xenstored
