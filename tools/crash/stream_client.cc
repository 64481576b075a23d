// SPDX-License-Identifier: MIT
#include "tools/crash/stream_client.h"

#include <cstring>
#include <utility>

namespace crash {
namespace {

/// So that one busy client does not keep the others waiting.
constexpr int kPassesAtOnce = 4;

}  // namespace

void StreamClient::begin(std::unique_ptr<RingModel> model, std::unique_ptr<RingTraffic> traffic) {
  model_ = std::move(model);
  traffic_ = std::move(traffic);
  begin_stream();
}

void StreamClient::begin_stream() {
  unanswered_.clear();
  out_.clear();
  in_.clear();
  is_hot_ = true;
}

void StreamClient::retire() {
  feeds_.erase(model_->identity().feed->top());
  out_.clear();
}

void StreamClient::queue(const Request& request) {
  model_->sent(++last_req_id_, request);
  unanswered_.push_back(request);
  out_ += encode(request, last_req_id_);
}

void StreamClient::add_requests() {
  const std::optional<RingMode> allowed = mode();
  while (allowed && unanswered_.size() < traffic_->window()) {
    const std::optional<Request> request = traffic_->next(*model_, *allowed);
    if (!request) return;
    queue(*request);
  }
}

void StreamClient::ask(const Request& request) {
  queue(request);
  is_hot_ = true;
}

Verdict StreamClient::move(bool has_event) {
  is_hot_ = is_hot_ || has_event;
  if (is_asleep()) {
    if (Clock::now() < sleeps_until_) return {};
    sleeps_until_ = {};
  }
  bool must_look = is_hot_;
  is_hot_ = false;
  for (int pass = 0; pass < kPassesAtOnce; ++pass) {
    add_requests();
    const std::size_t sent = out_.empty() ? 0 : send(out_);
    out_.erase(0, sent);
    must_look = must_look || sent > 0;
    const std::size_t received = must_look ? receive(in_) : 0;
    if (received > 0) {
      if (Verdict wrong = take_frames()) return wrong;
    }
    if (sent == 0 && received == 0) return {};
  }
  is_hot_ = true;
  return {};
}

Verdict StreamClient::take_frames() {
  const Clock::time_point now = Clock::now();
  if (server_ != nullptr) model_->may_be_killed(server_->killed_at());
  std::size_t taken = 0;
  Verdict wrong;
  xenstored::Header header;
  while (!wrong && in_.size() - taken >= sizeof header) {
    std::memcpy(&header, in_.data() + taken, sizeof header);
    if (header.len > xenstored::kPayloadMax) {
      wrong = "a frame longer than any may be";
      break;
    }
    if (in_.size() - taken < sizeof header + header.len) break;
    const Frame frame{static_cast<Op>(header.type), header.req_id, header.tx_id,
                      in_.substr(taken + sizeof header, header.len)};
    taken += sizeof header + header.len;
    wrong = model_->received(frame, now);
    if (wrong || frame.type == Op::kWatchEvent) continue;
    const Request request = std::move(unanswered_.front());
    unanswered_.pop_front();
    traffic_->replied(request, frame);
    const auto& feed = model_->identity().feed;
    if (request.op == Op::kSetPerms && path_of(request) == feed->top()) feeds_[feed->top()] = feed;
  }
  in_.erase(0, taken);
  if (wrong) *wrong = model_->identity().name + ": " + *wrong + "\n" + model_->history();
  return wrong;
}

}  // namespace crash
