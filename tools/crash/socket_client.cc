// SPDX-License-Identifier: MIT
#include "tools/crash/socket_client.h"

#include <poll.h>

#include <algorithm>
#include <utility>

namespace crash {
namespace {

/// The daemon's limit is 50 ms, and it may take another turn to notice.
constexpr Milliseconds kOld{400};

}  // namespace

void BusyTimes::note(Clock::time_point from, bool is_still) {
  if (spans_.empty() || spans_.back().to != Clock::time_point::max())
    spans_.push_back({from, Clock::time_point::max()});
  if (!is_still) end();
}

void BusyTimes::end() {
  if (!spans_.empty()) spans_.back().to = std::min(spans_.back().to, Clock::now());
}

bool BusyTimes::touch(const TimeSpan& span) const {
  return std::any_of(spans_.begin(), spans_.end(), [&](const TimeSpan& busy) {
    return busy.from <= span.to && busy.to >= span.from;
  });
}

void BusyTimes::forget_before(Clock::time_point time) {
  while (!spans_.empty() && spans_.front().to < time) spans_.pop_front();
}

void SocketClient::begin(Connection connection, Clock::time_point began,
                         std::unique_ptr<RingModel> model, std::unique_ptr<RingTraffic> traffic) {
  connection_ = std::move(connection);
  has_ended_ = false;
  asked_before_ = asked();
  first_answer_.reset();
  last_unkept_.reset();
  is_kept_ = false;
  pauses_until_ = {};
  began_ = began;
  busy_ = {};
  busy_.note(began_, true);
  StreamClient::begin(std::move(model), std::move(traffic));
}

std::unique_ptr<RingModel> SocketClient::end() {
  connection_.close();
  retire();
  model().cut_off();
  return take_model();
}

Verdict SocketClient::run(bool has_event) {
  const Clock::time_point began = Clock::now();
  const bool was_busy = !is_idle();
  const std::uint32_t asked_before = asked();
  Verdict wrong = move(has_event);
  if (!first_answer_ && asked() - asked_before_ > unanswered()) first_answer_ = Clock::now();
  is_kept_ = is_kept_ || (last_unkept_ && is_idle() && asked() > *last_unkept_);
  if (!last_unkept_ && is_to_be_kept()) last_unkept_ = asked();
  if (was_busy || asked() != asked_before) busy_.note(began, !is_idle() || !is_kept());
  return wrong;
}

std::size_t SocketClient::receive(std::string& out) {
  const std::size_t before = out.size();
  has_ended_ = !connection_.receive(out);
  return out.size() - before;
}

bool SocketClient::is_to_be_kept() const {
  return !model().watches().empty() || (first_answer_ && Clock::now() > *first_answer_ + kOld);
}

// Where there are to be watches, they come first.
std::optional<RingMode> SocketClient::mode() const {
  const bool has_opened = !model().identity().has_watches || !model().watches().empty();
  return has_opened && !is_paused() ? chosen_mode() : RingMode::kSilent;
}

short SocketClient::wanted_events() const {
  return static_cast<short>(POLLIN | (wants_to_send() ? POLLOUT : 0));
}

}  // namespace crash
