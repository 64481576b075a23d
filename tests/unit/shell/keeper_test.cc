// SPDX-License-Identifier: MIT
/// The shell as it is started by hand or by scripts, around a stand-in server
/// (standin_server.cc). The test adopts orphans, so it sees daemons end.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/shell/temp_dir.h"
#include "xenstored/options.h"
#include "xenstored/unique_fd.h"

namespace xenstored {
namespace {

using std::chrono::steady_clock;
using namespace std::chrono_literals;
using Args = std::vector<std::string>;

bool eventually(const std::function<bool()>& holds) {
  const auto deadline = steady_clock::now() + 20s;
  while (!holds()) {
    if (steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(1ms);
  }
  return true;
}

class KeeperTest : public testing::Test {
 protected:
  void SetUp() override {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    ::setenv("XENSTORED_RUNDIR", dir_.path().c_str(), 1);
    std::filesystem::create_directory(dir_.path("area"));
  }
  // Whatever this test left alive is our child by now, or its child; keepers go
  // first or they would restart their servers.
  void TearDown() override {
    for (const std::string& file : {pid_file_, server_pid_file_}) {
      const pid_t pid = pid_in(file);
      if (pid > 0 && pid != ::getpid()) ::kill(pid, SIGKILL);
    }
    for (const pid_t pid : started_) ::kill(pid, SIGKILL);
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    ::unsetenv("XENSTORED_RUNDIR");
  }

  /// Starts the command; what it says is in out_.
  pid_t start(Args arguments, const std::string& binary = STANDIN_SERVER) {
    arguments.insert(arguments.begin(),
                     {binary, "-D", "--log", dir_.path("log"), "--pid-file", pid_file_});
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
      const UniqueFd out(::open(out_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
      ::dup2(out.get(), STDOUT_FILENO);
      ::dup2(out.get(), STDERR_FILENO);
      ::execv(binary.c_str(), argv.data());
      ::_exit(127);
    }
    started_.push_back(child);
    return child;
  }

  /// Exit code of one of our children; 128 + signal if it was killed.
  int end_of(pid_t child) {
    int status = 0;
    if (::waitpid(child, &status, 0) != child) return -1;
    std::erase(started_, child);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }
  int run(const Args& arguments) { return end_of(start(arguments)); }

  /// Connects (at once: a refusal is an error) and sends a command.
  std::string ask(char command) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socket_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const timeval patience{20, 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
      return "no connection";
    }
    if (::send(fd.get(), &command, 1, MSG_NOSIGNAL) != 1) return "not sent";
    char answer[32];
    const ssize_t size = ::read(fd.get(), answer, sizeof(answer));
    return size <= 0 ? "no answer" : std::string(answer, static_cast<std::size_t>(size));
  }
  pid_t serving_pid() { return std::atoi(ask('p').c_str()); }

  static pid_t pid_in(const std::string& file) { return std::atoi(contents(file).c_str()); }
  /// The pid of the server once it is another than `old`, and serves.
  pid_t server_after(pid_t old) {
    EXPECT_TRUE(eventually([&] {
      const pid_t now = pid_in(server_pid_file_);
      return now > 0 && now != old;
    }));
    return pid_in(server_pid_file_);
  }
  std::ptrdiff_t starts() {
    const std::string text = contents(dir_.path("area/starts"));
    return std::ranges::count(text, '\n');
  }
  void set_start(const std::string& how) { put(dir_.path("area/start"), how); }
  bool is_clean() {
    return !std::filesystem::exists(socket_) && !std::filesystem::exists(pid_file_) &&
           !std::filesystem::exists(server_pid_file_);
  }
  /// Stops a daemonised keeper and sees it end well.
  void stop_daemon() {
    const pid_t keeper = pid_in(pid_file_);
    ASSERT_GT(keeper, 0);
    ::kill(keeper, SIGTERM);
    EXPECT_EQ(end_of(keeper), 0);
    EXPECT_TRUE(is_clean());
  }

  TempDir dir_;
  const std::string socket_ = dir_.path("socket");
  const std::string pid_file_ = dir_.path("pid");
  const std::string server_pid_file_ = dir_.path("xenstored-server.pid");
  const std::string out_ = dir_.path("out");
  std::vector<pid_t> started_;
};

TEST_F(KeeperTest, DaemonIsServingWhenTheCommandReturns) {
  ASSERT_EQ(run({"-P"}), 0) << contents(out_);
  const pid_t server = serving_pid();
  EXPECT_GT(server, 0);
  EXPECT_EQ(pid_in(server_pid_file_), server);
  EXPECT_EQ(contents(out_), contents(pid_file_));
  EXPECT_NE(pid_in(pid_file_), server);
  EXPECT_EQ(std::filesystem::read_symlink("/proc/" + std::to_string(server) + "/cwd"), "/");
  for (const pid_t pid : {server, pid_in(pid_file_)}) {
    EXPECT_EQ(std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/fd/2"), "/dev/null");
  }
  stop_daemon();
}

TEST_F(KeeperTest, ClientsOfADyingServerAreServedByTheNext) {
  ASSERT_EQ(run({}), 0) << contents(out_);
  pid_t server = serving_pid();
  for (int i = 0; i < 20; ++i) {
    ::kill(server, SIGKILL);
    // A client accepted in the very instant of death is lost; the next is not.
    std::string answer = ask('p');
    if (answer == "no answer") answer = ask('p');
    const pid_t next = std::atoi(answer.c_str());
    ASSERT_GT(next, 0) << answer;
    ASSERT_EQ(server_after(server), next);
    server = next;
  }
  stop_daemon();
  EXPECT_THAT(contents(dir_.path("log")), testing::HasSubstr("killed by signal 9 (SIGKILL)"));
  EXPECT_THAT(contents(dir_.path("log")), testing::HasSubstr("(restart 20)"));
}

TEST_F(KeeperTest, EveryUnexpectedEndIsFollowedByARestart) {
  ASSERT_EQ(run({}), 0) << contents(out_);
  pid_t server = serving_pid();
  for (const char command : {'s', 'x'}) {
    EXPECT_EQ(ask(command), "no answer");
    server = server_after(server);
  }
  ::kill(server, SIGTERM);
  server = server_after(server);
  EXPECT_EQ(serving_pid(), server);
  EXPECT_THAT(contents(dir_.path("log")), testing::HasSubstr("exited with code 7"));
  stop_daemon();
}

TEST_F(KeeperTest, RefusedStartIsNotRetried) {
  set_start("refuse");
  EXPECT_EQ(run({}), kExitRefused);
  EXPECT_EQ(starts(), 1);
  EXPECT_TRUE(is_clean());
  EXPECT_EQ(run({"-N", "--supervise"}), kExitRefused);
  EXPECT_EQ(run({"-N"}), kExitRefused);
  EXPECT_TRUE(is_clean());
}

// Guests wait, and what the server refuses (a format, say) can be put right.
TEST_F(KeeperTest, RefusedRestartIsTriedAgain) {
  ASSERT_EQ(run({}), 0);
  const pid_t server = pid_in(server_pid_file_);
  set_start("refuse");
  ::kill(server, SIGKILL);
  ASSERT_TRUE(eventually([&] { return starts() >= 4; }));
  set_start("well");
  EXPECT_EQ(serving_pid(), server_after(server));
  stop_daemon();
}

TEST_F(KeeperTest, ServerThatNeverServesIsGivenUp) {
  set_start("die");
  EXPECT_EQ(run({}), kExitFailed);
  EXPECT_EQ(starts(), 8);
  EXPECT_TRUE(is_clean());
  EXPECT_THAT(contents(out_), testing::HasSubstr("could not be started"));
}

TEST_F(KeeperTest, ServerThatServedOnceIsRetriedWithPauses) {
  ASSERT_EQ(run({}), 0);
  const pid_t server = pid_in(server_pid_file_);
  set_start("die");
  const auto before = steady_clock::now();
  ::kill(server, SIGKILL);
  // One start by the command, then at once, at once, and after 10, 20, 40, 80 ms.
  ASSERT_TRUE(eventually([&] { return starts() >= 7; }));
  EXPECT_GE(steady_clock::now() - before, 150ms);
  set_start("well");
  EXPECT_EQ(serving_pid(), server_after(server));
  stop_daemon();
}

TEST_F(KeeperTest, StopDuringAPauseIsImmediate) {
  ASSERT_EQ(run({}), 0);
  set_start("die");
  ::kill(pid_in(server_pid_file_), SIGKILL);
  ASSERT_TRUE(eventually([&] { return starts() >= 4; }));
  stop_daemon();
}

TEST_F(KeeperTest, ServerOutlivesItsKeeperAndKeepsOthersAway) {
  ASSERT_EQ(run({}), 0);
  const pid_t keeper = pid_in(pid_file_);
  const pid_t server = serving_pid();
  ::kill(keeper, SIGKILL);
  EXPECT_EQ(end_of(keeper), 128 + SIGKILL);
  EXPECT_EQ(serving_pid(), server);

  EXPECT_EQ(run({}), kExitRefused);
  EXPECT_THAT(contents(out_), testing::HasSubstr("another xenstored"));
  EXPECT_EQ(run({"-N"}), kExitRefused);
  EXPECT_EQ(pid_in(pid_file_), keeper);
  EXPECT_EQ(serving_pid(), server);

  ::kill(server, SIGKILL);
  EXPECT_EQ(end_of(server), 128 + SIGKILL);
  ASSERT_EQ(run({}), 0) << contents(out_);
  EXPECT_NE(serving_pid(), server);
  stop_daemon();
}

TEST_F(KeeperTest, SecondStartIsRefusedAndTheFirstGoesOn) {
  ASSERT_EQ(run({}), 0);
  const pid_t server = serving_pid();
  for (const Args& arguments : {Args{}, Args{"-N"}, Args{"-N", "--supervise"}}) {
    EXPECT_EQ(run(arguments), kExitRefused);
    EXPECT_EQ(serving_pid(), server);
  }
  stop_daemon();
}

TEST_F(KeeperTest, PlainForegroundServerIsOneProcess) {
  const pid_t server = start({"-N", "-P"});
  EXPECT_EQ(server_after(0), server);
  EXPECT_EQ(serving_pid(), server);
  EXPECT_EQ(pid_in(pid_file_), server);
  EXPECT_EQ(run({"-N"}), kExitRefused);
  EXPECT_EQ(serving_pid(), server);
  ::kill(server, SIGTERM);
  EXPECT_EQ(end_of(server), 0);
  EXPECT_TRUE(is_clean());
}

TEST_F(KeeperTest, PlainForegroundServerStartsAfterAKill) {
  const pid_t first = start({"-N"});
  ASSERT_EQ(server_after(0), first);
  ::kill(first, SIGKILL);
  EXPECT_EQ(end_of(first), 128 + SIGKILL);
  const pid_t second = start({"-N"});
  EXPECT_EQ(server_after(first), second);
  EXPECT_EQ(serving_pid(), second);
  EXPECT_EQ(pid_in(pid_file_), second);
}

TEST_F(KeeperTest, ForegroundKeeperStopsOnEitherSignal) {
  for (const int signal : {SIGTERM, SIGINT}) {
    const pid_t keeper = start({"-N", "--supervise"});
    const pid_t server = server_after(0);
    EXPECT_NE(server, keeper);
    EXPECT_EQ(pid_in(pid_file_), keeper);
    ::kill(keeper, signal);
    EXPECT_EQ(end_of(keeper), 0);
    EXPECT_TRUE(is_clean());
    EXPECT_EQ(::kill(server, 0), -1);
  }
}

TEST_F(KeeperTest, HangUpIsPassedOn) {
  ASSERT_EQ(run({}), 0);
  ::kill(pid_in(pid_file_), SIGHUP);
  EXPECT_TRUE(eventually([&] { return ask('h') == "1"; }));
  stop_daemon();
}

TEST_F(KeeperTest, ManagerHearsOfTheKeeperAsMainProcess) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = dir_.path("notify");
  name.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const UniqueFd manager(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  ASSERT_EQ(::bind(manager.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ::setenv("NOTIFY_SOCKET", name.c_str(), 1);
  const int exit_code = run({});
  ::unsetenv("NOTIFY_SOCKET");
  ASSERT_EQ(exit_code, 0);
  const auto received = [&] {
    char text[128];
    const ssize_t size = ::recv(manager.get(), text, sizeof(text), 0);
    return std::string(text, static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
  };
  EXPECT_EQ(received(), "READY=1\nMAINPID=" + std::to_string(pid_in(pid_file_)));
  stop_daemon();
  EXPECT_EQ(received(), "STOPPING=1");
}

// A package upgrade puts a new file in the place of the program.
TEST_F(KeeperTest, RestartTakesUpAReplacedProgramAndDoesWithoutARemovedOne) {
  const std::string binary = dir_.path("xenstored");
  std::filesystem::copy_file(STANDIN_SERVER, binary);
  ASSERT_EQ(end_of(start({}, binary)), 0) << contents(out_);
  std::filesystem::copy_file(STANDIN_SERVER, binary + ".new");
  std::filesystem::rename(binary + ".new", binary);

  pid_t server = pid_in(server_pid_file_);
  const auto program_of = [](pid_t pid) {
    return std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/exe").string();
  };
  EXPECT_EQ(program_of(server), binary + " (deleted)");
  ::kill(server, SIGKILL);
  server = server_after(server);
  EXPECT_EQ(program_of(server), binary);

  std::filesystem::remove(binary);
  ::kill(server, SIGKILL);
  EXPECT_EQ(serving_pid(), server_after(server));
  stop_daemon();
}

TEST_F(KeeperTest, MistakeOnTheCommandLineIsARefusal) {
  EXPECT_EQ(run({"-E", "x"}), kExitRefused);
  EXPECT_THAT(contents(out_), testing::HasSubstr("--entry-nb"));
  EXPECT_EQ(run({"positional"}), kExitRefused);
  EXPECT_EQ(run({"--kept=90,91,92,93,94,/"}), kExitRefused);
  EXPECT_EQ(run({"--help"}), 0);
  EXPECT_THAT(contents(out_), testing::HasSubstr("Usage: xenstored"));
}

}  // namespace
}  // namespace xenstored
