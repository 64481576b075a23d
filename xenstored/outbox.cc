// SPDX-License-Identifier: MIT
#include "xenstored/outbox.h"

#include <cstring>

namespace xenstored {

void Outbox::append(const Header& header, std::string_view payload) {
  bytes_.append(reinterpret_cast<const char*>(&header), sizeof header);
  bytes_.append(payload);
}

void Outbox::add_reply(const Header& request, std::uint32_t type, std::string_view payload) {
  append({type, request.req_id, request.tx_id, static_cast<std::uint32_t>(payload.size())},
         payload);
  reply_ends_.push_back(base_ + bytes_.size());
}

bool Outbox::add_event(std::string_view path, std::string_view token) {
  const std::size_t size = path.size() + token.size() + 2;
  if (size > kPayloadMax) return false;  // XSA-324: nobody could receive it
  const std::size_t before = bytes_.size();
  append({static_cast<std::uint32_t>(Op::kWatchEvent), 0, 0, static_cast<std::uint32_t>(size)}, {});
  const std::size_t start = bytes_.size();
  bytes_.append(path).push_back('\0');
  bytes_.append(token).push_back('\0');
  if (path.starts_with('@')) return true;

  const std::string_view payload = std::string_view(bytes_).substr(start);
  const std::size_t hash = std::hash<std::string_view>{}(payload);
  const auto [first, last] = events_.equal_range(hash);
  for (auto event = first; event != last; ++event) {
    const std::size_t at = event->second - base_;
    const bool is_queued = at + size > sent_ && at + size <= start;
    if (is_queued && std::string_view(bytes_).substr(at, size) == payload) {
      bytes_.resize(before);
      return false;
    }
  }
  events_.emplace(hash, base_ + start);
  return true;
}

void Outbox::sent(std::size_t bytes) {
  sent_ += bytes;
  const std::uint64_t position = base_ + sent_;
  while (!reply_ends_.empty() && reply_ends_.front() <= position) reply_ends_.pop_front();
  if (empty()) {
    base_ += bytes_.size();
    bytes_.clear();
    if (bytes_.capacity() > 4 * kFrameMax) bytes_.shrink_to_fit();
    sent_ = 0;
    events_.clear();
    return;
  }
  // Half of it gone: move the rest down. Events sent are forgotten with it.
  if (sent_ < bytes_.size() / 2) return;
  bytes_.erase(0, sent_);
  base_ += sent_;
  sent_ = 0;
  std::erase_if(events_, [this](const auto& event) { return event.second < base_; });
}

void Outbox::clear() {
  base_ += bytes_.size();
  bytes_.clear();
  sent_ = 0;
  reply_ends_.clear();
  events_.clear();
}

}  // namespace xenstored
