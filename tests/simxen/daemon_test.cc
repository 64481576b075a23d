// SPDX-License-Identifier: MIT
/// Debian's C xenstored and guests of this process.
#include <gmock/gmock.h>
#include <spawn.h>
#include <sys/wait.h>

#include <csignal>
#include <filesystem>

#include "tests/simxen/test_machine.h"

namespace simxen {
namespace {

constexpr std::uint32_t kRead = 2;
constexpr std::uint32_t kWatch = 4;
constexpr std::uint32_t kIntroduce = 8;
constexpr std::uint32_t kWrite = 11;
constexpr std::uint32_t kSetPerms = 14;
constexpr std::uint32_t kError = 16;
using namespace std::string_literals;

class CXenstored : public MachineTest {
 protected:
  CXenstored() : toolstack_((start(), machine_), 0) {}
  ~CXenstored() override {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  CXenstored(const CXenstored&) = delete;
  CXenstored& operator=(const CXenstored&) = delete;

  void start();
  /// Makes a domain and introduces it, as dom0's kernel may.
  void introduce(std::uint16_t domid);

  pid_t pid_ = 0;
  SimpleClient toolstack_;
};

void CXenstored::start() {
  const std::string pid_file = machine_.dir() + "/pid";
  setenv("XENSTORED_RUNDIR", machine_.dir().c_str(), 1);
  setenv("LD_PRELOAD", SIMXEN_PRELOAD, 1);
  std::string program = "/usr/lib/xen-4.17/bin/xenstored";
  std::array<std::string, 3> options{"-N", "--pid-file", pid_file};
  std::array<char*, 5> arguments{program.data(), options[0].data(), options[1].data(),
                                 options[2].data(), nullptr};
  ASSERT_EQ(posix_spawn(&pid_, program.c_str(), nullptr, nullptr, arguments.data(), environ), 0);
  unsetenv("LD_PRELOAD");
}

void CXenstored::introduce(std::uint16_t domid) {
  const NewDomain made = machine_.create(domid, uuid_of(1));
  const std::string id = std::to_string(domid);
  const std::string home = "/local/domain/" + id;
  toolstack_.call(kWrite, home + '\0');
  toolstack_.call(kSetPerms, home + "\0n"s + id + '\0');
  const Message reply = toolstack_.call(
      kIntroduce, id + '\0' + std::to_string(made.gfn) + '\0' + std::to_string(made.port) + '\0');
  ASSERT_EQ(reply.payload, "OK\0"s);
}

TEST_F(CXenstored, ServesGuests) {
  introduce(5);
  introduce(6);
  SimpleClient five(machine_, 5);
  SimpleClient six(machine_, 6);
  EXPECT_EQ(six.call(kWatch, "/local/domain/5\0t\0"s).payload, "OK\0"s);
  const std::string value(1900, 'v');
  EXPECT_EQ(five.call(kWrite, "key\0"s + value).payload, "OK\0"s);
  EXPECT_EQ(five.call(kRead, "key\0"s).payload, value);
  EXPECT_EQ(six.call(kRead, "/local/domain/5/key\0"s).type, kError);
  EXPECT_EQ(toolstack_.call(kRead, "/local/domain/5/key\0"s).payload, value);
}

TEST_F(CXenstored, TellsOfAReleasedDomain) {
  introduce(5);
  toolstack_.call(kWatch, "@releaseDomain\0t\0"s);
  toolstack_.take_events();
  machine_.destroy({5});
  std::vector<Message> events;
  while (events.empty()) {
    toolstack_.call(kRead, "/\0"s);
    events = toolstack_.take_events();
  }
  EXPECT_EQ(events.front().payload, "@releaseDomain\0t\0"s);
}

}  // namespace
}  // namespace simxen
