// SPDX-License-Identifier: MIT
/// One client: a unix socket, or a domain (whose state outlives the process).
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "journal/history.h"
#include "rings/hypervisor.h"
#include "store/ids.h"
#include "store/perms.h"
#include "store/transaction.h"
#include "xenstored/kept_client.h"
#include "xenstored/outbox.h"
#include "xenstored/outstanding.h"
#include "xenstored/poller.h"
#include "xenstored/unique_fd.h"

namespace xenstored {

/// A mapped and bound ring.
struct Ring {
  rings::Hypervisor::MappedRing page;
  std::optional<rings::LocalPort> port;  ///< none: the guest cannot be reached by events
  rings::RequestRing requests;
  rings::ReplyRing replies;
};

/// What the journal holds of a ring's outbox: chunks of whole frames, and from
/// `tail` on what stands in the connection's own record.
struct StoredOutput {
  struct Chunk {
    std::uint64_t seq;
    std::uint64_t begin;  ///< stream positions, as the outbox counts them
    std::uint64_t end;
  };
  std::deque<Chunk> chunks;
  std::uint64_t last_seq = 0;
  std::uint64_t tail = 0;
};

struct Connection : PollTarget {
  Connection() : PollTarget{Kind::kConnection} {}

  store::ConnId id;
  store::Caller caller;
  /// A domain's connection: watches and transaction ids are in the journal, and
  /// stay when the stream that carries its bytes ends.
  bool is_domain = false;
  UniqueFd fd;
  /// Of a socket that the keeper holds: what the next process is to know of it.
  std::unique_ptr<KeptClient> kept;
  std::uint32_t requests = 0;  ///< of a socket that it does not hold: executed ones
  bool is_put_off = false;     ///< waits until it is tried again to keep it
  /// None for a socket, under -D, and for a domain whose ring cannot be had.
  std::optional<Ring> ring;
  /// Stream offset (mod 2^32) up to which request bytes are in the state: executed,
  /// or the first `partial` bytes of `in`.
  std::uint32_t in_off = 0;
  std::uint32_t partial = 0;
  StoredOutput stored;
  /// Bytes of output, from `stored.tail` on, that the journal has room for in the
  /// commit of this number.
  std::size_t reserved = 0;
  std::uint64_t reserved_in = 0;
  bool is_failure_told = false;  ///< its first broken rule was logged
  /// Anything but kNone: the ring is not served until it is introduced anew.
  rings::RingError error = rings::RingError::kNone;
  bool is_resetting = false;  ///< its page's indices are to become zero after the commit

  std::string in;  ///< bytes received, not yet executed
  Outbox out;
  Outstanding outstanding;
  std::map<store::TxId, store::Transaction> transactions;
  std::uint32_t last_tx = 0;  ///< highest id given out
  /// The last one, if it was refused over a conflict: what the next try will ask.
  std::optional<store::Transaction> lost;
  std::uint64_t watches = 0;
  std::uint64_t watch_bytes = 0;
  std::optional<journal::HistoryAuthor> author;  ///< as history names it, once it does

  bool is_closing = false;          ///< to be dropped at the end of the turn
  bool is_held = false;             ///< its next request waits for another's transaction
  std::uint64_t held_since_us = 0;  ///< of a change that waits so; 0: none does
  bool is_runnable = false;         ///< in the list of those with requests left over
  bool is_dirty = false;            ///< in the list of those with something to send
  bool is_changed = false;          ///< its record is to be written with the next commit
  bool is_stalled = false;          ///< has too much outstanding to be read
  bool awaits_ring = false;         ///< its ring could not be mapped at the start; tried again
  bool is_late = false;             ///< in the list of rings whose guest lets messages wait
  std::uint32_t interest = 0;       ///< events that epoll is asked for
  bool is_parked = false;           ///< epoll does not know it for the time being

  /// Does the connection outlive the process?
  bool is_stored() const { return is_domain || kept != nullptr; }
};

}  // namespace xenstored
