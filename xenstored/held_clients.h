// SPDX-License-Identifier: MIT
/// What keeper and server say to each other about clients' sockets: the server names
/// those that the keeper shall hold a duplicate of, and each server that the keeper
/// starts inherits what is held, with a table that says which is whose.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "store/ids.h"
#include "store/result.h"
#include "xenstored/unique_fd.h"

namespace xenstored {

/// More clients than these end with their server.
inline constexpr std::size_t kHeldMax = 4096;

/// In a file without a name that both map. The keeper alone writes, and nothing while
/// a server that it has just started may still be reading (the server reads before it
/// says anything).
struct HeldTable {
  struct Slot {
    std::uint64_t conn;  ///< 0: free
    std::int64_t fd;     ///< the keeper's number, and that of the server at its start
  };
  Slot slots[kHeldMax];
};

/// One message from server to keeper. With kHold comes the socket (SCM_RIGHTS).
struct HeldNote {
  enum What : std::uint32_t { kHold = 1, kLetGo = 2 };
  std::uint64_t conn;
  std::uint32_t what;
  std::uint32_t unused;
};

/// The server's end.
class HeldClients {
 public:
  struct Client {
    store::ConnId id;
    UniqueFd fd;
  };

  /// `channel_fd`: to the keeper; `table_fd`: the table's file. Both are taken over.
  /// Error: why the table cannot be read.
  static store::Result<HeldClients, std::string> open(int channel_fd, int table_fd);

  /// What was inherited; once.
  std::vector<Client> take();

  /// May another be handed over? Not if the keeper has enough, does not keep up or is gone.
  bool has_room();
  /// Hands over a duplicate; it is with the keeper even if this process dies at once.
  /// False: the keeper does not keep up, is gone, or the system has no room for messages.
  bool hold(store::ConnId id, int fd);
  /// There is no keeper any more.
  bool is_gone() const { return is_gone_; }
  /// The keeper shall forget this one: it is told by the next catch_up().
  void let_go(store::ConnId id);
  /// False: the keeper does not keep up, there is still something to tell.
  bool catch_up();

 private:
  explicit HeldClients(UniqueFd channel) : channel_(std::move(channel)) {}

  UniqueFd channel_;
  std::vector<Client> inherited_;
  std::deque<store::ConnId> untold_;
  std::size_t held_ = 0;
  bool is_gone_ = false;
};

/// The keeper's end. Allocates nothing once it is made.
class ClientHolder {
 public:
  /// Error: what could not be had.
  static store::Result<ClientHolder, std::string> make();
  ~ClientHolder();
  ClientHolder(ClientHolder&& other) noexcept;
  ClientHolder(const ClientHolder&) = delete;
  ClientHolder& operator=(const ClientHolder&) = delete;

  /// Readable when a server says something.
  int channel_fd() const { return near_.get(); }
  /// For a server to inherit.
  int server_channel_fd() const { return far_.get(); }
  int table_fd() const { return table_file_.get(); }

  /// Does what servers have asked for. To be called before a server is started.
  void listen();

 private:
  ClientHolder(UniqueFd near, UniqueFd far, UniqueFd table_file, HeldTable* table);
  void hold(std::uint64_t conn, UniqueFd fd);
  void let_go(std::uint64_t conn);
  HeldTable::Slot* find(std::uint64_t conn);

  UniqueFd near_;
  UniqueFd far_;
  UniqueFd table_file_;
  HeldTable* table_;
};

}  // namespace xenstored
