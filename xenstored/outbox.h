// SPDX-License-Identifier: MIT
/// What a connection is still to be sent: whole frames in order, as one stream.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "xenstored/wire.h"

namespace xenstored {

class Outbox {
 public:
  void add_reply(const Header& request, std::uint32_t type, std::string_view payload);
  /// Queues a watch event unless the same one (path and token) is still queued;
  /// special names ('@') are never merged. Returns whether it was queued.
  bool add_event(std::string_view path, std::string_view token);

  /// The bytes not yet sent. Valid until the next call.
  std::string_view unsent() const { return std::string_view(bytes_).substr(sent_); }
  bool empty() const { return sent_ == bytes_.size(); }
  void sent(std::size_t bytes);
  /// Replies of which something is still unsent.
  std::size_t replies_waiting() const { return reply_ends_.size(); }
  void clear();

 private:
  void append(const Header& header, std::string_view payload);

  std::string bytes_;
  std::size_t sent_ = 0;
  std::uint64_t base_ = 0;  ///< stream position of bytes_[0]
  std::deque<std::uint64_t> reply_ends_;
  /// Where in the stream the payload of each queued event begins, by its hash.
  std::unordered_multimap<std::size_t, std::uint64_t> events_;
};

}  // namespace xenstored
