// SPDX-License-Identifier: MIT
/// A guest that keeps all it was sent, and acts only when it has a reason: something
/// to send, or an event.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/simxen/guest.h"
#include "xenstored/wire.h"

namespace step {

using simxen::Message;
using xenstored::Op;

std::string frame(Op op, std::uint32_t req_id, std::string_view payload, std::uint32_t tx_id);
/// Takes the first whole message off `bytes`; false: there is none yet.
bool take_message(std::string& bytes, Message& message);
/// For people.
std::string describe(const Message& message);
std::string describe_all(const std::vector<Message>& messages);
bool is_same(const Message& one, const Message& other);
/// The reply to this request among them, or null.
const Message* find_reply(const std::vector<Message>& messages, std::uint32_t req_id);

/// The reply to a request, and an error in its place; payloads with their NULs.
Message reply(Op op, std::uint32_t req_id, std::string payload, std::uint32_t tx_id = 0);
Message error(std::string name, std::uint32_t req_id, std::uint32_t tx_id = 0);
Message event(std::string_view path, std::string_view token);

/// "a" and "b" as "a\0b\0".
template <class... Strings>
std::string strings(const Strings&... each) {
  std::string all;
  ((all += each, all += '\0'), ...);
  return all;
}

class RingClient {
 public:
  RingClient(simxen::Machine& machine, simxen::GuestEvents& events, std::uint16_t domid)
      : guest_(machine, events, domid) {}

  /// Queues a request; it goes out with act(). Its req_id.
  std::uint32_t ask(Op op, std::string_view payload, std::uint32_t tx_id = 0);
  /// Whether there is something that it has not tried to send yet.
  bool has_news() const { return has_news_ && !is_reconnecting(); }
  /// Sends and takes what there is and space for, with Linux's thrifty events.
  void act();
  /// Asks for a new connection; until it is there act() does nothing.
  void reconnect();
  bool is_reconnecting() const;
  /// What the server says in the page that it can do.
  std::uint32_t server_features() const { return guest_.page().server_features; }

  std::uint16_t domid() const { return guest_.domid(); }
  const std::vector<Message>& received() const { return received_; }
  void forget_received() { received_.clear(); }
  const Message* reply_to(std::uint32_t req_id) const { return find_reply(received_, req_id); }

 private:
  // Reading the state of the connection needs no more than that.
  mutable simxen::Guest guest_;
  std::string unsent_;
  std::string unread_;
  std::vector<Message> received_;
  std::uint32_t last_id_ = 0;
  bool has_news_ = false;
};

}  // namespace step
