// SPDX-License-Identifier: MIT
#include "tools/crash/server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <utility>

namespace crash {
namespace {

constexpr std::chrono::seconds kPatience{10};

Descriptor open_pidfd(pid_t pid) {
  return Descriptor(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

void signal_pidfd(int pidfd, int signal) {
  ::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0);
}

/// A pidfd becomes readable when its process ends.
bool wait_readable(int fd, Milliseconds limit) {
  pollfd wanted{fd, POLLIN, 0};
  return ::poll(&wanted, 1, static_cast<int>(limit.count())) > 0;
}

void rest() { std::this_thread::sleep_for(Microseconds{200}); }

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

Server::~Server() { stop(); }

Status Server::start(const std::vector<std::string>& environment) {
  reap();
  const pid_t child = ::fork();
  if (child < 0) return failure(std::string("fork: ") + std::strerror(errno));
  if (child == 0) run_child(environment);
  child_ = child;
  child_fd_ = open_pidfd(child);
  if (child_fd_.get() < 0) return failure(std::string("pidfd_open: ") + strerror(errno));
  return {};
}

void Server::run_child(const std::vector<std::string>& environment) const {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  const std::string log = options_.directory + "/server.log";
  const int fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0 || ::dup2(fd, 1) < 0 || ::dup2(fd, 2) < 0) ::_exit(126);

  std::vector<std::string> variables = options_.environment;
  variables.insert(variables.end(), environment.begin(), environment.end());
  variables.push_back("XENSTORED_RUNDIR=" + options_.directory);
  for (std::string& variable : variables) ::putenv(variable.data());

  std::vector<std::string> words = {options_.binary, "-N"};
  if (!options_.has_rings) words.emplace_back("-D");
  if (options_.closes_clients) words.emplace_back("--close-clients");
  if (options_.has_keeper) {
    words.emplace_back("--supervise");
  } else {
    words.insert(words.end(), {"--pid-file", options_.directory + "/xenstored.pid"});
  }
  words.insert(words.end(), options_.arguments.begin(), options_.arguments.end());
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(options_.binary.c_str(), argv.data());
  ::_exit(127);
}

bool Server::has_ended() { return wait_readable(child_fd_.get(), Milliseconds{0}); }

store::Result<Connection, std::string> Server::wait_served() {
  const auto deadline = Clock::now() + kPatience;
  while (Clock::now() < deadline) {
    std::optional<Connection> connection = Connection::open(socket_path());
    if (connection) {
      connection->queue(path_request(Op::kRead, "/"));
      connection->flush();
      pollfd wanted{connection->fd(), POLLIN, 0};
      while (::poll(&wanted, 1, 100) == 0 && Clock::now() < deadline && !has_ended()) {
      }
      if (connection->receive() && connection->next()) return std::move(*connection);
    }
    if (has_ended()) return failure(obituary());
    rest();
  }
  return failure("nobody answered for ten seconds:\n" + log());
}

std::optional<pid_t> Server::read_pid_file() const {
  std::ifstream file(options_.directory + "/xenstored-server.pid");
  pid_t pid = 0;
  if (!(file >> pid) || pid <= 0) return {};
  return pid;
}

Status Server::find_server() {
  if (!options_.has_keeper) {
    serving_ = child_;
    serving_fd_ = open_pidfd(child_);
    return {};
  }
  const auto deadline = Clock::now() + kPatience;
  while (Clock::now() < deadline) {
    const std::optional<pid_t> pid = read_pid_file();
    if (pid && *pid != serving_) {
      Descriptor pidfd = open_pidfd(*pid);
      // The same number after the pidfd was taken: it is that process.
      if (pidfd.get() >= 0 && !wait_readable(pidfd.get(), Milliseconds{0}) &&
          read_pid_file() == pid) {
        serving_ = *pid;
        serving_fd_ = std::move(pidfd);
        return {};
      }
    }
    rest();
  }
  return failure("no new process in " + options_.directory + "/xenstored-server.pid:\n" + log());
}

std::jthread Server::kill_after(Microseconds delay) {
  const auto instant = Clock::now() + delay;
  return std::jthread([this, instant, pidfd = serving_fd_.get()] {
    ::prctl(PR_SET_TIMERSLACK, 1UL);
    std::this_thread::sleep_until(instant);
    killed_at_ = Clock::now();
    signal_pidfd(pidfd, SIGKILL);
    killed_by_ = Clock::now();
  });
}

bool Server::wait_dead(Milliseconds limit) const { return wait_readable(serving_fd_.get(), limit); }

void Server::reap() {
  if (child_ > 0) ::waitpid(child_, &status_, 0);
  child_ = -1;
}

bool Server::was_killed() {
  reap();
  return WIFSIGNALED(status_) && WTERMSIG(status_) == SIGKILL;
}

std::string Server::log() const {
  std::ifstream file(options_.directory + "/server.log");
  const std::string all{std::istreambuf_iterator<char>(file), {}};
  constexpr std::size_t kShown = 2000;
  return all.size() > kShown ? all.substr(all.size() - kShown) : all;
}

std::string Server::obituary() {
  reap();
  const std::string how = WIFEXITED(status_) ? "exit code " + std::to_string(WEXITSTATUS(status_))
                                             : "signal " + std::to_string(WTERMSIG(status_));
  return "the server ended by itself (" + how + "):\n" + log();
}

void Server::stop() {
  if (child_ <= 0) return;
  signal_pidfd(child_fd_.get(), SIGTERM);
  if (!wait_readable(child_fd_.get(), Milliseconds{5000})) {
    signal_pidfd(child_fd_.get(), SIGKILL);
    if (serving_ != child_ && serving_fd_.get() >= 0) signal_pidfd(serving_fd_.get(), SIGKILL);
  }
  reap();
}

}  // namespace crash
