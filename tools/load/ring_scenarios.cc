// SPDX-License-Identifier: MIT
#include "tools/load/ring_scenarios.h"

#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <set>

#include "tools/load/bench.h"
#include "tools/load/node_sessions.h"
#include "tools/load/report.h"
#include "tools/load/server_process.h"

namespace load {
namespace {

using xenstored::Op;
using namespace std::string_view_literals;

double ms_between(std::uint64_t from_ns, std::uint64_t to_ns) {
  return static_cast<double>(to_ns - from_ns) / 1e6;
}

std::string node_path(const Options& options, unsigned client, std::uint64_t node) {
  return directory_of(options, client) + "/" + std::to_string(node);
}

/// Writes nodes 0 to `each` - 1 of every client, numbered through in their values.
class FillSession : public Session {
 public:
  FillSession(const Options& options, std::uint64_t each) : options_(options), each_(each) {}

  void begin(Outbox& out) override {
    const auto client = static_cast<unsigned>(next_ / each_);
    out.add(Op::kWrite, 0, {node_path(options_, client, next_ % each_), kNul, ten_digits(next_)});
    ++next_;
  }
  Step on_reply(const Frame& reply, Outbox& /*out*/) override {
    return is_ok(reply, Op::kWrite) ? Step::kDone : Step::kWrong;
  }

 private:
  const Options& options_;
  std::uint64_t each_;
  std::uint64_t next_ = 0;
};

/// Gives each guest a directory with `each` nodes; all of it is the guest's.
void fill_directories(Bench& bench, const Options& options, std::uint64_t each) {
  for (unsigned client = 0; client < options.clients; ++client) {
    bench.write(directory_of(options, client), "");
    bench.let(directory_of(options, client), "r" + std::to_string(domid_of(client)));
  }
  std::vector<Lane> lanes;
  lanes.emplace_back(std::make_unique<SocketConnection>(options.socket),
                     std::make_unique<FillSession>(options, each));
  Options setup = options;
  setup.ops = options.clients * each;
  setup.inflight = kSetupInflight;
  if (Driver(lanes, 0, nullptr).run(setup).errors > 0) die("setting up: WRITE was refused");
}

/// A guest that asks for one of its nodes after each kill.
struct Asker {
  std::unique_ptr<Connection> connection;
  Outbox out;
  std::uint32_t asked = 0;     ///< requests so far: also the id of the next
  std::uint32_t answered = 0;  ///< replies so far
};

class RingRestart {
 public:
  explicit RingRestart(const Options& options)
      : options_(options), each_(options.nodes / options.clients), bench_(options) {
    if (each_ == 0) die("restart: at least one node for each guest");
    fill_directories(bench_, options, each_);
    for (unsigned client = 0; client < options.clients; ++client) {
      askers_.push_back({.connection = bench_.connect(client), .out = {}});
      by_connection_[askers_.back().connection.get()] = client;
    }
  }

  void run();

 private:
  void kill_once(unsigned number);
  void ask_all(std::uint64_t node);
  /// Until every guest has its answer, which must be of `node`. When each came.
  std::vector<double> take_answers(std::uint64_t node, std::uint64_t since_ns);
  bool take_answer(unsigned client, std::uint64_t node);
  Json describe_all();

