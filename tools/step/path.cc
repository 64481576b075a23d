// SPDX-License-Identifier: MIT
#include "tools/step/path.h"

#include <algorithm>
#include <unordered_map>

namespace step {

namespace {

bool is_in(const std::vector<AddressRange>& ranges, std::uint64_t address) {
  return std::ranges::any_of(ranges, [address](const AddressRange& range) {
    return address >= range.begin && address < range.end;
  });
}

bool is_one_of(const std::vector<std::uint64_t>& addresses, std::uint64_t address) {
  return std::ranges::find(addresses, address) != addresses.end();
}

}  // namespace

/// One instruction; at the waiting call, none if it has no work. False then.
bool Path::advance(Tracee& tracee) const {
  if (tracee.is_before_wait()) return !tracee.is_idle();
  const std::uint64_t before = tracee.pc();
  if (is_one_of(marks_.at_once, before)) {
    tracee.run_to({tracee.stack_top()});
  } else if (const std::uint64_t bytes = tracee.repeating_bytes()) {
    tracee.run_to({before + bytes});
  } else {
    tracee.step();
    const bool has_called = is_in(marks_.foreign, tracee.pc()) && !is_in(marks_.foreign, before);
    if (has_called) tracee.run_to({tracee.stack_top(), tracee.wait_address()});
  }
  return tracee.end().empty();
}

Path Path::record(Tracee& tracee, Marks marks) {
  Path path(std::move(marks));
  std::vector<Call> calls;
  do {
    const std::size_t count = path.pcs_.size();
    const std::uint64_t pc = tracee.pc();
    path.pcs_.push_back(pc);
    for (Call& call : calls) {
      if (!call.end && pc == call.returns_to) call.end = count;
    }
    if (path.is_marked(pc)) calls.push_back({pc, tracee.stack_top(), count, {}});
  } while (path.advance(tracee));
  path.find_stages(calls);
  path.find_dense(calls);
  path.count_meetings();
  return path;
}

bool Path::is_marked(std::uint64_t pc) const {
  return pc == marks_.commit || pc == marks_.write || pc == marks_.whole_commit ||
         is_one_of(marks_.told, pc) || is_one_of(marks_.transfers, pc);
}

void Path::find_stages(const std::vector<Call>& calls) {
  for (const Call& call : calls) {
    if (call.function == marks_.commit && !committing_) committing_ = call.begin;
    if (call.function == marks_.write && !written_) written_ = call.end;
    const bool is_whole = call.function == marks_.whole_commit && written_ && call.end > written_;
    if (is_whole && !committed_) committed_ = call.end;
  }
}

void Path::find_dense(const std::vector<Call>& calls) {
  constexpr std::size_t kAround = 400;
  is_dense_.resize(pcs_.size());
  const auto mark = [this](std::size_t first, std::size_t last) {
    for (std::size_t at = first; at <= std::min(last, instructions()); ++at) is_dense_[at] = true;
  };
  std::optional<std::size_t> told;
  for (const Call& call : calls) {
    if (is_one_of(marks_.told, call.function) && call.end) told = call.end;
    if (!is_one_of(marks_.transfers, call.function)) continue;
    mark(call.begin - std::min(call.begin, kAround), call.end.value_or(call.begin) + kAround);
  }
  if (committing_) mark(*committing_, told.value_or(instructions()));
}

std::size_t Path::dense_instructions() const {
  return static_cast<std::size_t>(std::ranges::count(is_dense_, true));
}

void Path::count_meetings() {
  std::unordered_map<std::uint64_t, std::uint32_t> met;
  for (std::size_t count = 0; count < pcs_.size(); ++count) {
    if (count == committing_) met.clear();
    meetings_.push_back(++met[pcs_[count]]);
  }
}

/// The instruction from which it is the least work to step on to that one. In a loop
/// it is one that comes once a round.
std::size_t Path::best_stop(std::size_t start, std::size_t count) const {
  constexpr std::size_t kFarthest = 2000;
  constexpr std::size_t kTrapsAMeeting = 3;
  std::size_t best = start;
  std::size_t best_cost = count - start;
  for (std::size_t stop = count; stop > start && count - stop < kFarthest; --stop) {
    const std::size_t cost = kTrapsAMeeting * meetings_[stop] + count - stop;
    if (cost >= best_cost) continue;
    best = stop;
    best_cost = cost;
  }
  return best;
}

/// To where that instruction is met as often as on the record. False: it becomes idle before.
bool Path::run_to(Tracee& tracee, std::size_t count) const {
  const std::uint64_t place = pcs_[count];
  for (std::uint32_t left = meetings_[count]; left > 0;) {
    tracee.run_to({place, tracee.wait_address()});
    if (!tracee.end().empty()) return false;
    if (tracee.pc() == place) {
      --left;
    } else if (tracee.is_idle()) {
      return false;
    }
  }
  return true;
}

Path::Reached Path::follow(Tracee& tracee, std::size_t count) const {
  std::size_t at = 0;
  if (committing_ && count >= *committing_) {
    if (!run_to(tracee, *committing_)) return Reached::kNot;
    at = *committing_;
  }
  if (const std::size_t stop = best_stop(at, count); stop != at) {
    if (!run_to(tracee, stop)) return Reached::kNot;
    at = stop;
  }
  for (; at < count; ++at) {
    if (!advance(tracee)) return Reached::kNot;
  }
  return tracee.pc() == pcs_[count] ? Reached::kExactly : Reached::kNearly;
}

}  // namespace step
