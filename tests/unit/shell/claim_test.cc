// SPDX-License-Identifier: MIT
/// Pid file, socket, and the order in which a start takes them.
#include "xenstored/claim.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "tests/unit/shell/temp_dir.h"

namespace xenstored {
namespace {

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  return address;
}

bool can_connect(const std::string& path) {
  const sockaddr_un address = address_of(path);
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
  return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
}

UniqueFd bound_socket(const std::string& path) {
  const sockaddr_un address = address_of(path);
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  return fd;
}

class ClaimTest : public testing::Test {
 protected:
  store::Result<SocketClaim, std::string> take() { return SocketClaim::take(socket_, pid_file_); }

  TempDir dir_;
  const std::string socket_ = dir_.path("socket");
  const std::string pid_file_ = dir_.path("pid");
};

TEST_F(ClaimTest, SocketListensWithMode0600) {
  const auto claim = take();
  ASSERT_TRUE(claim.has_value()) << claim.error();
  struct stat status {};
  ASSERT_EQ(::stat(socket_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
  EXPECT_TRUE(can_connect(socket_));
}

TEST_F(ClaimTest, SecondClaimIsRefusedAndTheFirstGoesOn) {
  const auto first = take();
  ASSERT_TRUE(first.has_value());
  ASSERT_TRUE(write_pid(pid_file_, 4711));
  const auto second = take();
  ASSERT_FALSE(second.has_value());
  EXPECT_NE(second.error().find("4711"), std::string::npos) << second.error();
  EXPECT_TRUE(can_connect(socket_));
}

TEST_F(ClaimTest, StaleSocketIsReplaced) {
  bound_socket(socket_).reset();
  ASSERT_FALSE(can_connect(socket_));
  const auto claim = take();
  ASSERT_TRUE(claim.has_value()) << claim.error();
  EXPECT_TRUE(can_connect(socket_));
}

TEST_F(ClaimTest, DaemonOfAnotherMakeIsLeftAlone) {
  const UniqueFd other = bound_socket(socket_);
  ASSERT_EQ(::listen(other.get(), 1), 0);
  EXPECT_FALSE(take().has_value());
  EXPECT_TRUE(can_connect(socket_));
}

TEST_F(ClaimTest, WhatIsNoSocketIsLeftAlone) {
  put(socket_, "precious");
  EXPECT_FALSE(take().has_value());
  EXPECT_EQ(contents(socket_), "precious");
  std::filesystem::rename(socket_, dir_.path("precious"));
  std::filesystem::create_symlink(dir_.path("precious"), socket_);
  EXPECT_FALSE(take().has_value());
  EXPECT_TRUE(std::filesystem::is_symlink(socket_));
}

TEST_F(ClaimTest, PathTooLongForASocketIsRefused) {
  EXPECT_FALSE(SocketClaim::take("/" + std::string(120, 'x'), pid_file_).has_value());
}

TEST_F(ClaimTest, PidFileOfADeadProcessIsOverwritten) {
  put(pid_file_, "4711 and more\n");
  const auto file = PidFile::take(pid_file_);
  ASSERT_TRUE(file.has_value()) << file.error();
  EXPECT_EQ(contents(pid_file_), std::to_string(::getpid()) + "\n");
}

TEST_F(ClaimTest, PidFileOfALiveProcessIsNot) {
  auto file = PidFile::take(pid_file_);
  ASSERT_TRUE(file.has_value());
  put(pid_file_, "mine\n");
  EXPECT_FALSE(PidFile::take(pid_file_).has_value());
  EXPECT_EQ(contents(pid_file_), "mine\n");
  file.value().remove();
  EXPECT_FALSE(std::filesystem::exists(pid_file_));
}

TEST_F(ClaimTest, NoPidFileIsFine) { EXPECT_TRUE(PidFile::take("").has_value()); }

TEST_F(ClaimTest, WritePidReplacesTheFile) {
  put(pid_file_, "1234567\n");
  ASSERT_TRUE(write_pid(pid_file_, 12));
  EXPECT_EQ(contents(pid_file_), "12\n");
  EXPECT_FALSE(write_pid(dir_.path("no/such/dir"), 12));
}

TEST_F(ClaimTest, FailedClaimLeavesNothingBehind) {
  Options options;
  options.run_dir = dir_.path("run");
  options.socket_path = dir_.path("run/socket");
  options.pid_file = dir_.path("no/such/dir");
  EXPECT_FALSE(Claim::take(options).has_value());
  EXPECT_FALSE(std::filesystem::exists(options.socket_path));

  options.pid_file = pid_file_;
  auto claim = Claim::take(options);
  ASSERT_TRUE(claim.has_value()) << claim.error();
  EXPECT_TRUE(can_connect(options.socket_path));
  claim.value().give_up();
  EXPECT_FALSE(std::filesystem::exists(options.socket_path));
  EXPECT_FALSE(std::filesystem::exists(pid_file_));
}

}  // namespace
}  // namespace xenstored
