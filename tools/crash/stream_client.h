// SPDX-License-Identifier: MIT
/// One client for whom no crash of the server exists, whatever its bytes travel by:
/// asks for what its traffic draws, and holds every answer to its RingModel.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "tools/crash/ring_model.h"
#include "tools/crash/ring_traffic.h"

namespace crash {

class StreamClient {
 public:
  explicit StreamClient(Feeds& feeds) : feeds_(feeds) {}
  StreamClient(const StreamClient&) = delete;
  StreamClient& operator=(const StreamClient&) = delete;
  virtual ~StreamClient() = default;

  /// Who may be killed.
  void set_server(const Server& server) { server_ = &server; }

  /// Does nothing until then, as one that was not given a processor.
  void sleep_until(Clock::time_point end) { sleeps_until_ = end; }
  bool is_asleep() const { return sleeps_until_ != Clock::time_point(); }
  /// More to do, whether the server sends something or not.
  bool is_hot() const { return is_hot_ && !is_asleep(); }
  /// Sends a request that is not its traffic's and changes nothing.
  void ask(const Request& request);
  /// A question: what was queued for it before is received before the answer.
  void ask_fence() { ask(path_request(Op::kRead, model_->identity().data())); }

  void set_mode(RingMode mode) { mode_ = mode; }
  RingModel& model() { return *model_; }
  const RingModel& model() const { return *model_; }
  RingTraffic& traffic() { return *traffic_; }
  const RingTraffic& traffic() const { return *traffic_; }

 protected:
  /// A new life, with a stream that begins.
  void begin(std::unique_ptr<RingModel> model, std::unique_ptr<RingTraffic> traffic);
  /// Both ways nothing is under way any more.
  void begin_stream();
  std::unique_ptr<RingModel> take_model() { return std::move(model_); }
  /// Sends nothing more; nobody is to watch its feed from now on.
  void retire();
  /// Moves what can be moved. Wrong: what the server sent.
  Verdict move(bool has_event);

  bool is_answered() const { return unanswered_.empty() && out_.empty(); }
  bool wants_to_send() const { return !out_.empty(); }
  /// How many requests were ever made, in all lives, and how many of these wait.
  std::uint32_t asked() const { return last_req_id_; }
  std::size_t unanswered() const { return unanswered_.size(); }
  RingMode chosen_mode() const { return mode_; }

  /// Passes on what there is room for; returns how much.
  virtual std::size_t send(std::string_view bytes) = 0;
  /// Appends what has come; returns how much.
  virtual std::size_t receive(std::string& out) = 0;
  /// What may be asked for now; nothing at all when empty.
  virtual std::optional<RingMode> mode() const = 0;

 private:
  void queue(const Request& request);
  void add_requests();
  Verdict take_frames();

  Feeds& feeds_;
  const Server* server_ = nullptr;
  std::unique_ptr<RingModel> model_;
  std::unique_ptr<RingTraffic> traffic_;
  RingMode mode_ = RingMode::kAll;
  std::deque<Request> unanswered_;
  std::uint32_t last_req_id_ = 0;
  std::string out_;
  std::string in_;
  bool is_hot_ = false;
  Clock::time_point sleeps_until_;
};

}  // namespace crash
