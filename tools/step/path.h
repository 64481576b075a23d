// SPDX-License-Identifier: MIT
/// The way of a server through its instructions, recorded once, and taken again up
/// to any of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "tools/step/symbols.h"
#include "tools/step/tracee.h"

namespace step {

/// Entries of functions, each 0 when there is none.
struct Marks {
  /// From the entry of the first to the last return from one of the second, or without
  /// any to the end, is the stretch that matters most.
  std::uint64_t commit = 0;
  std::vector<std::uint64_t> told;
  /// System calls that matter as much, with what is around them.
  std::vector<std::uint64_t> transfers;
  std::uint64_t write = 0;  ///< LMDB's part of a commit
  /// What calls that; when it returns, what was committed must not be lost any more.
  std::uint64_t whole_commit = 0;
  /// Executed as if they were one instruction: the stand-in hypervisor goes over all
  /// domids or ports there.
  std::vector<std::uint64_t> at_once;
  /// The same for calls of functions in these libraries.
  std::vector<AddressRange> foreign;
};

/// From one waiting call to the next, or from the program's entry to the first.
class Path {
 public:
  /// Steps to the end, which is before a waiting call, without work.
  static Path record(Tracee& tracee, Marks marks);

  /// Executed from the beginning to the end.
  std::size_t instructions() const { return pcs_.size() - 1; }
  /// The number of instructions after which LMDB's part of the first commit has returned,
  /// and all of it.
  std::optional<std::size_t> written() const { return written_; }
  std::optional<std::size_t> committed() const { return committed_; }
  /// Whether it is in the stretch that matters most, or near a transfer.
  bool is_dense(std::size_t count) const { return is_dense_[count]; }
  std::size_t dense_instructions() const;

  enum class Reached { kExactly, kNearly, kNot };
  /// Brings a tracee that stands at the beginning as far as `count` instructions; if that
  /// is in the first commit or past it then they are counted from there. Nearly: it went another
  /// way and stands elsewhere; not: it had nothing to do any more.
  Reached follow(Tracee& tracee, std::size_t count) const;

 private:
  /// Of one of the marked functions.
  struct Call {
    std::uint64_t function;
    std::uint64_t returns_to;
    std::size_t begin;
    std::optional<std::size_t> end;
  };

  explicit Path(Marks marks) : marks_(std::move(marks)) {}
  bool is_marked(std::uint64_t pc) const;
  void find_stages(const std::vector<Call>& calls);
  void find_dense(const std::vector<Call>& calls);
  void count_meetings();
  bool advance(Tracee& tracee) const;
  std::size_t best_stop(std::size_t start, std::size_t count) const;
  bool run_to(Tracee& tracee, std::size_t count) const;

  Marks marks_;
  std::vector<std::uint64_t> pcs_;
  /// How often each was met until then: on the whole path, or since the first commit began.
  std::vector<std::uint32_t> meetings_;
  std::optional<std::size_t> committing_;
  std::optional<std::size_t> written_;
  std::optional<std::size_t> committed_;
  std::vector<bool> is_dense_;
};

}  // namespace step
