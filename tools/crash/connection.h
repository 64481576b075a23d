// SPDX-License-Identifier: MIT
/// One client connection: a non-blocking stream of frames in both directions.
/// What the server sends is not trusted to be well formed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tools/crash/protocol.h"

namespace crash {

class Connection {
 public:
  Connection() = default;
  Connection(Connection&& other) noexcept;
  Connection& operator=(Connection&& other) noexcept;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection();

  /// Connects to the socket at `path`. Empty when nobody listens there (errno tells).
  static std::optional<Connection> open(const std::string& path);

  int fd() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  void close();

  /// Puts `request` behind what waits to be sent; returns its req_id.
  std::uint32_t queue(const Request& request);
  bool wants_to_send() const { return sent_ < out_.size(); }

  /// Sends what the socket takes. An error is not reported here: what the
  /// server answered before it died must be read first, receive() tells.
  void flush();

  /// Reads what is there. False at the end of the stream: every byte that the
  /// server sent has been read then.
  bool receive();

  /// The bare stream, for whoever tells frames apart himself. Gives how much was sent.
  std::size_t send(std::string_view bytes);
  /// As receive(), appending to `out`.
  bool receive(std::string& out);

  /// The next complete frame, in order.
  std::optional<Frame> next();

  /// The server sent a header that no server may send.
  bool is_garbled() const { return is_garbled_; }

 private:
  explicit Connection(int fd) : fd_(fd) {}

  int fd_ = -1;
  std::uint32_t next_req_id_ = 1;
  std::string out_;
  std::size_t sent_ = 0;
  std::string in_;
  std::size_t taken_ = 0;
  bool is_garbled_ = false;
};

}  // namespace crash
