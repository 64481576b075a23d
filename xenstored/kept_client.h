// SPDX-License-Identifier: MIT
/// What a socket client's connection needs to go on in the next process, beside the
/// socket itself (held_clients.h) and its watches (in the journal): a mapped file.
///
/// How much was received and sent is written there by the kernel, within the system
/// call that did it (recvmmsg and sendmmsg store their count in the caller's memory,
/// which is this file), so there is no instant at which a death would leave it unknown.
/// Or, where every tenth of a microsecond counts, by us, right after a plain recv() or
/// send(): a death in between leaves it in doubt, and that client is not continued.
/// What was executed and answered is one of two versions, each of which names the commit
/// of the journal that makes it valid, so it happens in that commit (ARCHITECTURE.md).
#pragma once

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "store/ids.h"
#include "store/result.h"

namespace xenstored {

/// Who is on the other end of a socket; pid 0: not known.
struct Peer {
  pid_t pid = 0;
  uid_t uid = 0;
  std::string command;
};
Peer peer_of(int fd);

class KeptClient {
 public:
  /// More open transactions than these are not kept.
  static constexpr std::size_t kOpenTxMax = 256;
  /// Bytes received and not executed that there is room for.
  static constexpr std::size_t kInboxBytes = 16384;

  /// What a turn made of the connection, but for the streams' bytes.
  struct Turn {
    std::uint32_t last_tx = 0;
    std::vector<store::TxId> open_tx;
    bool is_closed = false;  ///< it is not to be continued
  };
  /// Where the output stands, in positions of its stream: the bytes from `first` on,
  /// where a frame begins, to `end`.
  struct Output {
    std::uint64_t first;
    std::uint64_t end;
    std::string_view bytes;
  };
  enum class Received { kBytes, kNothing, kEnd, kError };
  /// Who notes what a system call has moved: the kernel within it, or we after it.
  enum class Calls { kNoted, kPlain };

  /// Begins the file `<directory>/<id>`: `in` was received and not executed (at most
  /// kInboxBytes), of `out` everything up to `sent` was sent. Nothing of it is valid
  /// before the first save(). Error: what the system refused.
  static store::Result<std::unique_ptr<KeptClient>, std::string> create(
      const std::string& directory, store::ConnId id, std::string_view in, const Output& out,
      std::uint64_t sent);

  /// Takes up what an earlier process left, as of the journal's commit `confirmed`, and
  /// makes sure that no later commit makes anything else of it valid. Error: nothing of
  /// it is valid, a plain call is in doubt, or what the system refused; such a client
  /// cannot be continued.
  static store::Result<std::unique_ptr<KeptClient>, std::string> open(const std::string& directory,
                                                                      store::ConnId id,
                                                                      std::uint64_t confirmed);

  /// Removes every client's file but those of `ids`.
  static void sweep(const std::string& directory, std::span<const store::ConnId> ids);

  ~KeptClient();
  KeptClient(const KeptClient&) = delete;
  KeptClient& operator=(const KeptClient&) = delete;

  /// How much may be received now.
  std::size_t room() const { return kInboxBytes - (received_ - in_saved_); }
  /// Receives what is there and there is room for, or a first part of it. `bytes`: where it
  /// is, until the next make_room() at most.
  Received receive(int fd, std::string_view& bytes, Calls calls);
  /// As send(2), of the next bytes of the output.
  ssize_t send(int fd, std::string_view bytes, Calls calls);

  /// So many more bytes of the input are executed.
  void executed(std::size_t bytes) { in_off_ += bytes; }
  /// Makes room for the output of this turn. False: there is none, the client cannot be
  /// kept any longer.
  bool make_room(const Output& out);
  /// Writes what this turn has made, valid from the journal's commit `commit` on.
  void save(const Turn& turn, const Output& out, std::uint64_t commit);
  /// That commit was made, with this number.
  void committed(std::uint64_t commit);

  /// After open(): what is to be gone on with.
  Turn turn() const;
  std::string unexecuted() const;
  /// The output kept, `bytes` in `scratch` (none if all was sent); and how much of the
  /// stream was sent.
  Output output(std::string& scratch) const;
  std::uint64_t sent() const { return sent_; }

  /// Removes the file.
  void forget();

 private:
  struct Page;
  struct Stream;
  struct Transfers;
  struct Version;

  KeptClient(std::string path, Page* page, std::size_t bytes);
  static Page* map_file(const std::string& path, std::size_t bytes, bool is_new);
  static std::size_t file_bytes(std::uint64_t outbox_bytes);
  static bool is_in_doubt(const Stream& stream);
  static std::uint64_t position(const Stream& stream, const Transfers& transfers);
  static mmsghdr& begin_noted(Stream& stream, Transfers& transfers, std::uint64_t position,
                              iovec& part);
  char* inbox() const;
  char* outbox() const;
  void put_output(const Output& out, std::uint64_t from);
  Version& valid() const;

  std::string path_;
  Page* page_;
  std::size_t bytes_;
  std::size_t valid_ = 0;        ///< which version is
  std::uint64_t received_ = 0;   ///< position of the input
  std::uint64_t sent_ = 0;       ///< and of the output
  std::uint64_t in_off_ = 0;     ///< executed
  std::uint64_t in_saved_ = 0;   ///< executed and committed
  std::uint64_t out_saved_ = 0;  ///< end of what the outbox has
};

}  // namespace xenstored
