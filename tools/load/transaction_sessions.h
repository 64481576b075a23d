// SPDX-License-Identifier: MIT
/// Clients whose operation is a whole transaction, tried again until it commits.
#pragma once

#include <cstdint>
#include <string>

#include "tools/load/driver.h"

namespace load {

/// START, then what the derived class sends, then END "T"; from the start again on EAGAIN. Every
/// request waits for the reply to the one before it, as stock clients do.
class TransactionSession : public Session {
 public:
  void begin(Outbox& out) override;
  Step on_reply(const Frame& reply, Outbox& out) override;

  std::uint64_t commits() const { return commits_; }
  std::uint64_t conflicts() const { return conflicts_; }

 protected:
  /// Sends request number `index` of the transaction's body; false when there is none left.
  /// `previous` is the reply to the one before, of START for the first.
  virtual bool send_body(unsigned index, const Frame& previous, std::uint32_t tx_id,
                         Outbox& out) = 0;
  /// Whether `reply` is what body request `index` should get.
  virtual bool is_expected(unsigned index, const Frame& reply) const = 0;

 private:
  enum class State { kStarting, kBody, kEnding };

  Step on_started(const Frame& reply, Outbox& out);
  Step on_ended(const Frame& reply, Outbox& out);
  void go_on(const Frame& reply, Outbox& out);

  State state_ = State::kStarting;
  std::uint32_t tx_id_ = 0;
  unsigned index_ = 0;  ///< the body request whose reply is awaited
  std::uint64_t commits_ = 0;
  std::uint64_t conflicts_ = 0;
};

/// Adds one to the decimal number in a node that all clients share.
class IncrementSession : public TransactionSession {
 public:
  explicit IncrementSession(std::string path) : path_(std::move(path)) {}

 protected:
  bool send_body(unsigned index, const Frame& previous, std::uint32_t tx_id, Outbox& out) override;
  bool is_expected(unsigned index, const Frame& reply) const override;

 private:
  std::string path_;
};

/// Creates a child that no other client has, under one parent that all share.
class SiblingSession : public TransactionSession {
 public:
  SiblingSession(const std::string& parent, unsigned client)
      : prefix_(parent + "/c" + std::to_string(client) + "-") {}

 protected:
  bool send_body(unsigned index, const Frame& previous, std::uint32_t tx_id, Outbox& out) override;
  bool is_expected(unsigned index, const Frame& reply) const override;

 private:
  std::string prefix_;
};

}  // namespace load
