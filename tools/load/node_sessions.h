// SPDX-License-Identifier: MIT
/// Clients that read, write and list single nodes, outside transactions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tools/load/driver.h"

namespace load {

/// A small generator for choosing nodes; the same seed gives the same run.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}
  /// Uniform enough in [0, bound).
  std::uint64_t below(std::uint64_t bound);

 private:
  std::uint64_t state_;
};

/// A value's first `bytes` bytes are this, repeated; a written one then ends in a 10-digit number.
std::string plain_value(unsigned bytes);

/// As they end a value.
std::string ten_digits(std::uint64_t number);

/// Whether `reply` is the plain answer to a request that changes something.
bool is_ok(const Frame& reply, xenstored::Op op);

/// The frames of one request type for nodes `<directory>/0`, `<directory>/1`, ..., laid out once.
class PreparedRequests {
 public:
  PreparedRequests(xenstored::Op op, const std::string& directory, std::uint64_t nodes,
                   std::string_view value_or_nul);
  std::string_view frame(std::uint64_t node) const { return frames_[node]; }
  std::uint64_t size() const { return frames_.size(); }

 private:
  std::vector<std::string> frames_;
};

/// Reads nodes of a directory at random; each must hold plain_value().
class ReadSession : public Session {
 public:
  ReadSession(const std::string& directory, std::uint64_t nodes, unsigned value_bytes);
  void begin(Outbox& out) override;
  Step on_reply(const Frame& reply, Outbox& out) override;

 private:
  PreparedRequests requests_;
  std::string expected_;
  Random random_{1};
};

/// Overwrites nodes of a directory at random; every value is a new one.
class WriteSession : public Session {
 public:
  WriteSession(const std::string& directory, std::uint64_t nodes, unsigned value_bytes);
  void begin(Outbox& out) override;
  Step on_reply(const Frame& reply, Outbox& out) override;

  /// The node last written, and the 10 digits that its value ends in.
  std::uint64_t last_node() const { return last_node_; }
  std::string last_digits() const;

 private:
  PreparedRequests requests_;
  Random random_{2};
  std::uint64_t written_ = 0;
  std::uint64_t last_node_ = 0;
};

/// Where leaf `i` of the inserted tree is: /bench/tree/<a>/<b>/<leaf>, 100 to a directory.
std::string leaf_path(std::uint64_t i);
/// Nodes that a tree of `leaves` leaves has, its directories and /bench/tree counted.
std::uint64_t tree_nodes(std::uint64_t leaves);

/// Creates one leaf of the tree after another.
class InsertSession : public Session {
 public:
  /// `scatter` 0 creates leaves in order, else leaf (i * scatter) modulo `leaves`.
  InsertSession(std::uint64_t leaves, std::uint64_t scatter) : leaves_(leaves), scatter_(scatter) {}
  void begin(Outbox& out) override;
  Step on_reply(const Frame& reply, Outbox& out) override;

 private:
  std::uint64_t leaves_;
  std::uint64_t scatter_;
  std::uint64_t next_ = 0;
};

/// 65 % reads, 20 % writes, 10 % directories, 5 % watch and unwatch in turn, in the client's own
/// directory. Its writes fire its own watch, and those of whoever watches all clients.
class MixedSession : public Session {
 public:
  MixedSession(const std::string& directory, std::uint64_t nodes, unsigned value_bytes,
               std::uint64_t seed);
  void begin(Outbox& out) override;
  Step on_reply(const Frame& reply, Outbox& out) override;

 private:
  PreparedRequests reads_;
  PreparedRequests writes_;
  std::string directory_;
  Random random_;
  bool is_watching_ = false;
  xenstored::Op asked_ = xenstored::Op::kRead;
};

}  // namespace load
