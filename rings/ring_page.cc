// SPDX-License-Identifier: MIT
#include "rings/ring_page.h"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace rings {
namespace {

static_assert(std::atomic_ref<std::uint32_t>::is_always_lock_free);
static_assert((kRingBytes & (kRingBytes - 1)) == 0, "or the indices could not wrap at 2^32");

// Each index is sequentially consistent: what was written before it is seen before
// it, and a look at the guest's index comes after our own is seen. Acquire and
// release would allow that look to be early, and the guest, who sends no event when
// it finds us busy, would wait for ever (ring_page.h).

std::uint32_t load(const std::uint32_t& field) {
  // C++20's atomic_ref takes no const object; nothing is written.
  return std::atomic_ref(const_cast<std::uint32_t&>(field)).load();
}

void store(std::uint32_t& field, std::uint32_t value) { std::atomic_ref(field).store(value); }

/// Where the bytes of the stream from `offset` on lie: up to the ring's end, then from its start.
struct Place {
  std::uint32_t index;
  std::size_t before_end;
};

Place place(std::uint32_t offset, std::size_t count) {
  const std::uint32_t index = offset % kRingBytes;
  return {index, std::min<std::size_t>(count, kRingBytes - index)};
}

}  // namespace

store::Result<std::size_t, BadIndex> RequestRing::fetch(std::string& out) {
  const std::uint32_t produced = load(page_->req_prod);
  const std::uint32_t unreleased = fetched_ - released_;
  const std::uint32_t in_ring = produced - released_;
  // Neither more than the ring holds, nor less than was there a moment ago.
  if (in_ring > kRingBytes || in_ring < unreleased) return tl::unexpected(BadIndex{});
  const std::size_t count = in_ring - unreleased;
  const auto [index, before_end] = place(fetched_, count);
  out.append(page_->req + index, before_end);
  out.append(page_->req, count - before_end);
  fetched_ = produced;
  return count;
}

bool RequestRing::has_more() const { return load(page_->req_prod) != fetched_; }

bool RequestRing::release(std::uint32_t position) {
  // The page is asked too: after a restart it is behind what is stored, and a guest
  // that scribbled here gets the right value back.
  const bool is_news = position != released_ || load(page_->req_cons) != position;
  if (is_news) store(page_->req_cons, position);
  released_ = position;
  return is_news;
}

store::Result<std::size_t, BadIndex> ReplyRing::publish(std::string_view bytes) {
  const std::uint32_t unread = position_ - load(page_->rsp_cons);
  if (unread > kRingBytes) return tl::unexpected(BadIndex{});
  const std::size_t count = std::min<std::size_t>(bytes.size(), kRingBytes - unread);
  if (count == 0) return 0;
  const auto [index, before_end] = place(position_, count);
  std::memcpy(page_->rsp + index, bytes.data(), before_end);
  std::memcpy(page_->rsp, bytes.data() + before_end, count - before_end);
  position_ += static_cast<std::uint32_t>(count);
  store(page_->rsp_prod, position_);
  return count;
}

bool ReplyRing::has_space() const { return position_ - load(page_->rsp_cons) != kRingBytes; }

RingIndices read_indices(const RingPage& page) {
  return {.req_cons = load(page.req_cons),
          .req_prod = load(page.req_prod),
          .rsp_cons = load(page.rsp_cons),
          .rsp_prod = load(page.rsp_prod)};
}

void reset_indices(RingPage& page) {
  store(page.req_cons, 0);
  store(page.req_prod, 0);
  store(page.rsp_cons, 0);
  store(page.rsp_prod, 0);
  set_error(page, RingError::kNone);
}

std::uint32_t connection_state(const RingPage& page) { return load(page.connection); }

void set_connection_state(RingPage& page, std::uint32_t state) { store(page.connection, state); }

void set_error(RingPage& page, RingError error) {
  store(page.error, static_cast<std::uint32_t>(error));
}

void set_server_features(RingPage& page, std::uint32_t features) {
  store(page.server_features, features);
}

}  // namespace rings
