// SPDX-License-Identifier: MIT
#include "tools/crash/ring_traffic.h"

#include <algorithm>
#include <array>
#include <cstdlib>

namespace crash {
namespace {

constexpr std::array<std::size_t, 6> kWindows = {1, 2, 4, 8, 16, 24};
constexpr std::uint64_t kEpochLength = 6;
constexpr std::size_t kInnerMax = 3;
/// So that each change has some watchers, however many clients there are.
constexpr std::size_t kWatchedMax = 10;
constexpr std::size_t kAbandonedMax = 3;
constexpr std::size_t kSmallValue = 60;
/// So many long replies are asked for in a row now and then: more than the server
/// keeps in a connection's record.
constexpr unsigned kBurst = 16;
/// What fits into a guest's node for certain, with its record (quota node-size).
constexpr std::size_t kGuestValue = 1900;
constexpr std::uint64_t kForeignDomids = 2000;  ///< none of them is introduced

std::uint32_t id_in(const Frame& frame) {
  return static_cast<std::uint32_t>(std::strtoul(frame.payload.c_str(), nullptr, 10));
}

/// A node that is there from the beginning, with a value as large as may be.
std::string large_path(const RingIdentity& identity) { return identity.data() + "/L"; }

/// A watch on "@releaseDomain" that tells which domain it was, where that is offered.
Request special_watch(std::string_view path, bool is_precise) {
  Request request = watch_request(Op::kWatch, path, path.substr(1));
  if (is_precise) request.payload += std::string("1\0", 2);
  return request;
}

}  // namespace

Request large_question(const RingIdentity& identity) {
  return path_request(Op::kRead, large_path(identity));
}

std::vector<Request> opening_requests(const RingIdentity& identity) {
  const std::string& top = identity.feed->top();
  const std::string owner = identity.creator.empty() ? "0" : identity.creator;
  std::vector<Request> requests = {path_request(Op::kMkdir, identity.data()),
                                   path_request(Op::kMkdir, top),
                                   set_perms_request(top, {"r" + owner})};
  if (identity.creator.empty() && identity.has_watches) {
    requests.push_back(special_watch("@releaseDomain", identity.is_precise));
    requests.push_back(special_watch("@introduceDomain", identity.is_precise));
  }
  return requests;
}

RandomRingTraffic::RandomRingTraffic(RingIdentity identity, const Feeds& feeds, std::uint64_t seed,
                                     std::string tag)
    : identity_(std::move(identity)), feeds_(feeds), random_(seed), tag_(std::move(tag)) {
  for (Request& request : opening_requests(identity_)) script_.push_back(std::move(request));
  const std::size_t size = is_guest() ? kGuestValue : xenstored::kPayloadMax;
  script_.push_back(write_request(large_path(identity_), std::string(size - kSmallValue, 'L')));
  add_watches();
}

void RandomRingTraffic::add_watches() {
  if (!identity_.has_watches) return;
  script_.push_back(watch_request(Op::kWatch, shown(identity_.data()), fresh_token()));
  script_.push_back(watch_request(Op::kWatch, shown(identity_.feed->top()), fresh_token()));
}

void RandomRingTraffic::restarted() {
  window_ = kWindows[below(kWindows.size())];
  phase_ = Phase::kIdle;
  planned_.clear();
  script_.clear();
  abandoned_.clear();
  watched_.clear();
  inner_.clear();
  old_epochs_.clear();
  ++epoch_;
  in_epoch_ = 0;
  add_watches();
}

// What the last stream left without an answer is known now and can be removed.
void RandomRingTraffic::settled(const Tree& tree) {
  window_ = kWindows[below(kWindows.size())];
  const auto top = tree.find(identity_.feed->top());
  if (top == tree.end()) return;
  old_epochs_.clear();
  const std::string current = "e" + std::to_string(epoch_);
  for (const std::string& name : top->second.children) {
    if (name != current) old_epochs_.push_back(top->first + "/" + name);
  }
}

// A guest may leave out its home.
std::string RandomRingTraffic::shown(const std::string& path) {
  if (!is_guest() || !one_in(2)) return path;
  return path.substr(identity_.home.size() + 1);
}

std::string RandomRingTraffic::some_path() {
  std::string path = identity_.data() + "/" + "abcd"[below(4)];
  if (one_in(3)) return path;
  path = path + "/" + "efg"[below(3)];
  if (one_in(2)) return path;
  return path + "/" + "hi"[below(2)];
}

std::string RandomRingTraffic::fresh_token() { return tag_ + "w" + std::to_string(++tokens_); }

std::string RandomRingTraffic::fresh_value(bool may_be_refused) {
  constexpr std::size_t kWhole = xenstored::kPayloadMax - kSmallValue;
  std::string value = "v" + tag_ + "." + std::to_string(++values_) + ".";
  std::size_t size = below(kSmallValue);
  if (one_in(20)) size = is_guest() ? kGuestValue - below(900) : kWhole - below(3000);
  if (one_in(60)) size = is_guest() && !may_be_refused ? kGuestValue : kWhole;
  while (value.size() < size) value.push_back(static_cast<char>(random_()));
  return value;
}

std::vector<std::string> RandomRingTraffic::some_perms() {
  const std::string owner = is_guest() ? identity_.creator : "0";
  std::vector<std::string> perms = {"nrwb"[below(4)] + owner};
  for (std::uint64_t more = below(4); more > 0; --more)
    perms.push_back("nrwb"[below(4)] + std::to_string(1 + below(kForeignDomids)));
  return perms;
}

std::optional<Request> RandomRingTraffic::next(const RingModel& model, RingMode mode) {
  if (!script_.empty()) {
    Request request = std::move(script_.front());
    script_.pop_front();
    return request;
  }
  if (mode == RingMode::kSilent) return {};
  if (mode == RingMode::kFeedOnly) {
    const std::string node = "/n" + std::to_string(++in_epoch_);
    return write_request(identity_.feed->top() + "/e" + std::to_string(epoch_) + node,
                         fresh_value(false));
  }
  if (phase_ == Phase::kIdle) return idle_request(model);
  if (phase_ == Phase::kInside && !one_in(6)) {
    Request request = std::move(planned_.front());
    planned_.pop_front();
    if (is_counting_ && request.op == Op::kRead) phase_ = Phase::kCounting;
    if (planned_.empty() && phase_ == Phase::kInside) {
      phase_ = Phase::kIdle;
      if (will_abandon_) abandoned_.push_back(tx_);
    }
    return request;
  }
  return free_request(model);
}

// While a transaction is open: nothing that it asks about.
std::optional<Request> RandomRingTraffic::free_request(const RingModel& model) {
  if (!one_in(8)) return {};
  return one_in(2) ? publish() : one_in(2) ? foreign_read(model) : question();
}

std::optional<Request> RandomRingTraffic::idle_request(const RingModel& model) {
  if (burst_ > 0) return --burst_, large_question(identity_);
  const std::uint64_t dice = below(100);
  if (one_in(50)) burst_ = kBurst;
  if (dice < 30) return private_request(0);
  if (dice < 40) return question();
  if (dice < 60) return publish();
  if (dice < 72) return foreign_read(model);
  if (dice < 80) return watch_something();
  if (dice < 84 && !abandoned_.empty()) return abandoned_request(model);
  if (dice == 84 && one_in(6) && is_guest()) return start_over();
  phase_ = Phase::kStarting;
  return start_request();
}

Request RandomRingTraffic::private_request(std::uint32_t tx) {
  const std::uint64_t dice = below(16);
  const std::string path = shown(some_path());
  if (dice < 7) return write_request(path, fresh_value(tx == 0), tx);
  if (dice < 10) return path_request(Op::kMkdir, path, tx);
  if (dice < 13) return path_request(Op::kRm, path, tx);
  return set_perms_request(path, some_perms(), tx);
}

Request RandomRingTraffic::question() {
  const std::uint64_t dice = below(8);
  const std::string path = shown(some_path());
  if (dice < 3) return path_request(Op::kRead, path);
  if (dice < 4) return path_request(Op::kGetPerms, path);
  if (dice < 6) return path_request(Op::kDirectory, one_in(2) ? identity_.data() : path);
  return directory_part_request(one_in(2) ? identity_.data() : some_path(), 0);
}

Request RandomRingTraffic::publish() {
  const std::string& top = identity_.feed->top();
  if (!old_epochs_.empty() && one_in(4)) {
    const std::string path = old_epochs_.front();
    old_epochs_.pop_front();
    return path_request(Op::kRm, path);
  }
  if (in_epoch_ == kEpochLength) {
    old_epochs_.push_back(top + "/e" + std::to_string(epoch_));
    ++epoch_;
    in_epoch_ = 0;
  }
  const std::string node = "/n" + std::to_string(++in_epoch_);
  return write_request(top + "/e" + std::to_string(epoch_) + node, fresh_value(false));
}

Request RandomRingTraffic::watch_something() {
  if (!identity_.has_watches) return question();
  if (one_in(5)) {
    if (inner_.size() >= kInnerMax) {
      const auto [path, token] = inner_.back();
      inner_.pop_back();
      return watch_request(Op::kUnwatch, path, token);
    }
    inner_.emplace_back(shown(some_path()), fresh_token());
    return watch_request(Op::kWatch, inner_.back().first, inner_.back().second);
  }
  auto feed = feeds_.begin();
  std::advance(feed, static_cast<std::ptrdiff_t>(below(feeds_.size())));
  auto leaving = std::find_if(watched_.begin(), watched_.end(), [&](const auto& entry) {
    const auto known = feeds_.find(entry.first);
    return known == feeds_.end() || known->second->has_ended() || (known == feed && one_in(4));
  });
  if (leaving == watched_.end() && watched_.size() >= kWatchedMax &&
      !watched_.contains(feed->first)) {
    leaving = watched_.lower_bound(feed->first);
    if (leaving == watched_.end()) leaving = watched_.begin();
  }
  if (leaving != watched_.end()) {
    Request request = watch_request(Op::kUnwatch, leaving->first, leaving->second);
    watched_.erase(leaving);
    return request;
  }
  if (feed->second == identity_.feed || watched_.contains(feed->first)) return question();
  watched_[feed->first] = fresh_token();
  return watch_request(Op::kWatch, feed->first, watched_[feed->first]);
}

Request RandomRingTraffic::foreign_read(const RingModel& model) {
  std::vector<const Feed*> watched;
  for (const auto& [token, watch] : model.watches()) {
    if (watch.feed != nullptr) watched.push_back(watch.feed.get());
  }
  if (watched.empty()) return watch_something();
  const std::string path = watched[below(watched.size())]->recent(below(5));
  return path.empty() ? question() : path_request(Op::kRead, path);
}

// It can no longer commit once the server was killed, and is asked to; before, it
// might, and what it asked about has changed.
Request RandomRingTraffic::abandoned_request(const RingModel& model) {
  const std::uint32_t tx = abandoned_.back();
  const bool is_doomed = model.is_doomed(tx);
  if (is_doomed && one_in(2)) return private_request(tx);
  if (is_doomed && one_in(3)) return path_request(Op::kDirectory, identity_.data(), tx);
  abandoned_.pop_back();
  return end_request(tx, is_doomed && !one_in(4));
}

Request RandomRingTraffic::start_over() {
  abandoned_.clear();
  watched_.clear();
  inner_.clear();
  add_watches();
  return reset_watches_request();
}

void RandomRingTraffic::plan_transaction() {
  planned_.clear();
  phase_ = Phase::kInside;
  is_counting_ = one_in(4);
  will_abandon_ = !is_counting_ && abandoned_.size() < kAbandonedMax && one_in(8);
  if (is_counting_) {
    const auto counter = static_cast<unsigned>(below(kRingCounters));
    planned_.push_back(path_request(Op::kRead, ring_counter_path(counter), tx_));
    return;
  }
  for (std::uint64_t more = 1 + below(6); more > 0; --more)
    planned_.push_back(one_in(4) ? path_request(Op::kRead, shown(some_path()), tx_)
                                 : private_request(tx_));
  if (will_abandon_) return;
  if (one_in(3)) {
    const std::string top = identity_.feed->top() + "/t" + std::to_string(++values_);
    for (int i = 0; i < 2; ++i)
      planned_.push_back(write_request(top + "/n" + std::to_string(i), fresh_value(false), tx_));
  }
  planned_.push_back(end_request(tx_, !one_in(6)));
}

void RandomRingTraffic::plan_counting_end(const Frame& frame) {
  phase_ = Phase::kInside;
  if (frame.type != Op::kError) {
    const std::string value =
        std::to_string(count_in(frame.payload) + 1) + "." + tag_ + "." + std::to_string(++values_);
    planned_.push_back(write_request(path_of({Op::kRead, counter_, 0}), value, tx_));
    if (one_in(2)) planned_.push_back(private_request(tx_));
  }
  planned_.push_back(end_request(tx_, true));
}

void RandomRingTraffic::replied(const Request& request, const Frame& frame) {
  if (request.op == Op::kTransactionStart) {
    phase_ = Phase::kIdle;
    if (frame.type == Op::kError) return;
    tx_ = id_in(frame);
    plan_transaction();
  }
  if (phase_ == Phase::kCounting && request.op == Op::kRead && request.tx == tx_) {
    counter_ = request.payload;
    plan_counting_end(frame);
  }
}

ScriptedRingTraffic::ScriptedRingTraffic(RingIdentity identity, std::vector<Request> script,
                                         std::size_t window)
    : identity_(std::move(identity)), window_(window) {
  for (Request& request : opening_requests(identity_)) script_.push_back(std::move(request));
  add_watches();
  script_.insert(script_.end(), script.begin(), script.end());
}

void ScriptedRingTraffic::add_watches() {
  for (const std::string& path : {identity_.data(), identity_.feed->top()})
    script_.push_back(watch_request(Op::kWatch, path, "own" + std::to_string(++watches_)));
}

Request ScriptedRingTraffic::publish() {
  const std::string path = identity_.feed->top() + "/e/n" + std::to_string(++published_);
  return write_request(path, "published");
}

void ScriptedRingTraffic::restarted() {
  script_.clear();
  add_watches();
  for (int i = 0; i < 2; ++i) script_.push_back(publish());
}

// As many as fit into the window are under way when the stream is begun again.
std::optional<Request> ScriptedRingTraffic::next(const RingModel& model, RingMode mode) {
  if (mode == RingMode::kFeedOnly && script_.empty()) return publish();
  if (script_.empty() || mode == RingMode::kSilent) return {};
  Request request = script_.front();
  if (request.tx != 0) {
    if (!tx_) return {};
    request.tx = *tx_;
  }
  script_.pop_front();
  if (request.op == Op::kTransactionStart) tx_.reset();
  static_cast<void>(model);
  return request;
}

void ScriptedRingTraffic::replied(const Request& request, const Frame& frame) {
  if (request.op == Op::kTransactionStart) tx_ = id_in(frame);
}

}  // namespace crash
