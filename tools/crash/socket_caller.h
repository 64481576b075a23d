// SPDX-License-Identifier: MIT
/// A toolstack's socket: one request at a time, asked again on a new connection
/// until some server answers it. Only for requests that may be executed twice.
#pragma once

#include <optional>
#include <string>

#include "tools/crash/connection.h"

namespace crash {

class SocketCaller {
 public:
  explicit SocketCaller(std::string socket_path) : path_(std::move(socket_path)) {}

  void call(const Request& request);
  /// Connects, sends and receives what it can without waiting.
  void run();
  bool is_busy() const { return request_.has_value(); }
  /// The answer to the last call, and whether it was sent more than once.
  const Frame& answer() const { return answer_; }
  bool was_repeated() const { return times_sent_ > 1; }
  std::string request_text() const { return request_ ? text(*request_) : "nothing"; }
  /// -1 while there is no connection.
  int fd() const { return connection_.fd(); }

 private:
  const std::string path_;
  Connection connection_;
  std::optional<Request> request_;
  Frame answer_;
  bool is_sent_ = false;
  unsigned times_sent_ = 0;
};

}  // namespace crash
