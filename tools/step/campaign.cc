// SPDX-License-Identifier: MIT
#include "tools/step/campaign.h"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "tools/step/path.h"
#include "tools/step/symbols.h"

namespace step {
namespace {

/// A server that loops is given up after so long; to record a path takes seconds.
constexpr unsigned kAlarmSeconds = 120;

/// After so many instructions of that turn.
struct Point {
  std::size_t turn = 0;
  std::size_t count = 0;
};

class Campaign {
 public:
  Campaign(const CampaignOptions& options, Case& tried)
      : options_(options),
        case_(tried),
        program_(std::filesystem::path(options.world.binary).filename()) {}

  CaseResult requests();
  CaseResult recoveries();

 private:
  using Reached = Path::Reached;

  bool begin();
  void find_marks();
  bool record_turns();
  void record_undisturbed();
  std::vector<Point> request_points() const;
  bool try_request(const Point& point, bool act_while_dead);
  bool try_point(const Point& point);

  std::vector<Point> interrupted_points() const;
  Path record_recovery(const Point& interrupted);
  void try_recovery(const Point& interrupted, const Path& recovery, std::size_t count);
  void kill_recovering(const Path& recovery, std::size_t count);

  Tracee hold();
  Tracee start_held();
  Reached drive(Tracee& tracee, const Point& point);
  void kill(const Tracee& tracee);
  void interrupt(const Point& point);
  void finish(Killed killed);
  Killed killed_at(const Point& point, Reached reached) const;
  bool has_failed(const std::string& when);
  bool is_over() const { return result_.violations >= options_.violations_max; }

