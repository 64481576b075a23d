// SPDX-License-Identifier: MIT
#include "xenstored/kept_client.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "xenstored/unique_fd.h"

namespace xenstored {
namespace {

constexpr std::uint64_t kLayout = 0x32544e45494c4358;  // "XCLIENT2"
constexpr std::size_t kPageBytes = 4096;
constexpr std::uint64_t kOutboxMin = 8192;
/// An outbox that grew beyond this is made small again when it is empty.
constexpr std::uint64_t kOutboxIdleMax = std::uint64_t{1} << 20;
/// Set in a position while a plain call is under way.
constexpr std::uint64_t kInDoubt = std::uint64_t{1} << 63;
/// In place of a position: the kernel notes it.
constexpr std::uint64_t kNotedByKernel = ~std::uint64_t{0};
/// More than any connection may have waiting.
constexpr std::uint64_t kOutboxFileMax = std::uint64_t{64} << 20;

/// A store that other stores do not move across: what comes before it in the program is
/// in the file before it.
void publish(std::uint64_t& field, std::uint64_t value) {
  std::atomic_ref(field).store(value, std::memory_order_release);
}

/// Copies between a stream and the ring buffer in which its byte at position p stands at
/// p modulo the size. The size is a power of two.
void put_ring(char* ring, std::uint64_t size, std::uint64_t position, std::string_view bytes) {
  if (bytes.empty()) return;  // which may be nowhere
  const std::uint64_t at = position % size;
  const std::size_t first = std::min<std::uint64_t>(bytes.size(), size - at);
  std::memcpy(ring + at, bytes.data(), first);
  std::memcpy(ring, bytes.data() + first, bytes.size() - first);
}

void get_ring(const char* ring, std::uint64_t size, std::uint64_t begin, std::uint64_t end,
              std::string& bytes) {
  const std::uint64_t at = begin % size;
  const std::size_t first = std::min<std::uint64_t>(end - begin, size - at);
  bytes.assign(ring + at, first);
  bytes.append(ring, end - begin - first);
}

std::string file_of(const std::string& directory, store::ConnId id) {
  return directory + "/" + std::to_string(raw(id));
}

std::string errno_text(const std::string& what) { return what + ": " + std::strerror(errno); }

}  // namespace

Peer peer_of(int fd) {
  ucred who{};
  socklen_t size = sizeof who;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) return {};
  Peer peer{who.pid, who.uid, {}};
  std::ifstream comm("/proc/" + std::to_string(who.pid) + "/comm");
  std::getline(comm, peer.command);
  return peer;
}

/// How far a stream has got, and the position of the byte that stands first in its buffer.
/// That changes only while the buffer holds nothing that anybody needs, so that few bytes
/// at a time stay at its begin, which the processor has at hand.
struct KeptClient::Stream {
  std::uint64_t position;
  std::uint64_t base;
};

/// Where the last noted transfer began, and how much it moved, which the kernel stores in
/// `message.msg_len`. A transfer is prepared in the entry that is not current; making it
/// current is one store, and moves nothing.
struct KeptClient::Transfers {
  struct Transfer {
    std::uint64_t begin;
    mmsghdr message;
  };
  std::uint64_t current;
  Transfer transfers[2];
};

struct KeptClient::Version {
  std::uint64_t number;  ///< written last; 0: none. The higher one is the later.
  std::uint64_t commit;  ///< of the journal, from which on this is valid
  std::uint64_t in_off;
  std::uint64_t out_first;
  std::uint64_t out_end;
  std::uint32_t last_tx;
  std::uint16_t is_closed;
  std::uint16_t open_count;
};

/// What each request touches comes first, together.
struct KeptClient::Page {
  Stream in;
  Stream out;
  Version versions[2];
  std::uint64_t layout;
  std::uint64_t outbox_bytes;
  Transfers in_transfers;
  Transfers out_transfers;
  std::array<std::uint32_t, kOpenTxMax> open_tx[2];  ///< of each version
};

