// SPDX-License-Identifier: MIT
/// The rings beside a model of them that goes byte by byte, each on its own page;
/// whatever the guest does is done to both pages.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "rings/ring_page.h"

namespace rings {

/// The model.
class PlainRings {
 public:
  PlainRings(RingPage& page, std::uint32_t in_off, std::uint32_t out_off)
      : page_(&page), released_(in_off), fetched_(in_off), published_(out_off) {}

  /// None: the guest's indices make no sense.
  std::optional<std::string> fetch() {
    const std::uint32_t end = page_->req_prod;
    if (end - released_ > kRingBytes || end - released_ < fetched_ - released_) return {};
    std::string bytes;
    for (; fetched_ != end; ++fetched_) bytes += page_->req[fetched_ % kRingBytes];
    return bytes;
  }
  bool has_more() const { return page_->req_prod != fetched_; }
  bool has_space() const { return page_->rsp_cons != published_ - kRingBytes; }
  bool release(std::uint32_t position) {
    const bool is_news = released_ != position || page_->req_cons != position;
    released_ = page_->req_cons = position;
    return is_news;
  }
  std::optional<std::size_t> publish(std::string_view bytes) {
    const std::uint32_t read_to = page_->rsp_cons;
    if (published_ - read_to > kRingBytes) return {};
    std::size_t count = 0;
    for (; count < bytes.size() && published_ - read_to < kRingBytes; ++count) {
      page_->rsp[published_ % kRingBytes] = bytes[count];
      page_->rsp_prod = ++published_;
    }
    return count;
  }
  std::uint32_t released() const { return released_; }
  std::uint32_t fetched() const { return fetched_; }
  std::uint32_t published() const { return published_; }

 private:
  RingPage* page_;
  std::uint32_t released_;
  std::uint32_t fetched_;
  std::uint32_t published_;
};

/// Each call does the same to both and says whether they agree, down to every
/// byte of the pages.
class Twins {
 public:
  Twins(std::uint32_t in_off, std::uint32_t out_off)
      : requests_(page_, in_off),
        replies_(page_, out_off),
        model_(model_page_, in_off, out_off),
        in_off_(in_off) {
    each([&](RingPage& page) {
      page = RingPage{};
      page.req_cons = page.req_prod = in_off;
      page.rsp_cons = page.rsp_prod = out_off;
    });
  }
  Twins(const Twins&) = delete;
  Twins& operator=(const Twins&) = delete;

  bool fetch() {
    std::string bytes;
    const auto real = requests_.fetch(bytes);
    const auto model = model_.fetch();
    if (real.has_value() != model.has_value()) return false;
    if (real.has_value() && (*real != bytes.size() || bytes != *model)) return false;
    if (!real.has_value() && !bytes.empty()) return false;
    const std::uint32_t unreleased = requests_.fetched() - in_off_;
    return unreleased <= kRingBytes && agree();
  }
  /// Up to `count` bytes of those fetched.
  bool release(std::uint32_t count) {
    in_off_ += std::min(count, requests_.fetched() - in_off_);
    return requests_.release(in_off_) == model_.release(in_off_) && agree();
  }
  bool publish(std::string_view bytes) {
    const auto real = replies_.publish(bytes);
    const auto model = model_.publish(bytes);
    if (real.has_value() != model.has_value()) return false;
    return (!real.has_value() || *real == *model) && agree();
  }
  /// The daemon dies after it stored a position up to `count` bytes on, and comes back.
  bool restart(std::uint32_t count) {
    in_off_ += std::min(count, requests_.fetched() - in_off_);
    requests_ = RequestRing(page_, in_off_);
    replies_ = ReplyRing(page_, replies_.position());
    model_ = PlainRings(model_page_, in_off_, model_.published());
    return release(0);
  }
  template <class Do>
  void each(Do guest_does) {
    guest_does(page_);
    guest_does(model_page_);
  }
  void scribble(std::size_t offset, std::string_view bytes) {
    offset %= sizeof(RingPage);
    const std::size_t count = std::min(bytes.size(), sizeof(RingPage) - offset);
    each([&](RingPage& page) {
      std::memcpy(reinterpret_cast<char*>(&page) + offset, bytes.data(), count);
    });
  }
  const RingPage& page() const { return page_; }

 private:
  bool agree() const {
    return std::memcmp(&page_, &model_page_, sizeof page_) == 0 &&
           requests_.fetched() == model_.fetched() && replies_.position() == model_.published() &&
           requests_.has_more() == model_.has_more() && replies_.has_space() == model_.has_space();
  }

  RingPage page_;
  RingPage model_page_;
  RequestRing requests_;
  ReplyRing replies_;
  PlainRings model_;
  std::uint32_t in_off_;
};

}  // namespace rings
