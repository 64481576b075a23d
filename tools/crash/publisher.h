// SPDX-License-Identifier: MIT
/// A socket client whose writes fire watches on rings, and which watches what rings
/// publish. A kill cuts its connection: what it had asked for without an answer has
/// happened or not, which the watchers on rings must agree about with the tree.
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tools/crash/connection.h"
#include "tools/crash/feed.h"
#include "tools/crash/ring_model.h"

namespace crash {

class Publisher {
 public:
  Publisher(std::string socket_path, std::shared_ptr<Feed> feed, const Feeds& feeds,
            std::uint64_t seed);

  /// Connects, sends and receives what it can; asks for more unless `is_silent`.
  Verdict run(bool is_silent);
  /// Nothing is under way that could still be answered.
  bool is_idle() const { return !connection_.is_open() || pending_.empty(); }
  /// Ends its connection.
  void cut();
  void settled(const Tree& tree);
  /// Asks for no more changes than these.
  void set_budget(std::uint64_t changes) { budget_ = changes; }
  int fd() const { return connection_.fd(); }
  Feed& feed() { return *feed_; }

 private:
  struct Pending {
    Request request;
    std::uint32_t req_id;
    std::size_t change;
  };
  struct Watch {
    std::shared_ptr<Feed> feed;
    Feed::Cursor cursor;
    bool is_set = false;
    bool had_initial = false;
  };

  void connect();
  void publish();
  void remove_old();
  void send(const Request& request, std::size_t change);
  Verdict received(const Frame& frame);
  Verdict event(const Frame& frame);

  const std::string path_;
  const std::shared_ptr<Feed> feed_;
  const Feeds& feeds_;
  std::mt19937_64 random_;
  Connection connection_;
  std::deque<Pending> pending_;
  std::map<std::string, Watch> watches_;  ///< by token
  std::uint64_t tokens_ = 0;
  std::uint64_t budget_ = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t epoch_ = 0;
  std::uint64_t in_epoch_ = 0;
  std::deque<std::string> old_epochs_;
  bool wants_removal_ = false;  ///< asks for nothing else until it was answered
};

}  // namespace crash