KeptClient::KeptClient(std::string path, Page* page, std::size_t bytes)
    : path_(std::move(path)), page_(page), bytes_(bytes) {}

KeptClient::~KeptClient() { ::munmap(page_, bytes_); }

std::size_t KeptClient::file_bytes(std::uint64_t outbox_bytes) {
  static_assert(sizeof(Page) <= kPageBytes);
  return kPageBytes + kInboxBytes + outbox_bytes;
}

char* KeptClient::inbox() const { return reinterpret_cast<char*>(page_) + kPageBytes; }
char* KeptClient::outbox() const { return inbox() + kInboxBytes; }

/// All of it is allocated: a store can not fail for want of space.
KeptClient::Page* KeptClient::map_file(const std::string& path, std::size_t bytes, bool is_new) {
  const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | (is_new ? O_CREAT | O_TRUNC : 0);
  const UniqueFd fd(::open(path.c_str(), flags, 0600));
  if (!fd.valid()) return nullptr;
  if (is_new && ::fallocate(fd.get(), 0, 0, static_cast<off_t>(bytes)) != 0) return nullptr;
  void* const begin =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd.get(), 0);
  if (begin == MAP_FAILED) return nullptr;
  // So that the kernel's count is stored without a fault, in which a death could cut in.
  (void)::mlock(begin, kPageBytes);
  return static_cast<Page*>(begin);
}

store::Result<std::unique_ptr<KeptClient>, std::string> KeptClient::create(
    const std::string& directory, store::ConnId id, std::string_view in, const Output& out,
    std::uint64_t sent) {
  const std::string path = file_of(directory, id);
  std::uint64_t outbox_bytes = kOutboxMin;
  while (outbox_bytes < out.end - out.first) outbox_bytes *= 2;
  Page* const page = map_file(path, file_bytes(outbox_bytes), true);
  if (page == nullptr) {
    auto error = errno_text(path);
    ::unlink(path.c_str());
    return tl::unexpected(std::move(error));
  }
  std::unique_ptr<KeptClient> kept(new KeptClient(path, page, file_bytes(outbox_bytes)));
  page->outbox_bytes = outbox_bytes;
  put_ring(kept->inbox(), kInboxBytes, 0, in);
  page->in.position = kept->received_ = in.size();
  page->out = {sent, out.first};
  kept->sent_ = sent;
  kept->put_output(out, out.first);
  publish(page->layout, kLayout);
  return kept;
}

store::Result<std::unique_ptr<KeptClient>, std::string> KeptClient::open(
    const std::string& directory, store::ConnId id, std::uint64_t confirmed) {
  const std::string path = file_of(directory, id);
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return tl::unexpected(errno_text(path));
  const auto bytes = static_cast<std::size_t>(status.st_size);
  if (bytes < file_bytes(kOutboxMin)) return tl::unexpected(path + " is not whole");
  Page* const page = map_file(path, bytes, false);
  if (page == nullptr) return tl::unexpected(errno_text(path));
  std::unique_ptr<KeptClient> kept(new KeptClient(path, page, bytes));
  if (page->layout != kLayout || file_bytes(page->outbox_bytes) != bytes ||
      (page->outbox_bytes & (page->outbox_bytes - 1)) != 0) {
    return tl::unexpected(path + " is of another make");
  }
  if (is_in_doubt(page->in) || is_in_doubt(page->out)) {
    return tl::unexpected(path + " is of one who was just being received from or sent to");
  }
  // Of a turn that was not committed nothing is left; the number of its commit will be
  // that of another.
  for (Version& version : page->versions) {
    if (version.commit > confirmed) publish(version.number, 0);
  }
  kept->valid_ = page->versions[0].number > page->versions[1].number ? 0 : 1;
  const Version& valid = kept->valid();
  const std::uint64_t received = kept->received_ = position(page->in, page->in_transfers);
  const std::uint64_t sent = kept->sent_ = position(page->out, page->out_transfers);
  const bool is_sound =
      valid.number != 0 && valid.in_off <= received && received - valid.in_off <= kInboxBytes &&
      valid.out_first <= sent && sent <= valid.out_end &&
      valid.out_end - valid.out_first <= page->outbox_bytes && valid.open_count <= kOpenTxMax;
  if (!is_sound) return tl::unexpected(path + " holds nothing that was committed");
  kept->in_off_ = kept->in_saved_ = valid.in_off;
  kept->out_saved_ = valid.out_end;
  return kept;
}

