// SPDX-License-Identifier: MIT
/// A server under ptrace, with one thread, whose addresses are not randomized: it
/// is moved on by instructions and to addresses, and knows the one place where
/// servers wait for events.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>

namespace step {

/// Tells whether a process waits for events, without stopping it.
class WaitProbe {
 public:
  explicit WaitProbe(pid_t pid);
  ~WaitProbe();
  WaitProbe(const WaitProbe&) = delete;
  WaitProbe& operator=(const WaitProbe&) = delete;

  /// Where its system call instruction is, while it sleeps in epoll_wait or poll; none
  /// when it does anything else.
  std::optional<std::uint64_t> waiting_at() const;
  /// The same, while it waits without a limit in time.
  std::optional<std::uint64_t> waiting_for_good_at() const;

 private:
  struct Call;
  std::optional<Call> waiting() const;

  int fd_;
};

class Tracee {
 public:
  /// Takes hold of a process that sleeps in its waiting call at `wait_address`. It
  /// stands before that call then, as if it had not been made.
  static Tracee of_waiting(pid_t pid, std::uint64_t wait_address);
  /// Of a child that executes its program once `let_start` was called; it stands before
  /// the program's own first instruction, its libraries loaded. `wait_address`: where
  /// the same program has waited before.
  static Tracee of_starting(pid_t pid, std::uint64_t wait_address,
                            const std::function<void()>& let_start);

  /// The same of a process that is traced and stands before it executes its program.
  static Tracee of_forked(pid_t pid, std::uint64_t wait_address);

  // A process that does not come to a stop is given up when a signal interrupts the
  // caller: it sets an alarm.

  /// One instruction.
  void step();
  /// Until it is about to execute one of these, after one instruction at least.
  void run_to(std::initializer_list<std::uint64_t> addresses);
  /// Goes on if there is work, and is then behind its waiting call. True: there is none,
  /// and it stands before the call. To be asked when is_before_wait().
  bool is_idle();

  /// Lets it go on by itself.
  void detach();

  bool is_before_wait() const { return pc_ == wait_address_; }
  std::uint64_t wait_address() const { return wait_address_; }
  std::uint64_t pc() const { return pc_; }
  /// How long the instruction is if it is one that repeats itself, each time with a trap,
  /// as in copying; else 0.
  std::uint64_t repeating_bytes() const;
  /// The word on top of the stack: where a function just entered will return to.
  std::uint64_t stack_top() const;
  /// Empty, or what happened to it that it did not expect: then nothing moves it any more.
  const std::string& end() const { return end_; }

 private:
  Tracee(pid_t pid, std::uint64_t wait_address) : pid_(pid), wait_address_(wait_address) {}
  std::uint64_t entry() const;
  std::uint64_t peek(std::uint64_t address) const;
  void resume(int request);
  bool await_stop(int flags);
  void read_pc();
  void set_pc(std::uint64_t address);
  bool has_timeout() const;
  void seize(int options);
  void run_to_entry();
  void stand_before_wait();

  pid_t pid_;
  std::uint64_t wait_address_;
  std::uint64_t pc_ = 0;
  std::string end_;
};

}  // namespace step
