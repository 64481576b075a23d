// SPDX-License-Identifier: MIT
#include "tools/step/keeper.h"

#include <sys/ptrace.h>
#include <sys/wait.h>

#include <csignal>

namespace step {
namespace {

/// A process that is traced, or our own child. -1: none.
void end(pid_t pid) {
  if (pid <= 0) return;
  kill(pid, SIGKILL);
  int status = 0;
  while (waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status)) {
  }
}

}  // namespace

Keeper::Keeper(pid_t pid, const std::function<void()>& let_start) : pid_(pid) {
  ptrace(PTRACE_SEIZE, pid_, nullptr, PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK);
  let_start();
}

Keeper::~Keeper() { end(pid_); }

/// False: it has ended, or an alarm has interrupted us.
bool Keeper::await_stop() {
  int status = 0;
  if (pid_ < 0 || waitpid(pid_, &status, __WALL) != pid_) return false;
  if (!WIFSTOPPED(status)) {
    pid_ = -1;
    return false;
  }
  event_ = status >> 16;
  signal_ = event_ == 0 ? WSTOPSIG(status) : 0;
  return true;
}

/// With the signal for which it stands, if that is the reason.
void Keeper::go_on() { ptrace(PTRACE_CONT, pid_, nullptr, signal_); }

bool Keeper::has_child() const {
  return event_ == PTRACE_EVENT_VFORK || event_ == PTRACE_EVENT_FORK;
}

/// Of a keeper that stands where it has made another process; that one stands too.
pid_t Keeper::take_child() {
  unsigned long child = 0;
  ptrace(PTRACE_GETEVENTMSG, pid_, nullptr, &child);
  const auto pid = static_cast<pid_t>(child);
  int status = 0;
  return waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status) ? pid : -1;
}

void Keeper::hold() {
  if (is_held_) return;
  ptrace(PTRACE_INTERRUPT, pid_, nullptr, nullptr);
  while (await_stop() && event_ != PTRACE_EVENT_STOP) {
    // Its server has ended by itself, and it is about to start another.
    if (has_child()) end(take_child());
    go_on();
  }
  is_held_ = true;
}

pid_t Keeper::start_server() {
  if (is_held_) go_on();
  is_held_ = false;
  while (await_stop()) {
    const pid_t child = has_child() ? take_child() : -1;
    go_on();
    if (child > 0) return child;
  }
  return -1;
}

}  // namespace step
