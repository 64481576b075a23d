// SPDX-License-Identifier: MIT
/// A client of the server's socket that keeps all it was sent.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/step/ring_client.h"
#include "tools/step/server.h"

namespace step {

class SocketClient {
 public:
  /// None: nobody listens.
  static std::unique_ptr<SocketClient> open(const std::string& path);
  ~SocketClient();
  SocketClient(const SocketClient&) = delete;
  SocketClient& operator=(const SocketClient&) = delete;

  /// Puts a request behind those that the next send() sends; its req_id.
  std::uint32_t queue(Op op, std::string_view payload, std::uint32_t tx_id = 0);
  /// Sends what was queued in one call, without waiting. What cannot be sent will not be
  /// answered. With `bytes`: so many of it; the rest stays queued.
  void send(std::size_t bytes = std::string::npos);
  void send_no_more();
  /// Both queue() and send().
  std::uint32_t ask(Op op, std::string_view payload, std::uint32_t tx_id = 0);
  /// The next request whose answer tells that the client is served; the same one until
  /// its answer was forgotten.
  std::uint32_t ask_next();

  /// What has come and was not taken.
  std::size_t readable_bytes() const;
  /// Takes what has come, without waiting, at most so many bytes.
  void read(std::size_t bytes_max = std::string::npos);
  /// The next message, taken from those received; none: it was closed, or none came before
  /// the deadline.
  std::optional<Message> next(Clock::time_point deadline);
  /// After the other end was killed: what is left to be read.
  std::optional<Message> last_words() { return next(Clock::now()); }

  int fd() const { return fd_; }
  /// The other end has closed, as far as read() has seen.
  bool is_closed() const { return is_closed_; }
  const std::vector<Message>& received() const { return received_; }
  void forget_received();
  const Message* reply_to(std::uint32_t req_id) const { return find_reply(received_, req_id); }

 private:
  explicit SocketClient(int fd) : fd_(fd) {}

  int fd_;
  std::string unsent_;
  std::string unread_;
  std::vector<Message> received_;
  std::uint32_t last_id_ = 0;
  std::uint32_t next_id_ = 0;  ///< of what ask_next() has asked; 0: nothing
  bool is_closed_ = false;
};

}  // namespace step
