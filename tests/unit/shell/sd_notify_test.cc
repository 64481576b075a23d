// SPDX-License-Identifier: MIT
#include "xenstored/sd_notify.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <string>

#include "tests/unit/shell/temp_dir.h"
#include "xenstored/unique_fd.h"

namespace xenstored {
namespace {

/// A service manager's end, at a path or an abstract name (@...).
UniqueFd listen_at(std::string name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  name.copy(address.sun_path, sizeof(address.sun_path) - 1);
  if (name.front() == '@') address.sun_path[0] = '\0';
  UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  ::setenv("NOTIFY_SOCKET", name.c_str(), 1);
  return fd;
}

std::string received(const UniqueFd& fd) {
  char text[256];
  const ssize_t size = ::recv(fd.get(), text, sizeof(text), 0);
  return size < 0 ? "" : std::string(text, static_cast<std::size_t>(size));
}

class SdNotifyTest : public testing::Test {
 protected:
  void TearDown() override { ::unsetenv("NOTIFY_SOCKET"); }
};

TEST_F(SdNotifyTest, SendsToAPath) {
  const TempDir dir;
  const UniqueFd manager = listen_at(dir.path("notify"));
  EXPECT_TRUE(sd_notify("READY=1\nMAINPID=12"));
  EXPECT_EQ(received(manager), "READY=1\nMAINPID=12");
}

TEST_F(SdNotifyTest, SendsToAnAbstractName) {
  const UniqueFd manager = listen_at("@shell-test-" + std::to_string(::getpid()));
  EXPECT_TRUE(sd_notify("STOPPING=1"));
  EXPECT_EQ(received(manager), "STOPPING=1");
}

TEST_F(SdNotifyTest, DoesNothingWithoutAManager) {
  ::unsetenv("NOTIFY_SOCKET");
  EXPECT_FALSE(sd_notify("READY=1"));
}

TEST_F(SdNotifyTest, SaysThatAnAddressIsNoGood) {
  for (const std::string& name : {std::string(""), std::string("relative"),
                                  std::string("/nowhere/at/all"), "/" + std::string(200, 'x')}) {
    ::setenv("NOTIFY_SOCKET", name.c_str(), 1);
    EXPECT_FALSE(sd_notify("READY=1")) << name;
  }
}

}  // namespace
}  // namespace xenstored
