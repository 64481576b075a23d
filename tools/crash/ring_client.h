// SPDX-License-Identifier: MIT
/// One client on a ring, moved the way Linux moves it: it looks at its ring when it
/// was sent an event or has something to send, and at no other time, so an event
/// that the server owes it and does not send is noticed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tests/simxen/guest.h"
#include "tools/crash/stream_client.h"

namespace crash {

class RingClient final : public StreamClient {
 public:
  enum class State {
    kAbsent,  ///< there is no such domain, or nobody has introduced it
    kLive,
    kEnding,  ///< sends nothing any more
    kFrozen,  ///< does not touch the ring: somebody else begins it again
  };

  RingClient(std::uint16_t domid, Feeds& feeds) : StreamClient(feeds), domid_(domid) {}

  /// A new life.
  void begin(std::unique_ptr<simxen::Guest> guest, std::unique_ptr<RingModel> model,
             std::unique_ptr<RingTraffic> traffic);
  /// The life is over, or will be when the server hears of it; `state` is kEnding
  /// or kAbsent.
  void end(State state);
  /// The server certainly knows of it.
  void ended();
  void freeze() { state_ = State::kFrozen; }
  /// Asks the server for a new stream, frozen.
  void ask_for_reconnection();
  /// Whether it was granted, and we were told.
  bool is_reconnected() const;
  /// Goes on, with streams that begin again.
  void restart();

  /// Moves what can be moved. Wrong: what the server sent.
  Verdict run(bool has_event);
  void killed(Clock::time_point at);

  bool is_idle() const { return state_ == State::kAbsent || is_answered(); }
  bool is_finished() const {
    return state_ == State::kAbsent || (is_idle() && traffic().is_finished());
  }
  State state() const { return state_; }
  std::uint16_t domid() const { return domid_; }

 protected:
  std::size_t send(std::string_view bytes) override { return guest_->send(bytes); }
  std::size_t receive(std::string& out) override { return guest_->receive(out); }
  std::optional<RingMode> mode() const override;

 private:
  const std::uint16_t domid_;
  State state_ = State::kAbsent;
  std::unique_ptr<simxen::Guest> guest_;
  bool had_event_ = false;  ///< since the reconnection was asked for
};

}  // namespace crash