void KeptClient::sweep(const std::string& directory, std::span<const store::ConnId> ids) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename();
    const bool is_known = std::any_of(ids.begin(), ids.end(), [&name](store::ConnId id) {
      return name == std::to_string(raw(id));
    });
    if (!is_known) std::filesystem::remove(entry.path(), error);
  }
}

bool KeptClient::is_in_doubt(const Stream& stream) {
  return stream.position != kNotedByKernel && (stream.position & kInDoubt) != 0;
}

std::uint64_t KeptClient::position(const Stream& stream, const Transfers& transfers) {
  if (stream.position != kNotedByKernel) return stream.position;
  const auto& transfer = transfers.transfers[transfers.current & 1];
  return transfer.begin + std::atomic_ref(const_cast<unsigned&>(transfer.message.msg_len)).load();
}

/// A call that the kernel notes; of what it moves it stores how much in what is returned.
mmsghdr& KeptClient::begin_noted(Stream& stream, Transfers& transfers, std::uint64_t position,
                                 iovec& part) {
  const std::uint64_t next = 1 - transfers.current;
  auto& [begin, message] = transfers.transfers[next];
  begin = position;
  message = {};
  message.msg_hdr.msg_iov = &part;
  message.msg_hdr.msg_iovlen = 1;
  publish(transfers.current, next);
  publish(stream.position, kNotedByKernel);
  return message;
}

KeptClient::Received KeptClient::receive(int fd, std::string_view& bytes, Calls calls) {
  Stream& stream = page_->in;
  if (received_ == in_saved_ && stream.base != received_) publish(stream.base, received_);
  const std::size_t at = (received_ - stream.base) % kInboxBytes;
  iovec part{inbox() + at, std::min(room(), kInboxBytes - at)};
  if (part.iov_len == 0) return Received::kNothing;
  ssize_t count;
  if (calls == Calls::kNoted) {
    mmsghdr& message = begin_noted(stream, page_->in_transfers, received_, part);
    count = ::recvmmsg(fd, &message, 1, MSG_DONTWAIT, nullptr);
    // Told before what can still be received; recv() tells it afterwards.
    if (count < 0 && errno == ECONNRESET) {
      count = ::recvmmsg(fd, &message, 1, MSG_DONTWAIT, nullptr);
    }
    if (count > 0) count = message.msg_len;
  } else {
    publish(stream.position, received_ | kInDoubt);
    count = ::recv(fd, part.iov_base, part.iov_len, MSG_DONTWAIT);
    publish(stream.position, received_ + static_cast<std::uint64_t>(std::max<ssize_t>(count, 0)));
  }
  if (count < 0) return errno == EAGAIN || errno == EINTR ? Received::kNothing : Received::kError;
  if (count == 0) return Received::kEnd;
  bytes = {inbox() + at, static_cast<std::size_t>(count)};
  received_ += bytes.size();
  return Received::kBytes;
}

ssize_t KeptClient::send(int fd, std::string_view bytes, Calls calls) {
  Stream& stream = page_->out;
  ssize_t count;
  if (calls == Calls::kNoted) {
    iovec part{const_cast<char*>(bytes.data()), bytes.size()};
    mmsghdr& message = begin_noted(stream, page_->out_transfers, sent_, part);
    count = ::sendmmsg(fd, &message, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count > 0) count = message.msg_len;
  } else {
    publish(stream.position, sent_ | kInDoubt);
    count = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    publish(stream.position, sent_ + static_cast<std::uint64_t>(std::max<ssize_t>(count, 0)));
  }
  if (count > 0) sent_ += static_cast<std::uint64_t>(count);
  return count;
}

