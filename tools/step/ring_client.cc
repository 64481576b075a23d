// SPDX-License-Identifier: MIT
#include "tools/step/ring_client.h"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace step {

using xenstored::Header;

std::string frame(Op op, std::uint32_t req_id, std::string_view payload, std::uint32_t tx_id) {
  const Header header{static_cast<std::uint32_t>(op), req_id, tx_id,
                      static_cast<std::uint32_t>(payload.size())};
  std::string bytes(sizeof header, '\0');
  std::memcpy(bytes.data(), &header, sizeof header);
  bytes += payload;
  return bytes;
}

bool take_message(std::string& bytes, Message& message) {
  Header header{};
  if (bytes.size() < sizeof header) return false;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (bytes.size() - sizeof header < header.len) return false;
  message = {header.type, header.req_id, header.tx_id, bytes.substr(sizeof header, header.len)};
  bytes.erase(0, sizeof header + header.len);
  return true;
}

std::string describe(const Message& message) {
  std::string text = std::string(xenstored::op_name(message.type)) + " id " +
                     std::to_string(message.req_id) + " tx " + std::to_string(message.tx_id) + " '";
  constexpr std::size_t kShown = 60;
  for (const char c : message.payload.substr(0, kShown)) text += c == '\0' ? '|' : c;
  if (message.payload.size() > kShown) {
    text += "... (" + std::to_string(message.payload.size()) + " bytes)";
  }
  return text + "'";
}

std::string describe_all(const std::vector<Message>& messages) {
  std::string text;
  for (const Message& message : messages) text += "\n      " + describe(message);
  return text.empty() ? "\n      nothing" : text;
}

bool is_same(const Message& one, const Message& other) {
  return one.type == other.type && one.req_id == other.req_id && one.tx_id == other.tx_id &&
         one.payload == other.payload;
}

const Message* find_reply(const std::vector<Message>& messages, std::uint32_t req_id) {
  const auto found = std::ranges::find_if(messages, [req_id](const Message& message) {
    return message.req_id == req_id && message.type != static_cast<std::uint32_t>(Op::kWatchEvent);
  });
  return found == messages.end() ? nullptr : &*found;
}

Message reply(Op op, std::uint32_t req_id, std::string payload, std::uint32_t tx_id) {
  return {static_cast<std::uint32_t>(op), req_id, tx_id, std::move(payload)};
}

Message error(std::string name, std::uint32_t req_id, std::uint32_t tx_id) {
  name += '\0';
  return reply(Op::kError, req_id, std::move(name), tx_id);
}

Message event(std::string_view path, std::string_view token) {
  return reply(Op::kWatchEvent, 0, strings(path, token));
}

std::uint32_t RingClient::ask(Op op, std::string_view payload, std::uint32_t tx_id) {
  has_news_ = true;
  unsent_ += frame(op, ++last_id_, payload, tx_id);
  return last_id_;
}

void RingClient::act() {
  if (is_reconnecting()) return;
  has_news_ = false;
  unsent_.erase(0, guest_.send(unsent_));
  if (guest_.receive(unread_) == 0) return;
  Message message;
  while (take_message(unread_, message)) received_.push_back(message);
}

void RingClient::reconnect() {
  unsent_.clear();
  unread_.clear();
  std::atomic_ref(guest_.page().connection).store(rings::kReconnect);
  guest_.notify();
}

bool RingClient::is_reconnecting() const {
  return std::atomic_ref(guest_.page().connection).load() == rings::kReconnect;
}

}  // namespace step
