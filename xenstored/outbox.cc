// SPDX-License-Identifier: MIT
#include "xenstored/outbox.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace xenstored {
namespace {

std::size_t hash_of(std::string_view payload) { return std::hash<std::string_view>{}(payload); }

}  // namespace

void Outbox::append(const Header& header, std::string_view payload) {
  bytes_.append(reinterpret_cast<const char*>(&header), sizeof header);
  bytes_.append(payload);
}

void Outbox::add_reply(const Header& request, std::uint32_t type, std::string_view payload,
                       Cause cause) {
  append({type, request.req_id, request.tx_id, static_cast<std::uint32_t>(payload.size())},
         payload);
  frames_.push_back({end(), 0, cause});
}

bool Outbox::add_event(std::string_view path, std::string_view token, Cause cause,
                       std::uint64_t now_us) {
  const std::size_t size = path.size() + token.size() + 2;
  if (size > kPayloadMax) return false;  // XSA-324: nobody could receive it
  const std::size_t before = bytes_.size();
  append({static_cast<std::uint32_t>(Op::kWatchEvent), 0, 0, static_cast<std::uint32_t>(size)}, {});
  const std::size_t start = bytes_.size();
  bytes_.append(path).push_back('\0');
  bytes_.append(token).push_back('\0');
  const std::string_view payload = std::string_view(bytes_).substr(start);
  if (!path.starts_with('@')) {
    const std::size_t hash = hash_of(payload);
    if (is_queued(payload, hash)) {
      bytes_.resize(before);
      return false;
    }
    events_.emplace(hash, base_ + start);
  }
  frames_.push_back({end(), std::max<std::uint64_t>(now_us, 1), cause});
  return true;
}

/// Is there such an event, of which the last byte is not sent yet?
bool Outbox::is_queued(std::string_view payload, std::size_t hash) const {
  const auto [first, last] = events_.equal_range(hash);
  return std::any_of(first, last, [&](const auto& event) {
    const std::size_t at = event.second - base_;
    return event.second >= base_ && at + payload.size() > sent_ &&
           std::string_view(bytes_).substr(at, payload.size()) == payload;
  });
}

void Outbox::sent(std::size_t bytes, std::vector<Cause>& done) {
  sent_ += bytes;
  while (!frames_.empty() && frames_.front().end <= base_ + sent_) {
    if (frames_.front().cause.conn != store::ConnId{}) done.push_back(frames_.front().cause);
    kept_ = frames_.front().end - base_;
    frames_.pop_front();
  }
  tidy();
}

/// Gives back the memory of what is out, now and then.
void Outbox::tidy() {
  if (empty()) {
    base_ += bytes_.size();
    bytes_.clear();
    if (bytes_.capacity() > 4 * kFrameMax) bytes_.shrink_to_fit();
    sent_ = kept_ = 0;
    events_.clear();
    return;
  }
  if (kept_ == 0 || kept_ < bytes_.size() / 2) return;
  bytes_.erase(0, kept_);
  base_ += kept_;
  sent_ -= kept_;
  kept_ = 0;
  std::erase_if(events_, [this](const auto& event) { return event.second < base_; });
}

std::size_t Outbox::drop_events_before(std::uint64_t us, std::vector<Cause>& done) {
  std::uint64_t start = first_kept();
  std::size_t dropped = 0;
  std::string bytes = bytes_.substr(0, kept_);
  std::deque<Frame> left;
  for (Frame frame : frames_) {
    const std::size_t size = frame.end - start;
    const std::size_t at = start - base_;
    const bool is_late = frame.queued_us != 0 && frame.queued_us < us;
    start = frame.end;
    if (is_late && frame.cause.conn != store::ConnId{}) {
      done.push_back(std::exchange(frame.cause, Cause{}));
    }
    if (is_late && at >= sent_) {
      ++dropped;
      continue;
    }
    bytes.append(bytes_, at, size);
    frame.end = base_ + bytes.size();
    left.push_back(frame);
  }
  frames_ = std::move(left);
  if (dropped == 0) return 0;
  bytes_ = std::move(bytes);
  events_.clear();
  start = first_kept();
  for (const Frame& frame : frames_) {
    if (frame.queued_us != 0) remember_event(start, from(start).substr(0, frame.end - start));
    start = frame.end;
  }
  return dropped;
}

/// `frame`: the whole message that begins at `start`.
void Outbox::remember_event(std::uint64_t start, std::string_view frame) {
  const std::string_view payload = frame.substr(sizeof(Header));
  if (payload.starts_with('@')) return;
  events_.emplace(hash_of(payload), start + sizeof(Header));
}

void Outbox::restart(std::uint64_t position, std::vector<Cause>& done) {
  for (const Frame& frame : frames_) {
    if (frame.cause.conn != store::ConnId{}) done.push_back(frame.cause);
  }
  frames_.clear();
  events_.clear();
  bytes_.clear();
  sent_ = kept_ = 0;
  base_ = position;
}

std::vector<std::uint64_t> Outbox::frame_ends(std::uint64_t position) const {
  std::vector<std::uint64_t> ends;
  for (const Frame& frame : frames_) {
    if (frame.end > position) ends.push_back(frame.end);
  }
  return ends;
}

bool Outbox::restore(std::uint64_t position, std::string_view bytes, std::size_t sent,
                     std::uint64_t now_us) {
  if (sent > bytes.size()) return false;
  std::vector<Cause> none;
  restart(position, none);
  for (std::size_t at = 0; at < bytes.size();) {
    Header header;
    if (bytes.size() - at < sizeof header) return false;
    std::memcpy(&header, bytes.data() + at, sizeof header);
    if (header.len > kPayloadMax || bytes.size() - at - sizeof header < header.len) return false;
    const std::size_t size = sizeof header + header.len;
    const bool is_event = header.type == static_cast<std::uint32_t>(Op::kWatchEvent);
    bytes_.append(bytes.substr(at, size));
    frames_.push_back({end(), is_event ? std::max<std::uint64_t>(now_us, 1) : 0, {}});
    if (is_event) remember_event(position + at, bytes.substr(at, size));
    at += size;
  }
  this->sent(sent, none);
  return true;
}

}  // namespace xenstored
