// SPDX-License-Identifier: MIT
#include "tools/step/tracee.h"

#include <elf.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <vector>

namespace step {
namespace {

constexpr std::uint64_t kSyscallBytes = 2;
constexpr std::uint64_t kBreakpoint = 0xCC;

bool waits_for_events(long call) {
  return call == SYS_epoll_wait || call == SYS_epoll_pwait || call == SYS_poll || call == SYS_ppoll;
}

}  // namespace

WaitProbe::WaitProbe(pid_t pid)
    : fd_(open(("/proc/" + std::to_string(pid) + "/syscall").c_str(), O_RDONLY | O_CLOEXEC)) {}

WaitProbe::~WaitProbe() { close(fd_); }

struct WaitProbe::Call {
  std::uint64_t address;
  bool has_timeout;
};

std::optional<WaitProbe::Call> WaitProbe::waiting() const {
  std::array<char, 256> line{};
  if (pread(fd_, line.data(), line.size() - 1, 0) <= 0) return {};
  long call = -1;
  std::uint64_t third = 0;
  std::uint64_t fourth = 0;
  std::uint64_t pc = 0;
  if (std::sscanf(line.data(), "%ld %*s %*s %lx %lx %*s %*s %*s %lx", &call, &third, &fourth,
                  &pc) != 4) {
    return {};
  }
  if (!waits_for_events(call)) return {};
  const auto timeout = static_cast<int>(call == SYS_poll ? third : fourth);
  return Call{pc - kSyscallBytes, timeout != -1};
}

std::optional<std::uint64_t> WaitProbe::waiting_at() const {
  const auto call = waiting();
  return call ? std::optional(call->address) : std::nullopt;
}

std::optional<std::uint64_t> WaitProbe::waiting_for_good_at() const {
  const auto call = waiting();
  return call && !call->has_timeout ? std::optional(call->address) : std::nullopt;
}

Tracee Tracee::of_waiting(pid_t pid, std::uint64_t wait_address) {
  Tracee tracee(pid, wait_address);
  tracee.seize(PTRACE_O_EXITKILL);
  if (tracee.end_.empty()) tracee.stand_before_wait();
  return tracee;
}

Tracee Tracee::of_starting(pid_t pid, std::uint64_t wait_address,
                           const std::function<void()>& let_start) {
  Tracee tracee(pid, wait_address);
  tracee.seize(PTRACE_O_EXITKILL | PTRACE_O_TRACEEXEC);
  let_start();
  tracee.run_to_entry();
  return tracee;
}

Tracee Tracee::of_forked(pid_t pid, std::uint64_t wait_address) {
  Tracee tracee(pid, wait_address);
  ptrace(PTRACE_SETOPTIONS, pid, nullptr, PTRACE_O_EXITKILL | PTRACE_O_TRACEEXEC);
  tracee.resume(PTRACE_CONT);
  tracee.run_to_entry();
  return tracee;
}

/// Of a process that is about to execute its program.
void Tracee::run_to_entry() {
  if (end_.empty() && await_stop(0)) run_to({entry()});
}

void Tracee::seize(int options) {
  if (ptrace(PTRACE_SEIZE, pid_, nullptr, options) == 0) return;
  end_ = std::string("it cannot be traced: ") + std::strerror(errno);
}

std::uint64_t Tracee::peek(std::uint64_t address) const {
  return static_cast<std::uint64_t>(ptrace(PTRACE_PEEKDATA, pid_, address, nullptr));
}

void Tracee::read_pc() {
  constexpr std::size_t kPlace = offsetof(user_regs_struct, rip);
  pc_ = static_cast<std::uint64_t>(ptrace(PTRACE_PEEKUSER, pid_, kPlace, nullptr));
}

void Tracee::set_pc(std::uint64_t address) {
  ptrace(PTRACE_POKEUSER, pid_, offsetof(user_regs_struct, rip), address);
  pc_ = address;
}

/// False: it goes on (only with WNOHANG), or has ended.
bool Tracee::await_stop(int flags) {
  int status = 0;
  const pid_t who = waitpid(pid_, &status, __WALL | flags);
  if (who == 0) return false;
  if (who < 0) {
    end_ = errno == EINTR ? "it went on and on" : std::strerror(errno);
  } else if (WIFEXITED(status)) {
    end_ = "it ended with exit code " + std::to_string(WEXITSTATUS(status));
  } else if (WIFSIGNALED(status)) {
    end_ = "it was ended by signal " + std::to_string(WTERMSIG(status));
  } else if (WSTOPSIG(status) != SIGTRAP) {
    end_ = "it got signal " + std::to_string(WSTOPSIG(status));
  }
  return end_.empty();
}

void Tracee::resume(int request) {
  ptrace(static_cast<__ptrace_request>(request), pid_, nullptr, nullptr);
}

void Tracee::step() {
  if (!end_.empty()) return;
  resume(PTRACE_SINGLESTEP);
  if (await_stop(0)) read_pc();
}

void Tracee::run_to(std::initializer_list<std::uint64_t> addresses) {
  step();  // off the place where it stands: there may be one of the breakpoints
  for (const std::uint64_t address : addresses) {
    if (pc_ == address) return;
  }
  if (!end_.empty()) return;
  std::vector<std::uint64_t> covered;
  for (const std::uint64_t address : addresses) {
    covered.push_back(peek(address));
    ptrace(PTRACE_POKETEXT, pid_, address, (covered.back() & ~std::uint64_t{0xFF}) | kBreakpoint);
  }
  resume(PTRACE_CONT);
  if (!await_stop(0)) return;
  // The last planted first: their words may overlap.
  for (std::size_t i = covered.size(); i-- > 0;) {
    ptrace(PTRACE_POKETEXT, pid_, addresses.begin()[i], covered[i]);
  }
  read_pc();
  set_pc(pc_ - 1);
}

/// Of the waiting call that it is about to make.
bool Tracee::has_timeout() const {
  user_regs_struct regs{};
  ptrace(PTRACE_GETREGS, pid_, nullptr, &regs);
  switch (static_cast<long>(regs.rax)) {
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
      return static_cast<int>(regs.r10) != 0;
    case SYS_poll:
      return static_cast<int>(regs.rdx) != 0;
    default:
      return true;
  }
}

bool Tracee::is_idle() {
  if (!end_.empty()) return true;
  const std::uint64_t behind = wait_address_ + kSyscallBytes;
  if (!has_timeout()) {
    step();
    return false;
  }
  const std::uint64_t covered = peek(behind);
  ptrace(PTRACE_POKETEXT, pid_, behind, (covered & ~std::uint64_t{0xFF}) | kBreakpoint);
  resume(PTRACE_CONT);
  const WaitProbe probe(pid_);
  while (!await_stop(WNOHANG)) {
    if (!end_.empty()) return true;
    if (probe.waiting_at() == wait_address_) {
      stand_before_wait();
      ptrace(PTRACE_POKETEXT, pid_, behind, covered);
      return true;
    }
    sched_yield();
  }
  ptrace(PTRACE_POKETEXT, pid_, behind, covered);
  set_pc(behind);
  return false;
}

/// Stops it in its waiting call, and undoes that call.
void Tracee::stand_before_wait() {
  ptrace(PTRACE_INTERRUPT, pid_, nullptr, nullptr);
  if (!await_stop(0)) return;
  user_regs_struct regs{};
  ptrace(PTRACE_GETREGS, pid_, nullptr, &regs);
  regs.rip = wait_address_;
  regs.rax = regs.orig_rax;
  regs.orig_rax = ~std::uint64_t{0};  // or the kernel would restart it as well
  ptrace(PTRACE_SETREGS, pid_, nullptr, &regs);
  pc_ = wait_address_;
}

void Tracee::detach() { ptrace(PTRACE_DETACH, pid_, nullptr, nullptr); }

std::uint64_t Tracee::repeating_bytes() const {
  const std::uint64_t code = peek(pc_);
  const auto byte = [code](unsigned at) { return code >> (8 * at) & 0xFF; };
  if (byte(0) != 0xF2 && byte(0) != 0xF3) return 0;
  const unsigned at = (byte(1) & 0xF0) == 0x40 ? 2 : 1;  // behind a prefix for 64 bits
  const std::uint64_t operation = byte(at);
  const bool is_string =
      (operation >= 0xA4 && operation <= 0xA7) || (operation >= 0xAA && operation <= 0xAF);
  return is_string ? at + 1 : 0;
}

std::uint64_t Tracee::stack_top() const {
  constexpr std::size_t kPlace = offsetof(user_regs_struct, rsp);
  return peek(static_cast<std::uint64_t>(ptrace(PTRACE_PEEKUSER, pid_, kPlace, nullptr)));
}

std::uint64_t Tracee::entry() const {
  std::ifstream file("/proc/" + std::to_string(pid_) + "/auxv", std::ios::binary);
  std::array<std::uint64_t, 2> pair{};
  while (file.read(reinterpret_cast<char*>(pair.data()), sizeof pair)) {
    if (pair[0] == AT_ENTRY) return pair[1];
  }
  return 0;
}

}  // namespace step
