// SPDX-License-Identifier: MIT
/// A machine with four guests (domain 0's kernel and domains 1 to 3), a server on it,
/// perhaps behind a keeper, and a client of its socket: the fixed state in which every
/// case begins.
///
/// Whatever goes wrong is a violation of what the server promises and is kept, the
/// first of them; from then on nothing is done any more.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tests/simxen/guest.h"
#include "tools/step/ring_client.h"
#include "tools/step/server.h"
#include "tools/step/socket_client.h"

namespace step {

/// What each ring is expected to have received, by domid.
using Transcripts = std::map<std::uint16_t, std::vector<Message>>;

/// The payload of INTRODUCE.
std::string introduction(std::uint16_t domid, const simxen::NewDomain& domain);

class World {
 public:
  struct Options {
    std::string binary;
    std::string preload;
    std::string directory;  ///< is made, and removed in the end
    std::chrono::seconds patience;
    bool has_keeper = false;
    bool is_hurried = false;  ///< serves kept sockets by plain calls
  };
  explicit World(const Options& options);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  const std::string& problem() const { return problem_; }
  void fail(const std::string& what);
  /// Fails unless `holds`.
  void expect(bool holds, const std::string& what);

  Server& server() { return server_; }
  /// Where the server waits for events.
  std::uint64_t wait_address() const { return wait_address_; }
  RingClient& ring(std::uint16_t domid) { return *rings_.at(domid); }
  /// A new domain that is not introduced yet, in place of the last.
  simxen::NewDomain replace_guest(std::uint16_t domid);
  void destroy_guest(std::uint16_t domid);

  /// Guests with something to send or with an event act, once. False: there was none.
  bool act();
  /// All act, whether they have a reason or not.
  void act_all();
  /// Acts on events until it is so.
  void act_until(const std::function<bool()>& is_so, const std::string& what);
  /// A request on an otherwise quiet ring: the payload of its reply, which must be of
  /// its own type and the only message.
  std::string call(std::uint16_t domid, Op op, std::string_view payload, std::uint32_t tx_id = 0);
  /// The same from domain 0's socket.
  std::string socket_call(Op op, std::string_view payload);
  /// The socket that socket_call() has used; it opens another when it next needs one.
  std::unique_ptr<SocketClient> take_socket() { return std::move(socket_); }

  /// One more client of the socket.
  std::unique_ptr<SocketClient> open_client();
  /// Reads until it is so. It may not be closed before, unless `may_be_closed`.
  void read_until(SocketClient& client, const std::function<bool()>& is_so, const std::string& what,
                  bool may_be_closed = false);
  void watch(SocketClient& client, const std::string& path, const std::string& token);
  /// As call() of a ring.
  std::string call(SocketClient& client, Op op, std::string_view payload, std::uint32_t tx_id = 0);
  /// As compare() with one client's messages.
  void compare(SocketClient& client, std::vector<Message> expected);
  void compare(const std::string& who, const std::vector<Message>& received,
               const std::vector<Message>& expected);
  /// All that the daemon knows of its clients, in lines.
  std::string inspect();

  void watch(std::uint16_t domid, const std::string& path, const std::string& token);
  void introduce(std::uint16_t domid, const simxen::NewDomain& domain);
  /// After every request was answered: waits until the server sleeps again.
  void wait_idle();
  /// The same, until it waits for nothing that comes with time: clients are kept.
  void wait_quiet();
  void kill_server();
  /// Waits until all rings have so many messages, asks one more thing on each, and
  /// compares. Forgets what was received.
  void compare(const Transcripts& expected);
  /// The next request of a ring, what compare() will ask; once.
  void ask_next(std::uint16_t domid);

 private:
  void make_guest(std::uint16_t domid);
  std::string take_reply(const std::string& who, Op op, const std::vector<Message>& received);
  Clock::time_point deadline() const { return Clock::now() + options_.patience; }

  Options options_;
  std::string problem_;
  std::optional<simxen::Machine> machine_;
  std::optional<simxen::GuestEvents> events_;
  Server server_;
  std::uint64_t wait_address_ = 0;
  std::map<std::uint16_t, std::unique_ptr<RingClient>> rings_;
  std::map<std::uint16_t, std::uint32_t> next_asked_;
  std::unique_ptr<SocketClient> socket_;
  std::uint32_t next_uuid_ = 0;
};

}  // namespace step
