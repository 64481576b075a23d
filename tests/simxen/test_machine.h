// SPDX-License-Identifier: MIT
/// A machine for one test, and a daemon's view of it.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>
extern "C" {  // this header does not say it itself
#include <xenevtchn.h>
}

#include <array>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/simxen/guest.h"

namespace simxen {

inline Uuid uuid_of(std::uint8_t byte) {
  Uuid uuid{};
  uuid.fill(byte);
  return uuid;
}

/// Names its machine in SIMXEN: this process is the daemon, too.
class MachineTest : public testing::Test {
 protected:
  MachineTest() : machine_(Machine::make(make_directory())) {
    setenv("SIMXEN", machine_.dir().c_str(), 1);
  }
  ~MachineTest() override { std::filesystem::remove_all(machine_.dir()); }
  MachineTest(const MachineTest&) = delete;
  MachineTest& operator=(const MachineTest&) = delete;

  Machine machine_;

 private:
  static std::string make_directory() {
    std::string name = "/dev/shm/simxen-test.XXXXXX";
    return mkdtemp(name.data()) == nullptr ? std::string() : name;
  }
};

/// A daemon's handle on the event channels.
class Channels {
 public:
  Channels() : handle_(xenevtchn_open(nullptr, 0)) { EXPECT_NE(handle_, nullptr); }
  ~Channels() { close(); }
  Channels(const Channels&) = delete;
  Channels& operator=(const Channels&) = delete;

  xenevtchn_handle* get() const { return handle_; }
  void close() { xenevtchn_close(std::exchange(handle_, nullptr)); }
  int bind(std::uint16_t domid, std::uint32_t port) {
    return xenevtchn_bind_interdomain(handle_, domid, port);
  }
  int bind_virq() { return xenevtchn_bind_virq(handle_, VIRQ_DOM_EXC); }

  /// The ports with an event, all that there are.
  std::vector<int> take() {
    std::vector<int> ports;
    std::array<int, 512> some{};
    while (is_readable()) {
      const ssize_t bytes = read(xenevtchn_fd(handle_), some.data(), sizeof some);
      if (bytes > 0) {
        ports.insert(ports.end(), some.begin(),
                     some.begin() + bytes / static_cast<ssize_t>(sizeof some[0]));
      }
    }
    return ports;
  }
  /// As a daemon does in each turn: takes them and lets them raise events again.
  std::vector<int> take_and_unmask() {
    std::vector<int> ports = take();
    for (const int port : ports) xenevtchn_unmask(handle_, static_cast<evtchn_port_t>(port));
    return ports;
  }

 private:
  bool is_readable() const {
    pollfd waiting{xenevtchn_fd(handle_), POLLIN, 0};
    return poll(&waiting, 1, 0) == 1;
  }

  xenevtchn_handle* handle_;
};

}  // namespace simxen
