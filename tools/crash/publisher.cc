// SPDX-License-Identifier: MIT
#include "tools/crash/publisher.h"

#include <utility>

namespace crash {
namespace {

constexpr std::size_t kWindow = 4;
constexpr std::uint64_t kEpochLength = 8;
constexpr std::uint64_t kRemovalOneIn = 4;
constexpr std::size_t kSmallValue = 60;
constexpr std::size_t kNoChange = static_cast<std::size_t>(-1);

}  // namespace

Publisher::Publisher(std::string socket_path, std::shared_ptr<Feed> feed, const Feeds& feeds,
                     std::uint64_t seed)
    : path_(std::move(socket_path)), feed_(std::move(feed)), feeds_(feeds), random_(seed) {}

void Publisher::connect() {
  auto opened = Connection::open(path_);
  if (!opened) return;
  connection_ = std::move(*opened);
  for (const auto& [top, feed] : feeds_) {
    if (feed == feed_) continue;
    const std::string token = "s" + std::to_string(++tokens_);
    watches_[token] = {feed, feed->begin_watching()};
    send(watch_request(Op::kWatch, top, token), kNoChange);
  }
}

// What has no answer stays open in the feed, in a directory that is not used again.
void Publisher::cut() {
  connection_.close();
  pending_.clear();
  watches_.clear();
  old_epochs_.clear();
  wants_removal_ = false;
  ++epoch_;
  in_epoch_ = 0;
}

void Publisher::settled(const Tree& tree) {
  old_epochs_.clear();
  const auto top = tree.find(feed_->top());
  if (top == tree.end()) return;
  for (const std::string& name : top->second.children) {
    if (name != "e" + std::to_string(epoch_)) old_epochs_.push_back(feed_->top() + "/" + name);
  }
}

void Publisher::send(const Request& request, std::size_t change) {
  pending_.push_back({request, connection_.queue(request), change});
}

// A removal is alone under way: whether it was done can then be told from the tree.
void Publisher::publish() {
  while (pending_.size() < kWindow && budget_ > 0) {
    wants_removal_ = wants_removal_ || (!old_epochs_.empty() && random_() % kRemovalOneIn == 0);
    if (wants_removal_) {
      if (pending_.empty()) remove_old();
      return;
    }
    if (in_epoch_ == kEpochLength) {
      old_epochs_.push_back(feed_->top() + "/e" + std::to_string(epoch_));
      ++epoch_;
      in_epoch_ = 0;
    }
    const std::string path =
        feed_->top() + "/e" + std::to_string(epoch_) + "/n" + std::to_string(++in_epoch_);
    std::string value = "p" + path;
    if (random_() % 16 == 0) value.resize(xenstored::kPayloadMax - kSmallValue, 'x');
    --budget_;
    send(write_request(path, value), feed_->write(path, value));
  }
}

void Publisher::remove_old() {
  const std::string path = old_epochs_.front();
  old_epochs_.pop_front();
  --budget_;
  send(path_request(Op::kRm, path), feed_->remove(path));
}

Verdict Publisher::run(bool is_silent) {
  if (!connection_.is_open() && !is_silent) connect();
  if (!connection_.is_open()) return {};
  if (!is_silent) publish();
  connection_.flush();
  const bool is_alive = connection_.receive();
  while (const std::optional<Frame> frame = connection_.next()) {
    Verdict wrong = received(*frame);
    if (wrong) return "the publisher (a socket client): " + *wrong;
  }
  if (!is_alive) cut();
  return {};
}

Verdict Publisher::received(const Frame& frame) {
  if (frame.type == Op::kWatchEvent) return event(frame);
  if (pending_.empty()) return "a reply to nothing: " + text(frame);
  const Pending pending = std::move(pending_.front());
  pending_.pop_front();
  if (frame.req_id != pending.req_id || frame.type != pending.request.op)
    return text(pending.request) + ": " + text(frame);
  if (pending.request.op == Op::kRm) wants_removal_ = false;
  if (pending.change != kNoChange) return feed_->answered(pending.change, true);
  Watch& watch = watches_.at(split(pending.request.payload).at(1));
  watch.is_set = true;
  watch.feed->watching(watch.cursor);
  return {};
}

Verdict Publisher::event(const Frame& frame) {
  const auto words = split(frame.payload);
  const auto found = words.size() == 2 ? watches_.find(words[1]) : watches_.end();
  if (found == watches_.end() || !found->second.is_set)
    return "an event for no watch: " + text(frame);
  Watch& watch = found->second;
  if (std::exchange(watch.had_initial, true)) return watch.feed->seen(watch.cursor, words[0]);
  if (words[0] != watch.feed->top()) return "no initial event but " + text(frame);
  watch.feed->initial_event_seen(watch.cursor);
  return {};
}

}  // namespace crash
