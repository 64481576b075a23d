// SPDX-License-Identifier: MIT
#include "tools/crash/socket_caller.h"

#include <utility>

namespace crash {

void SocketCaller::call(const Request& request) {
  request_ = request;
  is_sent_ = false;
  times_sent_ = 0;
  run();
}

void SocketCaller::run() {
  if (!connection_.is_open()) {
    if (auto opened = Connection::open(path_)) connection_ = std::move(*opened);
    is_sent_ = false;
  }
  if (!connection_.is_open()) return;
  if (request_ && !is_sent_) {
    connection_.queue(*request_);
    is_sent_ = true;
    ++times_sent_;
  }
  connection_.flush();
  const bool is_alive = connection_.receive();
  while (std::optional<Frame> frame = connection_.next()) {
    if (frame->type == Op::kWatchEvent) continue;
    answer_ = std::move(*frame);
    request_.reset();
  }
  if (!is_alive) connection_.close();
}

}  // namespace crash
