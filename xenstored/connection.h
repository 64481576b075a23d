// SPDX-License-Identifier: MIT
/// One client: a unix socket, or a domain (whose state outlives the process).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "store/ids.h"
#include "store/perms.h"
#include "store/transaction.h"
#include "xenstored/outbox.h"
#include "xenstored/poller.h"
#include "xenstored/unique_fd.h"

namespace xenstored {

struct Connection : PollTarget {
  Connection() : PollTarget{Kind::kConnection} {}

  store::ConnId id;
  store::Caller caller;
  /// A domain's connection: watches and transaction ids are in the journal, and
  /// stay when the stream that carries its bytes ends.
  bool is_domain = false;
  UniqueFd fd;

  std::string in;  ///< bytes received, not yet executed
  Outbox out;
  std::map<store::TxId, store::Transaction> transactions;
  std::uint32_t last_tx = 0;  ///< highest id given out
  /// The last one, if it was refused over a conflict: what the next try will ask.
  std::optional<store::Transaction> lost;
  std::uint64_t watches = 0;
  std::uint64_t watch_bytes = 0;

  bool is_closing = false;     ///< to be dropped at the end of the turn
  bool is_held = false;        ///< its next request waits for another's transaction
  bool is_runnable = false;    ///< in the list of those with requests left over
  bool is_dirty = false;       ///< in the list of those with something to send
  std::uint32_t interest = 0;  ///< events that epoll is asked for
};

}  // namespace xenstored