KeptClient::Version& KeptClient::valid() const { return page_->versions[valid_]; }

/// A larger outbox (or a small one again) is a new file that takes the name of the old
/// one: a death finds either, and both say the same.
bool KeptClient::make_room(const Output& out) {
  const std::uint64_t first = valid().number == 0 ? out.first : valid().out_first;
  const std::uint64_t needed = out.end - first;
  std::uint64_t size = page_->outbox_bytes;
  if (size > kOutboxIdleMax && needed <= kOutboxMin) size = kOutboxMin;
  while (size < needed) size *= 2;
  if (size == page_->outbox_bytes) return true;
  if (size > kOutboxFileMax) return false;

  const std::string unfinished = path_ + ".new";
  Page* const page = map_file(unfinished, file_bytes(size), true);
  if (page == nullptr) {
    ::unlink(unfinished.c_str());
    return false;
  }
  std::memcpy(static_cast<void*>(page), page_, kPageBytes + kInboxBytes);
  page->outbox_bytes = size;
  std::string kept;
  const std::uint64_t base = page_->out.base;
  get_ring(outbox(), page_->outbox_bytes, first - base, out_saved_ - base, kept);
  put_ring(reinterpret_cast<char*>(page) + kPageBytes + kInboxBytes, size, first - base, kept);
  if (::rename(unfinished.c_str(), path_.c_str()) != 0) {
    ::munmap(page, file_bytes(size));
    return false;
  }
  ::munmap(page_, bytes_);
  page_ = page;
  bytes_ = file_bytes(size);
  return true;
}

/// Bytes behind the end that is valid are nobody's yet, and all of them when everything is sent.
void KeptClient::put_output(const Output& out, std::uint64_t from) {
  std::uint64_t& base = page_->out.base;
  if (sent_ == out_saved_ && from == out_saved_ && base != from) publish(base, from);
  put_ring(outbox(), page_->outbox_bytes, from - base, out.bytes.substr(from - out.first));
  out_saved_ = out.end;
}

void KeptClient::save(const Turn& turn, const Output& out, std::uint64_t commit) {
  put_output(out, std::max(out_saved_, out.first));
  const std::uint64_t number = valid().number;
  valid_ = 1 - valid_;
  Version& version = valid();
  publish(version.number, 0);
  version.in_off = in_off_;
  version.out_first = out.first;
  version.out_end = out.end;
  version.last_tx = turn.last_tx;
  version.is_closed = turn.is_closed ? 1 : 0;
  version.open_count = static_cast<std::uint16_t>(turn.open_tx.size());
  for (std::size_t i = 0; i < turn.open_tx.size(); ++i) {
    page_->open_tx[valid_][i] = raw(turn.open_tx[i]);
  }
  version.commit = commit;
  publish(version.number, number + 1);
  in_saved_ = in_off_;
}

void KeptClient::committed(std::uint64_t commit) {
  Version& version = valid();
  if (version.commit != commit) publish(version.commit, commit);
}

KeptClient::Turn KeptClient::turn() const {
  const Version& version = valid();
  Turn turn{version.last_tx, {}, version.is_closed != 0};
  for (std::size_t i = 0; i < version.open_count; ++i) {
    turn.open_tx.push_back(store::TxId{page_->open_tx[valid_][i]});
  }
  return turn;
}

std::string KeptClient::unexecuted() const {
  std::string bytes;
  get_ring(inbox(), kInboxBytes, in_off_ - page_->in.base, received_ - page_->in.base, bytes);
  return bytes;
}

KeptClient::Output KeptClient::output(std::string& scratch) const {
  const Version& version = valid();
  const std::uint64_t end = version.out_end;
  // Of what is all sent nothing may be there any more.
  const std::uint64_t first = sent_ == end ? end : version.out_first;
  get_ring(outbox(), page_->outbox_bytes, first - page_->out.base, end - page_->out.base, scratch);
  return {first, end, scratch};
}

void KeptClient::forget() { ::unlink(path_.c_str()); }

}  // namespace xenstored
