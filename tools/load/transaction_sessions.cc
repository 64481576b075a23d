// SPDX-License-Identifier: MIT
#include "tools/load/transaction_sessions.h"

#include <charconv>

#include "tools/load/node_sessions.h"

namespace load {
namespace {

using xenstored::Op;
using namespace std::string_view_literals;

/// The number that `text` starts with; 0 if none.
std::uint64_t number_in(std::string_view text) {
  std::uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

}  // namespace

void TransactionSession::begin(Outbox& out) {
  state_ = State::kStarting;
  out.add(Op::kTransactionStart, 0, {kNul});
}

Step TransactionSession::on_reply(const Frame& reply, Outbox& out) {
  switch (state_) {
    case State::kStarting:
      return on_started(reply, out);
    case State::kEnding:
      return on_ended(reply, out);
    case State::kBody:
      break;
  }
  if (!is_expected(index_, reply)) return Step::kWrong;
  ++index_;
  go_on(reply, out);
  return Step::kMore;
}

Step TransactionSession::on_started(const Frame& reply, Outbox& out) {
  tx_id_ = static_cast<std::uint32_t>(number_in(reply.payload));
  if (!reply.is(Op::kTransactionStart) || tx_id_ == 0) return Step::kWrong;
  state_ = State::kBody;
  index_ = 0;
  go_on(reply, out);
  return Step::kMore;
}

void TransactionSession::go_on(const Frame& reply, Outbox& out) {
  if (send_body(index_, reply, tx_id_, out)) return;
  state_ = State::kEnding;
  out.add(Op::kTransactionEnd, tx_id_, {"T", kNul});
}

Step TransactionSession::on_ended(const Frame& reply, Outbox& out) {
  if (reply.is(Op::kError) && reply.payload == "EAGAIN\0"sv) {
    ++conflicts_;
    begin(out);
    return Step::kMore;
  }
  if (!is_ok(reply, Op::kTransactionEnd)) return Step::kWrong;
  ++commits_;
  return Step::kDone;
}

bool IncrementSession::send_body(unsigned index, const Frame& previous, std::uint32_t tx_id,
                                 Outbox& out) {
  if (index == 0) {
    out.add(Op::kRead, tx_id, {path_, kNul});
  } else if (index == 1) {
    out.add(Op::kWrite, tx_id, {path_, kNul, std::to_string(number_in(previous.payload) + 1)});
  }
  return index < 2;
}

bool IncrementSession::is_expected(unsigned index, const Frame& reply) const {
  return index == 0 ? reply.is(Op::kRead) : is_ok(reply, Op::kWrite);
}

bool SiblingSession::send_body(unsigned index, const Frame& /*previous*/, std::uint32_t tx_id,
                               Outbox& out) {
  if (index > 0) return false;
  out.add(Op::kWrite, tx_id, {prefix_ + std::to_string(commits()), kNul, "x"});
  return true;
}

bool SiblingSession::is_expected(unsigned /*index*/, const Frame& reply) const {
  return is_ok(reply, Op::kWrite);
}

}  // namespace load