  const CampaignOptions& options_;
  Case& case_;
  const std::string program_;
  CaseResult result_;
  std::unique_ptr<World> world_;
  std::optional<Symbols> symbols_;
  Marks marks_;
  std::uint64_t main_ = 0;
  std::vector<Path> turns_;
  std::uint64_t killed_pc_ = 0;
};

bool Campaign::begin() {
  world_.reset();
  World::Options world = options_.world;
  world.has_keeper = case_.has_kept_sockets();
  world.is_hurried = case_.is_hurried();
  world_ = std::make_unique<World>(world);
  case_.set_up(*world_);
  killed_pc_ = 0;
  return !has_failed("before any request was stepped");
}

Tracee Campaign::hold() {
  alarm(kAlarmSeconds);
  case_.prepare(*world_);
  world_->wait_idle();
  return Tracee::of_waiting(world_->server().pid(), world_->wait_address());
}

/// From the request's arrival to the point, the guests acting between the turns.
Campaign::Reached Campaign::drive(Tracee& tracee, const Point& point) {
  case_.request(*world_);
  for (std::size_t turn = 0; world_->problem().empty() && tracee.end().empty();) {
    const bool did_act = world_->act();
    if (tracee.is_idle()) {
      if (!did_act) break;
      continue;
    }
    if (turn == point.turn) {
      return point.count == 0 ? Reached::kExactly : turns_[turn].follow(tracee, point.count);
    }
    do {
      tracee.run_to({tracee.wait_address()});
    } while (!tracee.is_idle());
    ++turn;
  }
  return Reached::kNot;
}

void Campaign::find_marks() {
  if (symbols_) return;
  symbols_.emplace(world_->server().pid());
  const auto find = [this](std::string_view file, std::string_view name) {
    return symbols_->find(file, name).value_or(0);
  };
  main_ = find(program_, "main");
  marks_.write = find("liblmdb", "mdb_txn_commit");
  marks_.whole_commit = find(program_, "journal::Journal::commit");
  for (const char* name : {"xc_domain_getinfo", "xc_domain_getinfolist", "xenevtchn_open"}) {
    marks_.at_once.push_back(find("libsimxen", name));
  }
  if (case_.has_kept_sockets()) {
    // What comes before LMDB's part: who is kept, and the new versions of those who are.
    marks_.commit = find(program_, "xenstored::Daemon::keep_clients");
    const std::uint64_t sends = find("libc", case_.is_hurried() ? "send" : "sendmmsg");
    const std::uint64_t receives = find("libc", case_.is_hurried() ? "recv" : "recvmmsg");
    marks_.told = {sends};
    marks_.transfers = {receives, sends};
    if (marks_.commit == 0 || sends == 0 || receives == 0) {
      world_->fail("its functions are not found, so what matters most is not known");
    }
  } else {
    marks_.commit = marks_.write;
    marks_.told = {find("libsimxen", "xenevtchn_notify")};
  }
}

void Campaign::record_undisturbed() {
  Tracee tracee = hold();
  find_marks();
  case_.request(*world_);
  while (world_->problem().empty() && tracee.end().empty()) {
    const bool did_act = world_->act();
    if (turns_.size() == case_.turns_max()) break;
    if (!tracee.is_idle()) {
      turns_.push_back(Path::record(tracee, marks_));
    } else if (!did_act) {
      break;
    }
  }
  if (!tracee.end().empty()) world_->fail("the server: " + tracee.end());
  tracee.detach();
  finish(Killed::kNever);
}

void Campaign::kill(const Tracee& tracee) {
  if (!tracee.end().empty()) world_->fail("the server: " + tracee.end());
  killed_pc_ = tracee.pc();
  world_->kill_server();
}

/// With the server running again.
void Campaign::finish(Killed killed) {
  case_.check(*world_, killed);
  world_->expect(world_->socket_call(Op::kControl, strings("check")) == strings("OK"),
                 "CONTROL check finds something wrong");
  alarm(0);
}

/// Where the request's own turn is the only one with a commit this is exact.
Killed Campaign::killed_at(const Point& point, Reached reached) const {
  const auto committed = turns_[point.turn].committed();
  const bool is_after = committed && point.count >= *committed && point.turn + 1 == turns_.size();
  return is_after && reached == Reached::kExactly ? Killed::kAfterCommit
                                                  : Killed::kPerhapsBeforeCommit;
}

bool Campaign::has_failed(const std::string& when) {
  if (world_->problem().empty()) return false;
  ++result_.violations;
  const std::string where =
      killed_pc_ == 0 || !symbols_ ? "" : ", killed at " + symbols_->describe(killed_pc_);
  std::printf("VIOLATION case %s, %s%s\n    %s\n    the server's last words:\n%s",
              std::string(case_.name()).c_str(), when.c_str(), where.c_str(),
              world_->problem().c_str(), world_->server().last_words().c_str());
  std::fflush(stdout);
  return true;
}

std::vector<Point> Campaign::request_points() const {
  std::vector<Point> points;
  for (std::size_t turn = 0; turn < turns_.size(); ++turn) {
    std::size_t next = 0;
    std::size_t next_dense = 0;
    for (std::size_t count = 0; count <= turns_[turn].instructions(); ++count) {
      const bool is_dense = turns_[turn].is_dense(count);
      if (count < options_.first || count > options_.last) continue;
      if (count < (is_dense ? next_dense : next)) continue;
      points.push_back({turn, count});
      next = count + options_.stride;
      next_dense = count + options_.dense_stride;
    }
  }
  return points;
}

/// Whether it was killed exactly there.
bool Campaign::try_request(const Point& point, bool act_while_dead) {
  Tracee tracee = hold();
  const Reached reached = drive(tracee, point);
  kill(tracee);
  if (act_while_dead) case_.act_while_dead(*world_);
  world_->server().start();
  finish(killed_at(point, reached));
  ++result_.kill_points;
  return reached == Reached::kExactly;
}

/// What comes after a commit's begin is tried again if the server went another way:
/// that depends on the commits before. True: the promises were kept.
bool Campaign::try_point(const Point& point) {
  constexpr int kTries = 4;
  const bool is_dense = turns_[point.turn].is_dense(point.count);
  if (is_dense) ++result_.dense_kill_points;
  for (int tries = 1;; ++tries) {
    const bool is_exact = try_request(point, result_.kill_points % 2 == 0);
    if (!world_->problem().empty()) return false;
    if (is_exact) return true;
    ++result_.strayed;
    if (is_dense && tries == kTries) ++result_.dense_missed;
    if (!is_dense || tries == kTries) return true;
  }
}

/// A server that is killed upon arrival of a request, recovers and executes it; then
/// the path of the next one, as they all will be. False: it does not even work undisturbed.
bool Campaign::record_turns() {
  if (!begin()) return false;
  interrupt({});
  world_->server().start();
  finish(Killed::kPerhapsBeforeCommit);
  if (has_failed("upon arrival of the request") && !begin()) return false;
  record_undisturbed();
  return !has_failed("not killed at all");
}

CaseResult Campaign::requests() {
  if (!record_turns()) return result_;
  result_.turns = turns_.size();
  for (const Path& turn : turns_) {
    result_.instructions += turn.instructions();
    result_.dense_instructions += turn.dense_instructions();
  }
  for (const Point& point : request_points()) {
    if (try_point(point)) continue;
    has_failed("turn " + std::to_string(point.turn) + " instruction " +
               std::to_string(point.count) + " of " +
               std::to_string(turns_[point.turn].instructions()));
    if (is_over() || !begin()) break;
  }
  return result_;
}

/// Not begun; written but perhaps not valid yet; committed but not told yet.
std::vector<Point> Campaign::interrupted_points() const {
  std::vector<Point> points{{0, 0}};
  const std::size_t last = turns_.size() - 1;
  if (turns_[last].written()) points.push_back({last, *turns_[last].written()});
  if (turns_[last].committed()) points.push_back({last, *turns_[last].committed()});
  return points;
}

void Campaign::interrupt(const Point& point) {
  Tracee tracee = hold();
  drive(tracee, point);
  kill(tracee);
}

/// Held before main(), unless its program does not tell where that is.
Tracee Campaign::start_held() {
  alarm(kAlarmSeconds);
  Tracee tracee = world_->server().start_held(world_->wait_address());
  if (main_ != 0) tracee.run_to({main_});
  return tracee;
}

Path Campaign::record_recovery(const Point& interrupted) {
  interrupt(interrupted);
  Tracee tracee = start_held();
  Marks marks = marks_;
  marks.foreign = symbols_->all_but({program_, "liblmdb", "libsimxen"});
  Path path = Path::record(tracee, std::move(marks));
  if (!tracee.end().empty()) world_->fail("the server: " + tracee.end());
  tracee.detach();
  finish(Killed::kPerhapsBeforeCommit);
  return path;
}

void Campaign::kill_recovering(const Path& recovery, std::size_t count) {
  Tracee tracee = start_held();
  if (recovery.follow(tracee, count) != Reached::kExactly) ++result_.strayed;
  kill(tracee);
}

void Campaign::try_recovery(const Point& interrupted, const Path& recovery, std::size_t count) {
  interrupt(interrupted);
  kill_recovering(recovery, count);
  if (++result_.kill_points % 2 == 0) {
    constexpr std::size_t kFarAway = 7919;
    kill_recovering(recovery, count * kFarAway % recovery.instructions());
    ++result_.double_kills;
    case_.act_while_dead(*world_);
  }
  world_->server().start();
  finish(Killed::kPerhapsBeforeCommit);
}

CaseResult Campaign::recoveries() {
  if (!record_turns()) return result_;
  for (const Point& interrupted : interrupted_points()) {
    const Path recovery = record_recovery(interrupted);
    if (has_failed("while it recovers, not killed")) return result_;
    result_.instructions += recovery.instructions();
    for (std::size_t count = 0; count <= recovery.instructions();
         count += options_.recovery_stride) {
      try_recovery(interrupted, recovery, count);
      if (!has_failed("while it recovers, instruction " + std::to_string(count) + " of " +
                      std::to_string(recovery.instructions()))) {
        continue;
      }
      if (is_over() || !begin()) return result_;
    }
  }
  return result_;
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

CaseResult run_requests(const CampaignOptions& options, Case& tried) {
  const auto start = Clock::now();
  CaseResult result = Campaign(options, tried).requests();
  result.seconds = seconds_since(start);
  return result;
}

CaseResult run_recoveries(const CampaignOptions& options, Case& tried) {
  const auto start = Clock::now();
  CaseResult result = Campaign(options, tried).recoveries();
  result.seconds = seconds_since(start);
  return result;
}

}  // namespace step
