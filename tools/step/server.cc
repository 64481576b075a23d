// SPDX-License-Identifier: MIT
#include "tools/step/server.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>

namespace step {
namespace {

/// Readable when the process has ended.
int open_pidfd(pid_t pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }

}  // namespace

int milliseconds_until(Clock::time_point deadline) {
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::max<long>(left, 0));
}

Server::~Server() { kill(); }

void Server::start() {
  if (options_.has_keeper) {
    start_by_keeper();
    ptrace(PTRACE_DETACH, pid_, nullptr, nullptr);
  } else {
    close(fork_gated());
  }
}

Tracee Server::start_held(std::uint64_t wait_address) {
  if (options_.has_keeper) {
    start_by_keeper();
    return Tracee::of_forked(pid_, wait_address);
  }
  const int gate = fork_gated();
  return Tracee::of_starting(pid_, wait_address, [&] { close(gate); });
}

/// Through its keeper, which is started before if there is none: the server's process,
/// traced, before it executes its program.
void Server::start_by_keeper() {
  if (!keeper_) {
    const int gate = fork_gated();
    close(pid_fd_);
    keeper_ = std::make_unique<Keeper>(pid_, [&] { close(gate); });
  }
  pid_ = keeper_->start_server();
  pid_fd_ = open_pidfd(pid_);
}

/// A child that executes the program when the file returned is closed.
int Server::fork_gated() {
  std::array<int, 2> gate{};
  if (pipe2(gate.data(), O_CLOEXEC) != 0) std::abort();
  pid_ = fork();
  if (pid_ == 0) {
    close(gate[1]);
    run_child(gate[0]);
  }
  close(gate[0]);
  pid_fd_ = open_pidfd(pid_);
  return gate[1];
}

/// `gate`: a pipe whose end is waited for before the program is executed.
void Server::run_child(int gate) const {
  prctl(PR_SET_PDEATHSIG, options_.has_keeper ? SIGTERM : SIGKILL);  // a keeper ends its server
  personality(ADDR_NO_RANDOMIZE);
  const std::string log = options_.directory + "/server.log";
  const int fd = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0) _exit(126);
  const std::string run = options_.directory + "/run";
  setenv("SIMXEN", (options_.directory + "/machine").c_str(), 1);
  setenv("LD_PRELOAD", options_.preload.c_str(), 1);
  setenv("LD_BIND_NOW", "1", 1);  // no way through an instruction depends on what was called before
  setenv("XENSTORED_RUNDIR", run.c_str(), 1);
  setenv("XENSTORED_ROOTDIR", run.c_str(), 1);  // where Debian's keeps its database
  char byte = 0;
  if (read(gate, &byte, 1) != 0) _exit(126);
  const std::string pid_file = options_.directory + "/pid";
  execl(options_.binary.c_str(), options_.binary.c_str(), "-N", "--pid-file", pid_file.c_str(),
        "--entry-size", "4096", options_.has_keeper ? "--supervise" : nullptr,
        options_.is_hurried ? "--sure-rate=0" : nullptr, nullptr);
  _exit(127);
}

std::optional<std::uint64_t> Server::wait_idle(Clock::time_point deadline) const {
  const WaitProbe probe(pid_);
  for (;;) {
    if (const auto address = probe.waiting_at()) return address;
    if (has_ended() || Clock::now() > deadline) return {};
    sched_yield();
  }
}

std::optional<std::uint64_t> Server::wait_quiet(Clock::time_point deadline) const {
  const WaitProbe probe(pid_);
  const WaitProbe keeper(keeper_ ? keeper_->pid() : pid_);
  for (;;) {
    const auto address = probe.waiting_for_good_at();
    if (address && keeper.waiting_at()) return address;
    if (has_ended() || Clock::now() > deadline) return {};
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void Server::kill() {
  if (keeper_) keeper_->hold();
  if (pid_ <= 0) return;
  syscall(SYS_pidfd_send_signal, pid_fd_, SIGKILL, nullptr, 0);
  int status = 0;
  while (waitpid(pid_, &status, __WALL) == pid_ && WIFSTOPPED(status)) {
  }
  pollfd death{pid_fd_, POLLIN, 0};  // of a keeper's child
  poll(&death, 1, -1);
  close(pid_fd_);
  pid_ = -1;
}

bool Server::has_ended() const {
  pollfd death{pid_fd_, POLLIN, 0};
  return pid_ <= 0 || poll(&death, 1, 0) > 0;
}

std::size_t Server::files_of_keeper() const {
  if (!keeper_) return 0;
  const std::filesystem::directory_iterator files("/proc/" + std::to_string(keeper_->pid()) +
                                                  "/fd");
  return static_cast<std::size_t>(std::distance(begin(files), end(files)));
}

std::string Server::last_words() const {
  std::ifstream file(options_.directory + "/server.log");
  const std::string all{std::istreambuf_iterator<char>(file), {}};
  constexpr std::size_t kShown = 1000;
  const std::size_t from = all.size() > kShown ? all.find('\n', all.size() - kShown) + 1 : 0;
  return all.substr(from);
}

}  // namespace step