  const Options& options_;
  std::uint64_t each_;
  Bench bench_;
  std::vector<Asker> askers_;
  std::map<const Connection*, unsigned> by_connection_;
  pid_t server_ = 0;
  std::uint64_t wrong_ = 0;
  std::vector<double> all_ms_;    ///< of each kill: until the last ring had its reply
  std::vector<double> first_ms_;  ///< of each kill: until one ring had
  std::vector<double> ring_ms_;   ///< of each ring and kill
  std::vector<double> cpu_ms_;    ///< of each kill: what the new server has used by then
};

void RingRestart::run() {
  server_ = server_pid_from_file(options_.socket);
  if (server_ == 0) die("restart needs a supervised server (xenstored-server.pid)");
  ask_all(0);  // every page is in place, on both sides
  take_answers(0, now_ns());
  for (unsigned i = 0; i < options_.kills; ++i) {
    sleep_for(options_.pause);
    kill_once(i);
  }
  print(describe_all());
}

/// The guests ask without waiting for anything: they do not know that nobody listens.
void RingRestart::kill_once(unsigned number) {
  const std::uint64_t node = each_ * (number + 1) / (options_.kills + 1);
  const std::uint64_t killed = now_ns();
  if (kill(server_, SIGKILL) != 0) die("kill", errno);
  ask_all(node);
  const std::vector<double> ms = take_answers(node, killed);
  all_ms_.push_back(ms.back());
  first_ms_.push_back(ms.front());
  ring_ms_.insert(ring_ms_.end(), ms.begin(), ms.end());
  server_ = wait_for_successor(options_.socket, server_);
  cpu_ms_.push_back(static_cast<double>(cpu_ns(server_)) / 1e6);
  // Once more: now a reply that was sent twice would show.
  ask_all(0);
  take_answers(0, now_ns());
}

void RingRestart::ask_all(std::uint64_t node) {
  for (unsigned client = 0; client < options_.clients; ++client) {
    Asker& asker = askers_[client];
    asker.out.add(Op::kRead, 0, {node_path(options_, client, node), kNul});
    ++asker.asked;
    asker.connection->flush(asker.out);
  }
}

std::vector<double> RingRestart::take_answers(std::uint64_t node, std::uint64_t since_ns) {
  std::vector<double> ms;
  while (ms.size() < askers_.size()) {
    const auto& notified = bench_.guests()->wait(kPatience);
    if (notified.empty()) {
      die(std::to_string(askers_.size() - ms.size()) + " rings got no reply for " +
          std::to_string(kPatience.count()) + " s");
    }
    for (Connection* connection : notified) {
      connection->fill(/*wait=*/false);
      if (take_answer(by_connection_.at(connection), node)) {
        ms.push_back(ms_between(since_ns, now_ns()));
      }
    }
  }
  return ms;
}

/// Whether there was one; anything else that has come is wrong.
bool RingRestart::take_answer(unsigned client, std::uint64_t node) {
  Asker& asker = askers_[client];
  bool is_answered = false;
  while (const auto frame = asker.connection->next()) {
    if (asker.answered == asker.asked || frame->req_id != asker.answered) {
      ++wrong_;
      continue;
    }
    ++asker.answered;
    is_answered = true;
    if (!frame->is(Op::kRead) || frame->payload != ten_digits(client * each_ + node)) ++wrong_;
  }
  return is_answered;
}

double quantile(std::vector<double> values, double at) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(at * static_cast<double>(values.size() - 1))];
}

Json RingRestart::describe_all() {
  Json line;
  line["scenario"] = options_.scenario;
  line["guests"] = options_.clients;
  line["nodes"] = options_.clients * (each_ + 1) + 2;
  line["kills"] = options_.kills;
  line["answer_ms"] = all_ms_;
  line["answer_ms_p50"] = quantile(all_ms_, 0.5);
  line["answer_ms_max"] = quantile(all_ms_, 1);
  line["first_ring_ms_p50"] = quantile(first_ms_, 0.5);
  line["ring_ms_p50"] = quantile(ring_ms_, 0.5);
  line["server_cpu_ms"] = cpu_ms_;
  line["server_cpu_ms_p50"] = quantile(cpu_ms_, 0.5);
  line["server_anon_kib"] = memory_of(server_).anon_kib;
  line["errors"] = wrong_;
  return line;
}

/// Domain 0's kernel, which watches the others die.
class Mourner {
 public:
  Mourner(Bench& bench, unsigned domains)
      : guests_(*bench.guests()), ring_(guests_.connect(0)), domains_(domains) {
    ask_ok(Op::kWatch, {"@releaseDomain", kNul, "any", kNul});
    // With a depth the event says which domain. Xen 4.17 does not know it.
    const Frame reply = ring_->ask(Op::kWatch, {"@releaseDomain", kNul, "each", kNul, "1", kNul});
    knows_depth_ = is_ok(reply, Op::kWatch);
    drain();
    any_ = 0;
    told_.clear();
  }
  ~Mourner() {
    ask_ok(Op::kUnwatch, {"@releaseDomain", kNul, "any", kNul});
    if (knows_depth_) ask_ok(Op::kUnwatch, {"@releaseDomain", kNul, "each", kNul});
  }
  Mourner(const Mourner&) = delete;
  Mourner& operator=(const Mourner&) = delete;

