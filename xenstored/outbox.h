// SPDX-License-Identifier: MIT
/// What a connection is still to be sent: whole frames in order, as one stream.
/// For a ring, positions in the stream are (mod 2^32) the ring's own indices.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "xenstored/outstanding.h"
#include "xenstored/wire.h"

namespace xenstored {

class Outbox {
 public:
  void add_reply(const Header& request, std::uint32_t type, std::string_view payload, Cause cause);
  /// Queues a watch event unless the same one (path and token) is still queued;
  /// special names ('@') are never merged. Returns whether it was queued.
  bool add_event(std::string_view path, std::string_view token, Cause cause, std::uint64_t now_us);

  /// The bytes not yet sent. Valid until the next call.
  std::string_view unsent() const { return std::string_view(bytes_).substr(sent_); }
  bool empty() const { return sent_ == bytes_.size(); }
  /// About how much memory it takes: many small frames cost more than their bytes.
  std::size_t memory() const { return bytes_.size() + frames_.size() * kBytesAFrame; }
  /// So much of unsent() was sent. Appends the causes of frames that are out.
  void sent(std::size_t bytes, std::vector<Cause>& done);
  /// Drops events that nothing was sent of and that were queued before `us`.
  /// Appends their causes. Returns how many.
  std::size_t drop_events_before(std::uint64_t us, std::vector<Cause>& done);
  /// Drops everything; the stream goes on at `position`.
  void restart(std::uint64_t position, std::vector<Cause>& done);

  /// Stream position of the start of the first frame that is not wholly sent; of
  /// the end if there is none.
  std::uint64_t first_kept() const { return base_ + kept_; }
  std::uint64_t end() const { return base_ + bytes_.size(); }
  /// The bytes from a position not before first_kept() on.
  std::string_view from(std::uint64_t position) const {
    return std::string_view(bytes_).substr(position - base_);
  }
  /// Ends of the frames behind `position`, in order.
  std::vector<std::uint64_t> frame_ends(std::uint64_t position) const;

  /// Continues a stored stream: `bytes` are frames from `position` on, of which
  /// the first `sent` bytes were sent. False: these are not frames, or fewer bytes.
  bool restore(std::uint64_t position, std::string_view bytes, std::size_t sent,
               std::uint64_t now_us);

 private:
  struct Frame {
    std::uint64_t end;        ///< stream position behind it
    std::uint64_t queued_us;  ///< 0: not an event
    Cause cause;
  };
  /// Its place in the queue and, of an event, in the index by contents.
  static constexpr std::size_t kBytesAFrame = sizeof(Frame) + 64;
  void append(const Header& header, std::string_view payload);
  bool is_queued(std::string_view payload, std::size_t hash) const;
  void remember_event(std::uint64_t start, std::string_view payload);
  void tidy();

  std::string bytes_;
  std::size_t sent_ = 0;
  std::size_t kept_ = 0;    ///< start of the first frame not wholly sent
  std::uint64_t base_ = 0;  ///< stream position of bytes_[0]
  std::deque<Frame> frames_;
  /// Where in the stream the payload of each queued event begins, by its hash.
  std::unordered_multimap<std::size_t, std::uint64_t> events_;
};

}  // namespace xenstored
