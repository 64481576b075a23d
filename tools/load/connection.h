// SPDX-License-Identifier: MIT
/// One client connection of the load generator, and the requests waiting to be sent on it. Through
/// a socket here; guests.h has those through a domain's ring.
///
/// The server is trusted to be a xenstored: anything that breaks the framing, and any silence
/// longer than kPatience, ends the program with a message (exit status 2). There is nothing
/// sensible left to measure then.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "xenstored/wire.h"

namespace load {

inline constexpr std::chrono::seconds kPatience{10};

/// Ends each string of a payload.
inline constexpr std::string_view kNul{"\0", 1};

/// Prints `xs-load: <what>` with errno's text when `error` is not 0, and exits with status 2.
[[noreturn]] void die(const std::string& what, int error = 0);

struct Frame {
  std::uint32_t type;
  std::uint32_t req_id;
  std::uint32_t tx_id;
  std::string_view payload;  ///< valid until the connection is filled again

  bool is(xenstored::Op op) const { return type == static_cast<std::uint32_t>(op); }
};

/// Requests laid out as they go to the socket; request ids count up from 0.
class Outbox {
 public:
  /// Appends a request whose payload is `parts` joined as they are (NULs included by the caller).
  void add(xenstored::Op op, std::uint32_t tx_id, std::initializer_list<std::string_view> parts);
  /// Appends a copy of a whole prepared frame under the next request id. The copy's last bytes may
  /// be overwritten through the pointer to its end, until the next call.
  char* add_prepared(std::string_view frame);

  std::string_view bytes() const { return bytes_; }
  void clear() { bytes_.clear(); }

 private:
  std::string bytes_;
  std::uint32_t next_id_ = 0;
};

class Connection {
 public:
  Connection() = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  virtual ~Connection() = default;

  /// Sends everything and empties the outbox.
  virtual void flush(Outbox& out) = 0;
  /// Takes what has arrived. `wait` blocks until something arrives; else returns at once.
  virtual void fill(bool wait) = 0;
  /// The next whole frame that fill() has brought.
  std::optional<Frame> next();
  /// The next reply, waiting for it; watch events before it are skipped.
  Frame reply();
  /// Sends one request and waits for its reply.
  Frame ask(xenstored::Op op, std::initializer_list<std::string_view> parts);

 protected:
  /// Where input may be put, at least as much as a recv() should be asked for.
  std::span<char> room();
  /// So much of the room was filled.
  void filled(std::size_t bytes) { end_ += bytes; }

 private:
  std::unique_ptr<char[]> input_;  ///< none until something arrives
  std::size_t begin_ = 0;          ///< bytes of input_ taken by next()
  std::size_t end_ = 0;            ///< bytes of input_ filled
};

class SocketConnection : public Connection {
 public:
  /// Waits in the listener's backlog if need be.
  explicit SocketConnection(const std::string& socket_path);
  ~SocketConnection() override;

  int fd() const { return fd_; }
  /// One system call unless the socket is full.
  void flush(Outbox& out) override;
  /// One recv().
  void fill(bool wait) override;

 private:
  int fd_;
};

}  // namespace load