  bool knows_depth() const { return knows_depth_; }
  /// Until all it can be told of was told, or nothing has come for a while.
  void wait_for_all();
  std::size_t domains_told() const { return told_.size(); }
  std::uint64_t any_told() const { return any_; }
  /// Events of a domain told before, or of one there never was.
  std::uint64_t strange() const { return strange_; }
  /// How many of the domains the server still knows. Events come before replies
  /// that are asked for after them: from then on there will be none.
  unsigned still_introduced();

 private:
  void ask_ok(Op op, std::initializer_list<std::string_view> parts) {
    if (!is_ok(ring_->ask(op, parts), op)) die("watching @releaseDomain: refused");
  }
  void drain();
  void note(const Frame& event);

  Guests& guests_;
  std::unique_ptr<Connection> ring_;
  unsigned domains_;
  bool knows_depth_ = false;
  std::uint64_t any_ = 0;
  std::set<std::string, std::less<>> told_;
  std::uint64_t strange_ = 0;
};

void Mourner::wait_for_all() {
  constexpr std::chrono::seconds kSilence{2};
  while (knows_depth_ ? told_.size() < domains_ || any_ == 0 : any_ == 0) {
    if (guests_.wait(kSilence).empty()) return;
    ring_->fill(/*wait=*/false);
    drain();
  }
}

void Mourner::drain() {
  while (const auto frame = ring_->next()) {
    if (frame->is(Op::kWatchEvent)) note(*frame);
  }
}

void Mourner::note(const Frame& event) {
  const std::string_view path = event.payload.substr(0, event.payload.find('\0'));
  if (event.payload.ends_with("\0any\0"sv)) {
    ++any_;
    return;
  }
  const std::string_view domid = path.substr(std::min(path.size(), path.find('/')));
  if (!told_.emplace(domid).second) ++strange_;
}

unsigned Mourner::still_introduced() {
  unsigned known = 0;
  for (unsigned client = 0; client < domains_; ++client) {
    Outbox out;
    out.add(Op::kIsDomainIntroduced, 0, {std::to_string(domid_of(client)), kNul});
    ring_->flush(out);
    for (bool is_answered = false; !is_answered;) {
      ring_->fill(/*wait=*/true);
      while (const auto frame = ring_->next()) {
        if (frame->is(Op::kWatchEvent)) {
          note(*frame);
          continue;
        }
        is_answered = true;
        if (frame->payload != "F\0"sv) ++known;
      }
    }
  }
  return known;
}

}  // namespace

void run_ring_restart(const Options& options) { RingRestart(options).run(); }

void run_deaths(const Options& options) {
  Bench bench(options);
  fill_directories(bench, options, options.nodes);
  std::vector<std::unique_ptr<Connection>> rings;
  for (unsigned client = 0; client < options.clients; ++client) {
    rings.push_back(bench.connect(client));
    const Frame reply =
        rings.back()->ask(Op::kWatch, {directory_of(options, client), kNul, "own", kNul});
    if (!is_ok(reply, Op::kWatch)) die("setting up: WATCH was refused");
  }
  Mourner mourner(bench, options.clients);
  const std::uint64_t cpu_before = cpu_ns(bench.server());
  const std::uint64_t from = now_ns();
  bench.guests()->destroy_all();
  mourner.wait_for_all();
  const std::uint64_t told = now_ns();
  const std::uint64_t cpu = cpu_ns(bench.server()) - cpu_before;
  const unsigned left = mourner.still_introduced();

  Json line;
  line["scenario"] = options.scenario;
  line["domains"] = options.clients;
  line["nodes"] = options.nodes;
  // With the machine's own work, which the server's cannot be told from on one core.
  line["told_ms"] = ms_between(from, told);
  line["server_cpu_us_per_domain"] = static_cast<double>(cpu) / 1e3 / options.clients;
  line["events"] = mourner.any_told();
  if (mourner.knows_depth()) line["domains_told"] = mourner.domains_told();
  line["still_introduced"] = left;
  line["nodes_left"] = bench.count_children(root_of(options));
  line["errors"] = mourner.strange();
  line["ok"] = left == 0 && line["nodes_left"] == 0 && mourner.any_told() > 0 &&
               (!mourner.knows_depth() || mourner.domains_told() == options.clients);
  print(line);
  bench.remove(root_of(options));
}

}  // namespace load
