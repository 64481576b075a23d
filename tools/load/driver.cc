// SPDX-License-Identifier: MIT
#include "tools/load/driver.h"

#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "tools/load/server_process.h"

namespace load {
namespace {

// A server that refuses everything would otherwise be asked millions of times.
constexpr std::uint64_t kErrorsMax = 1000;

std::uint64_t read_clock(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(time.tv_nsec);
}

std::uint64_t to_ns(double seconds) { return static_cast<std::uint64_t>(seconds * 1e9); }

std::string error_name_of(const Frame& reply) {
  if (!reply.is(xenstored::Op::kError)) return "WRONG_REPLY";
  return std::string(reply.payload.substr(0, reply.payload.find('\0')));
}

}  // namespace

std::uint64_t now_ns() { return read_clock(CLOCK_MONOTONIC); }

Driver::Driver(std::vector<Lane>& lanes, pid_t server, Guests* guests)
    : lanes_(lanes), server_(server), guests_(guests), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (epoll_ < 0) die("epoll_create1", errno);
  for (Lane& lane : lanes_) {
    by_connection_[lane.connection.get()] = &lane;
    const auto* socket = dynamic_cast<const SocketConnection*>(lane.connection.get());
    if (socket == nullptr) continue;
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = &lane;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, socket->fd(), &event) != 0) die("epoll_ctl", errno);
  }
}

Driver::~Driver() { close(epoll_); }

Outcome Driver::run(const Options& options) {
  options_ = options;
  start();
  while (on_their_way_ > 0) {
    const auto& ready = wait();
    const std::uint64_t now = now_ns();
    advance(now);
    for (Lane* lane : ready) serve(*lane, now);
  }
  if (phase_ != Phase::kDrain) end_measuring(now_ns());
  for (const Lane& lane : lanes_) outcome_.latency_ns.merge(lane.latency_ns);
  return outcome_;
}

void Driver::start() {
  outcome_ = {};
  begun_ = 0;
  for (Lane& lane : lanes_) {
    lane.latency_ns = {};
    lane.ops = 0;
  }
  started_ns_ = now_ns();
  phase_ = Phase::kWarmup;
  if (options_.ops != 0) begin_measuring(started_ns_);
  for (Lane& lane : lanes_) {
    for (unsigned i = 0; i < options_.inflight && may_begin(); ++i) begin(lane, now_ns());
    lane.connection->flush(lane.out);
  }
}

void Driver::advance(std::uint64_t now) {
  if (phase_ == Phase::kWarmup && now >= started_ns_ + to_ns(options_.warmup)) {
    begin_measuring(now);
  } else if (phase_ == Phase::kMeasure && options_.ops == 0 &&
             now >= measured_from_ns_ + to_ns(options_.seconds)) {
    end_measuring(now);
  }
}

void Driver::begin_measuring(std::uint64_t now) {
  phase_ = Phase::kMeasure;
  measured_from_ns_ = now;
  outcome_.server_cpu_ns = cpu_ns(server_);
  outcome_.client_cpu_ns = read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

void Driver::end_measuring(std::uint64_t now) {
  phase_ = Phase::kDrain;
  outcome_.seconds = static_cast<double>(now - measured_from_ns_) / 1e9;
  outcome_.server_cpu_ns = cpu_ns(server_) - outcome_.server_cpu_ns;
  outcome_.client_cpu_ns = read_clock(CLOCK_PROCESS_CPUTIME_ID) - outcome_.client_cpu_ns;
}

const std::vector<Lane*>& Driver::wait() {
  ready_.clear();
  if (guests_ != nullptr) {
    wait_for_guests();
  } else if (lanes_.size() == 1) {
    lanes_.front().connection->fill(/*wait=*/true);
    ready_.push_back(&lanes_.front());
  } else {
    wait_for_sockets();
  }
  return ready_;
}

void Driver::wait_for_sockets() {
  std::array<epoll_event, 64> events{};
  constexpr auto kPatienceMs = static_cast<int>(std::chrono::milliseconds(kPatience).count());
  const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), kPatienceMs);
  if (count == 0) die("no client got a reply for " + std::to_string(kPatience.count()) + " s");
  if (count < 0 && errno != EINTR) die("epoll_wait", errno);
  for (int i = 0; i < count; ++i) {
    auto* lane = static_cast<Lane*>(events[static_cast<std::size_t>(i)].data.ptr);
    lane->connection->fill(/*wait=*/false);
    ready_.push_back(lane);
  }
}

void Driver::wait_for_guests() {
  const auto& notified = guests_->wait(kPatience);
  if (notified.empty())
    die("no guest was notified for " + std::to_string(kPatience.count()) + " s");
  for (Connection* connection : notified) {
    const auto found = by_connection_.find(connection);
    if (found == by_connection_.end()) continue;  // a guest that only looks on
    connection->fill(/*wait=*/false);
    ready_.push_back(found->second);
  }
}

void Driver::serve(Lane& lane, std::uint64_t now) {
  while (const auto frame = lane.connection->next()) {
    if (frame->is(xenstored::Op::kWatchEvent)) {
      ++outcome_.events;
      continue;
    }
    if (frame->req_id != lane.next_reply_id++) die("a reply came out of order");
    const Step step = lane.session->on_reply(*frame, lane.out);
    if (step == Step::kMore) continue;
    note_end(lane, step, *frame, now);
    if (may_begin()) begin(lane, now);
  }
  if (!lane.out.bytes().empty()) lane.connection->flush(lane.out);
}

void Driver::begin(Lane& lane, std::uint64_t now) {
  ++begun_;
  ++on_their_way_;
  lane.begun_ns.push_back(now);
  lane.session->begin(lane.out);
}

void Driver::note_end(Lane& lane, Step step, const Frame& reply, std::uint64_t now) {
  const std::uint64_t begun = lane.begun_ns.front();
  lane.begun_ns.pop_front();
  --on_their_way_;
  if (step == Step::kWrong) return note_error(error_name_of(reply));
  if (phase_ == Phase::kMeasure) {
    ++outcome_.ops;
    ++lane.ops;
  }
  // What was still on its way at the end counts for latency: leaving it out would leave out the
  // slowest.
  if (phase_ != Phase::kWarmup) lane.latency_ns.add(now - begun);
}

void Driver::note_error(const std::string& name) {
  ++outcome_.errors;
  ++outcome_.error_names[name];
}

bool Driver::may_begin() const {
  if (phase_ == Phase::kDrain || outcome_.errors >= kErrorsMax) return false;
  return options_.ops == 0 || begun_ < options_.ops;
}

}  // namespace load
