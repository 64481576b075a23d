// SPDX-License-Identifier: MIT
/// A daemon on a machine of its own, a toolstack on its socket, and guests on rings.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/simxen/guest.h"
#include "xenstored/wire.h"

namespace security {

using simxen::Guest;
using simxen::SimpleClient;
using xenstored::Op;
using namespace std::string_literals;

/// The bytes of one request.
std::string frame(Op op, std::string_view payload, std::uint32_t req = 0, std::uint32_t tx = 0);
/// Waits until `is_so`, for 10 seconds at most. Whether it came to be.
bool eventually(const std::function<bool()>& is_so);
/// The payload of a reply; of an error its name without the NUL.
std::string shown(const simxen::Message& reply);

/// A blocking client on the daemon's socket.
class Socket {
 public:
  explicit Socket(const std::string& path);
  ~Socket();
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  void send(std::string_view bytes);
  /// The next message; aborts the test program after 20 seconds, or at the end.
  simxen::Message receive();
  /// One request's reply as shown() has it. Events on the way are kept.
  std::string call(Op op, std::string_view payload, std::uint32_t tx = 0);
  /// Payloads of the events so far, oldest first, and forgets them.
  std::vector<std::string> take_events();

 private:
  void receive_more();

  int fd_;
  std::string unread_;
  std::vector<std::string> events_;
};

/// The fixture. At the end the daemon must be alive and find nothing wrong with itself.
class World : public testing::Test {
 protected:
  /// `stack_bytes`: of the daemon; 0: as it comes.
  explicit World(std::uint64_t stack_bytes = 0);
  ~World() override;
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  void TearDown() override;

  simxen::Machine& machine() { return machine_; }
  /// kill -9; clients on sockets are gone, guests stay.
  void kill_daemon();
  void start_daemon();
  void restart() {
    kill_daemon();
    start_daemon();
  }
  /// SIGSTOP and SIGCONT: what is sent between arrives all in one turn.
  void pause_daemon();
  void resume_daemon();
  bool is_alive();

  /// Another socket client. They do not survive the daemon.
  std::unique_ptr<Socket> connect();
  /// A request of the toolstack.
  std::string ask(Op op, std::string_view payload, std::uint32_t tx = 0);
  Socket& toolstack() { return *toolstack_; }

  /// Makes a domain with a handle that no other has; its number of frame and port.
  simxen::NewDomain create(std::uint16_t domid);
  /// What the toolstack says of it in INTRODUCE; the answer to that.
  std::string introduction(std::uint16_t domid);
  std::string introduce(std::uint16_t domid);
  /// All that a toolstack does for a new domain: made, known, with a home.
  void add(std::uint16_t domid);
  void give_home(std::uint16_t domid);
  /// Destroys it and waits until the daemon has noticed.
  void end(std::uint16_t domid);
  bool is_introduced(std::uint16_t domid);
  /// The guest that lives in a domain now.
  SimpleClient& guest(std::uint16_t domid);
  /// From now on somebody else uses its ring, who knows of nothing.
  void replace_guest(std::uint16_t domid) { known_[domid].guest.reset(); }
  std::string ask(std::uint16_t domid, Op op, std::string_view payload, std::uint32_t tx = 0);

  /// Of CONTROL quota: "nodes", "watches", "transactions", "outstanding", "memory".
  std::uint64_t usage(std::uint16_t domid, const std::string& what);
  /// Of CONTROL memreport: "nodes" of the whole store, "journal bytes".
  std::uint64_t report(const std::string& what);
  /// The daemon's private memory. The map of its database is shared, so not in it.
  std::uint64_t anonymous_kb();

 private:
  struct Known {
    simxen::NewDomain domain;
    std::unique_ptr<SimpleClient> guest;
  };

  const std::string dir_;
  const std::uint64_t stack_bytes_;
  simxen::Machine machine_;
  pid_t pid_ = 0;
  std::uint16_t lives_ = 0;
  std::unique_ptr<Socket> toolstack_;
  std::map<std::uint16_t, Known> known_;
};

}  // namespace security
