// SPDX-License-Identifier: MIT
#include "tools/load/node_sessions.h"

#include <cstring>

namespace load {
namespace {

using xenstored::Op;
using namespace std::string_view_literals;

constexpr std::size_t kDigits = 10;

/// Writes the last ten digits of `number` into the ten bytes before `end`.
void put_digits(char* end, std::uint64_t number) {
  for (std::size_t i = 0; i < kDigits; ++i) {
    *--end = static_cast<char>('0' + number % 10);
    number /= 10;
  }
}

}  // namespace

std::uint64_t Random::below(std::uint64_t bound) {
  state_ ^= state_ << 13;
  state_ ^= state_ >> 7;
  state_ ^= state_ << 17;
  return (state_ >> 11) % bound;
}

std::string plain_value(unsigned bytes) {
  std::string value;
  while (value.size() < bytes) value += "0123456789";
  value.resize(bytes);
  return value;
}

std::string ten_digits(std::uint64_t number) {
  std::string digits(kDigits, '0');
  put_digits(digits.data() + kDigits, number);
  return digits;
}

bool is_ok(const Frame& reply, Op op) { return reply.is(op) && reply.payload == "OK\0"sv; }

PreparedRequests::PreparedRequests(Op op, const std::string& directory, std::uint64_t nodes,
                                   std::string_view value_or_nul) {
  frames_.reserve(nodes);
  for (std::uint64_t node = 0; node < nodes; ++node) {
    Outbox frame;
    frame.add(op, 0, {directory, "/", std::to_string(node), value_or_nul});
    frames_.emplace_back(frame.bytes());
  }
}

ReadSession::ReadSession(const std::string& directory, std::uint64_t nodes, unsigned value_bytes)
    : requests_(Op::kRead, directory, nodes, kNul), expected_(plain_value(value_bytes)) {}

void ReadSession::begin(Outbox& out) {
  out.add_prepared(requests_.frame(random_.below(requests_.size())));
}

Step ReadSession::on_reply(const Frame& reply, Outbox& /*out*/) {
  return reply.is(Op::kRead) && reply.payload == expected_ ? Step::kDone : Step::kWrong;
}

WriteSession::WriteSession(const std::string& directory, std::uint64_t nodes, unsigned value_bytes)
    : requests_(Op::kWrite, directory, nodes, std::string(kNul) + plain_value(value_bytes)) {}

void WriteSession::begin(Outbox& out) {
  last_node_ = random_.below(requests_.size());
  put_digits(out.add_prepared(requests_.frame(last_node_)), ++written_);
}

Step WriteSession::on_reply(const Frame& reply, Outbox& /*out*/) {
  return is_ok(reply, Op::kWrite) ? Step::kDone : Step::kWrong;
}

std::string WriteSession::last_digits() const { return ten_digits(written_); }

std::string leaf_path(std::uint64_t i) {
  std::string path = "/bench/tree/a";
  path += std::to_string(i / 10'000);
  path += "/b";
  path += std::to_string(i / 100 % 100);
  path += "/leaf";
  path += std::to_string(i % 100);
  return path;
}

std::uint64_t tree_nodes(std::uint64_t leaves) {
  return leaves + (leaves + 99) / 100 + (leaves + 9'999) / 10'000 + 2;
}

void InsertSession::begin(Outbox& out) {
  const std::uint64_t leaf = scatter_ == 0 ? next_ : next_ * scatter_ % leaves_;
  ++next_;
  char digits[kDigits];
  put_digits(digits + kDigits, leaf);
  out.add(Op::kWrite, 0, {leaf_path(leaf), kNul, std::string_view(digits, kDigits)});
}

Step InsertSession::on_reply(const Frame& reply, Outbox& /*out*/) {
  return is_ok(reply, Op::kWrite) ? Step::kDone : Step::kWrong;
}

MixedSession::MixedSession(const std::string& directory, std::uint64_t nodes, unsigned value_bytes,
                           std::uint64_t seed)
    : reads_(Op::kRead, directory, nodes, kNul),
      writes_(Op::kWrite, directory, nodes, std::string(kNul) + plain_value(value_bytes)),
      directory_(directory),
      random_(seed) {}

void MixedSession::begin(Outbox& out) {
  const std::uint64_t choice = random_.below(100);
  const std::uint64_t node = random_.below(reads_.size());
  if (choice < 65) {
    asked_ = Op::kRead;
    out.add_prepared(reads_.frame(node));
  } else if (choice < 85) {
    asked_ = Op::kWrite;
    out.add_prepared(writes_.frame(node));
  } else if (choice < 95) {
    asked_ = Op::kDirectory;
    out.add(asked_, 0, {directory_, kNul});
  } else {
    asked_ = is_watching_ ? Op::kUnwatch : Op::kWatch;
    is_watching_ = !is_watching_;
    out.add(asked_, 0, {directory_, kNul, "token", kNul});
  }
}

Step MixedSession::on_reply(const Frame& reply, Outbox& /*out*/) {
  if (!reply.is(asked_)) return Step::kWrong;
  const bool has_data = asked_ == Op::kRead || asked_ == Op::kDirectory;
  return has_data || is_ok(reply, asked_) ? Step::kDone : Step::kWrong;
}

}  // namespace load
