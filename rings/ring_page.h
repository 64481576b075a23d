// SPDX-License-Identifier: MIT
/// The page that a guest and xenstored share (xs_wire.h, xenstore-ring.txt), and
/// the two streams in it.
///
/// The guest can write any byte of the page at any time. So each index is read
/// once, checked, and only the copy is used; what the page says of our own
/// indices is believed only when a ring is continued after a restart, and then
/// checked against what is stored. Nothing here waits or allocates without bound.
///
/// Before waiting for a guest's event, look again. Linux sends an event for a request
/// only when it found the request ring empty, and for replies taken only when it
/// found the reply ring full. And between writing its index and looking at ours it
/// has no barrier, so that the look comes early by the time that a store takes to be
/// seen. So both questions are asked last, after notify: has_more(), and, if bytes
/// are left to be sent, has_space().
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "store/result.h"

namespace rings {

/// Bytes of either ring. Indices run freely and are taken modulo this.
inline constexpr std::uint32_t kRingBytes = 1024;

struct RingPage {
  char req[kRingBytes];
  char rsp[kRingBytes];
  std::uint32_t req_cons;
  std::uint32_t req_prod;
  std::uint32_t rsp_cons;
  std::uint32_t rsp_prod;
  std::uint32_t server_features;
  std::uint32_t connection;
  std::uint32_t error;
  std::uint32_t evtchn_port;
};
static_assert(offsetof(RingPage, evtchn_port) == 2076);

/// Values of `connection`.
inline constexpr std::uint32_t kConnected = 0;
inline constexpr std::uint32_t kReconnect = 1;

/// Values of `error`.
enum class RingError : std::uint32_t { kNone = 0, kComm = 1, kIndex = 2, kProtocol = 3 };

/// Indices further apart than the ring is long: the guest's doing.
struct BadIndex {};

/// The requests, read by us from `position` on.
class RequestRing {
 public:
  /// `position`: stream offset (mod 2^32) of the first byte not yet taken into the
  /// state; what comes from there on is read, whatever the page's req_cons says.
  RequestRing(RingPage& page, std::uint32_t position)
      : page_(&page), released_(position), fetched_(position) {}

  /// Appends what the guest has added since the last call, at most a ring's worth.
  /// The space in the ring stays in use until it is released. Returns the bytes added.
  store::Result<std::size_t, BadIndex> fetch(std::string& out);
  /// Whether there is something to fetch. To be asked after release(), before waiting
  /// for an event: a guest sends none while it finds its ring not empty.
  bool has_more() const;
  /// Stream offset behind the last byte fetched.
  std::uint32_t fetched() const { return fetched_; }
  /// Tells the guest that what lies before `position` may be overwritten. Whether
  /// that was news (a guest that waited for space must be notified).
  bool release(std::uint32_t position);

 private:
  RingPage* page_;
  std::uint32_t released_;  ///< our own copy of req_cons
  std::uint32_t fetched_;
};

/// The replies and events, written by us from `position` on.
class ReplyRing {
 public:
  ReplyRing(RingPage& page, std::uint32_t position) : page_(&page), position_(position) {}

  /// Writes as much as there is space for and makes it visible. Returns how much; 0
  /// with bytes left: the ring is full, and an event comes when it no longer is.
  store::Result<std::size_t, BadIndex> publish(std::string_view bytes);
  /// Whether publish() would find space. To be asked after notify, before waiting for
  /// an event: a guest sends none while it finds its ring not full.
  bool has_space() const;
  /// Stream offset behind the last byte published.
  std::uint32_t position() const { return position_; }

 private:
  RingPage* page_;
  std::uint32_t position_;  ///< our own copy of rsp_prod
};

/// What the page says, each read once. For recovery and for showing; not to be trusted.
struct RingIndices {
  std::uint32_t req_cons;
  std::uint32_t req_prod;
  std::uint32_t rsp_cons;
  std::uint32_t rsp_prod;
};
RingIndices read_indices(const RingPage& page);
/// All four indices zero, and no error.
void reset_indices(RingPage& page);
std::uint32_t connection_state(const RingPage& page);
void set_connection_state(RingPage& page, std::uint32_t state);
void set_error(RingPage& page, RingError error);
void set_server_features(RingPage& page, std::uint32_t features);

}  // namespace rings
