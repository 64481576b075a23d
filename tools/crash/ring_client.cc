// SPDX-License-Identifier: MIT
#include "tools/crash/ring_client.h"

#include <atomic>
#include <utility>

namespace crash {
namespace {

std::atomic_ref<std::uint32_t> connection_field(simxen::Guest& guest) {
  return std::atomic_ref<std::uint32_t>(guest.page().connection);
}

}  // namespace

void RingClient::begin(std::unique_ptr<simxen::Guest> guest, std::unique_ptr<RingModel> model,
                       std::unique_ptr<RingTraffic> traffic) {
  guest_ = std::move(guest);
  StreamClient::begin(std::move(model), std::move(traffic));
  state_ = State::kLive;
}

void RingClient::end(State state) {
  model().ended();
  retire();
  state_ = state;
  if (state == State::kAbsent) guest_.reset();
}

void RingClient::ended() {
  model().identity().feed->ended();
  state_ = State::kAbsent;
  guest_.reset();
}

void RingClient::ask_for_reconnection() {
  state_ = State::kFrozen;
  had_event_ = false;
  connection_field(*guest_).store(rings::kReconnect);
  guest_->notify();
}

bool RingClient::is_reconnected() const {
  return had_event_ && connection_field(*guest_).load() == rings::kConnected;
}

void RingClient::restart() {
  model().restarted();
  traffic().restarted();
  begin_stream();
  state_ = State::kLive;
}

Verdict RingClient::run(bool has_event) {
  had_event_ = had_event_ || has_event;
  if (state_ == State::kAbsent || state_ == State::kFrozen) return {};
  return move(has_event);
}

std::optional<RingMode> RingClient::mode() const {
  return state_ == State::kLive ? std::optional(chosen_mode()) : std::nullopt;
}

void RingClient::killed(Clock::time_point at) {
  if (state_ != State::kAbsent) model().killed(at);
}

}  // namespace crash
