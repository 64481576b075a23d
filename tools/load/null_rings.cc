// SPDX-License-Identifier: MIT
#include "tools/load/null_rings.h"

#include <charconv>
#include <cstdio>
#include <cstdlib>

#include "rings/xen_hypervisor.h"
#include "tools/load/null_replies.h"

namespace load {
namespace {

/// The number in string `index` of a payload; 0 if there is none.
std::uint32_t number_at(std::string_view payload, unsigned index) {
  for (; index > 0; --index) {
    payload.remove_prefix(std::min(payload.size(), payload.find('\0') + 1));
  }
  std::uint32_t number = 0;
  std::from_chars(payload.data(), payload.data() + payload.size(), number);
  return number;
}

store::Domid domid_in(std::string_view payload) {
  return store::Domid{static_cast<std::uint16_t>(number_at(payload, 0))};
}

}  // namespace

std::unique_ptr<NullRings> NullRings::open() {
  auto hypervisor = rings::XenHypervisor::open();
  if (hypervisor.has_value()) {
    return std::unique_ptr<NullRings>(new NullRings(std::move(hypervisor.value())));
  }
  for (const std::string& what : hypervisor.error()) {
    std::fprintf(stderr, "xs-null: %s\n", what.c_str());
  }
  std::exit(1);
}

void NullRings::serve() {
  const auto pending = hypervisor_->take_pending();
  taken_.assign(pending.begin(), pending.end());
  for (const rings::LocalPort port : taken_) {
    const auto found = by_port_.find(port);
    if (found != by_port_.end()) serve(port, found->second);
  }
  if (!taken_.empty()) hypervisor_->unmask(taken_);
}

void NullRings::serve(rings::LocalPort port, Ring& ring) {
  bool is_news = false;
  do {
    if (!ring.requests.fetch(ring.input).has_value()) return;
    const auto taken = answer_all(ring.input, ring.output);
    if (!taken) return;
    ring.input.erase(0, *taken);
    if (ring.requests.release(ring.requests.fetched())) is_news = true;
    for (std::size_t sent = 1; sent != 0 && !ring.output.empty();) {
      const auto published = ring.replies.publish(ring.output);
      if (!published.has_value()) return;
      sent = published.value();
      ring.output.erase(0, sent);
      is_news = is_news || sent != 0;
    }
  } while (ring.requests.has_more());
  if (is_news) hypervisor_->notify(port);
}

void NullRings::introduce(std::string_view payload) {
  const store::Domid domid = domid_in(payload);
  auto page = hypervisor_->map_ring(domid);
  const auto port = hypervisor_->bind(domid, rings::RemotePort{number_at(payload, 2)});
  if (!page.has_value() || !port.has_value()) {
    std::fprintf(stderr, "xs-null: cannot introduce: %s\n",
                 (page.has_value() ? port.error() : page.error()).message.c_str());
    return;
  }
  rings::RingPage& ring_page = *page.value();
  by_port_.emplace(port.value(), Ring{domid,
                                      std::move(page.value()),
                                      rings::RequestRing(ring_page, 0),
                                      rings::ReplyRing(ring_page, 0),
                                      {},
                                      {}});
}

void NullRings::release(std::string_view payload) {
  const store::Domid domid = domid_in(payload);
  for (auto ring = by_port_.begin(); ring != by_port_.end(); ++ring) {
    if (ring->second.domid != domid) continue;
    hypervisor_->unbind(ring->first);
    by_port_.erase(ring);
    return;
  }
}

}  // namespace load
