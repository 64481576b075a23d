// SPDX-License-Identifier: MIT
/// One client on a unix socket that a keeper continues across a crash. It notes when it
/// was busy: the connection of no other one may a crash end.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tools/crash/connection.h"
#include "tools/crash/stream_client.h"

namespace crash {

struct TimeSpan {
  Clock::time_point from;
  Clock::time_point to;
};

/// When a client had something to wait for.
class BusyTimes {
 public:
  /// It has been since `from`; `is_still`: and is.
  void note(Clock::time_point from, bool is_still);
  /// It is no more.
  void end();
  bool touch(const TimeSpan& span) const;
  void forget_before(Clock::time_point time);

 private:
  std::deque<TimeSpan> spans_;
};

class SocketClient final : public StreamClient {
 public:
  using StreamClient::StreamClient;

  /// A new life, on a connection that was made since `began`.
  void begin(Connection connection, Clock::time_point began, std::unique_ptr<RingModel> model,
             std::unique_ptr<RingTraffic> traffic);
  /// Ends the connection; gives the model of the life that is over.
  std::unique_ptr<RingModel> end();

  /// Moves what can be moved. Wrong: what the server sent.
  Verdict run(bool has_event);
  void killed(Clock::time_point at) { model().killed(at); }
  /// Begins nothing new until then, but takes what it is sent.
  void pause_until(Clock::time_point end) { pauses_until_ = end; }
  bool is_paused() const { return Clock::now() < pauses_until_; }

  bool is_idle() const { return is_answered(); }
  /// The server has a reason to keep the connection: it has answered a WATCH, or its first
  /// answer was long ago.
  bool is_to_be_kept() const;
  /// And it has answered something that was asked afterwards: the turn in which it began
  /// to keep the connection is over.
  bool is_kept() const { return is_kept_; }
  /// The server has closed the connection, and all it had sent was read.
  bool has_ended() const { return has_ended_; }
  Clock::time_point began() const { return began_; }
  /// A client that is not kept yet is busy for all its life.
  BusyTimes& busy() { return busy_; }

  int fd() const { return connection_.fd(); }
  short wanted_events() const;

 protected:
  std::size_t send(std::string_view bytes) override { return connection_.send(bytes); }
  std::size_t receive(std::string& out) override;
  std::optional<RingMode> mode() const override;

 private:
  Connection connection_;
  bool has_ended_ = false;
  std::uint32_t asked_before_ = 0;  ///< in earlier lives
  std::optional<Clock::time_point> first_answer_;
  std::optional<std::uint32_t> last_unkept_;  ///< the last before is_to_be_kept() was seen
  bool is_kept_ = false;
  Clock::time_point began_;
  BusyTimes busy_;
  Clock::time_point pauses_until_;
};

}  // namespace crash
