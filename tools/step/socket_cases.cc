// SPDX-License-Identifier: MIT
// Cases whose clients are sockets behind a keeper: to them nothing happens when the
// server is killed.
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <iterator>
#include <optional>
#include <thread>
#include <utility>

#include "tools/step/cases.h"

namespace step {
namespace {

constexpr const char* kOk = "OK";
constexpr std::size_t kShort = 9;
constexpr std::size_t kLarge = 4000;  ///< a reply's most, less the path with which it was written

std::string write_of(const std::string& path, const std::string& value) {
  return strings(path) + value;
}

std::unique_ptr<SocketClient> open_watching(World& world, const std::string& path,
                                            const std::string& token) {
  auto client = world.open_client();
  if (client) world.watch(*client, path, token);
  return client;
}

/// Changes with each modification of a node, and never goes back.
unsigned long generation(World& world, const std::string& path) {
  return std::strtoul(world.socket_call(Op::kDirectoryPart, strings(path, "0")).c_str(), nullptr,
                      10);
}

void expect_value(World& world, const std::string& path, const std::string& value) {
  world.expect(world.socket_call(Op::kRead, strings(path)) == value,
               path + " has not the value " + value.substr(0, 20));
}

/// That a WRITE was done once: done twice it leaves the same value.
class WrittenOnce {
 public:
  void note(World& world, const std::string& path) { before_ = generation(world, path); }
  void check(World& world, const std::string& path, Killed killed) {
    const unsigned long steps = generation(world, path) - before_;
    if (killed == Killed::kNever) usual_ = steps;
    world.expect(!usual_ || steps == usual_, "the generation of " + path + " went up by " +
                                                 std::to_string(steps) + " instead of " +
                                                 std::to_string(usual_.value_or(0)));
  }

 private:
  unsigned long before_ = 0;
  std::optional<unsigned long> usual_;
};

class SocketCase : public Case {
 public:
  explicit SocketCase(std::string_view name) : name_(name) {}
  std::string_view name() const override { return name_; }
  bool has_kept_sockets() const override { return true; }

 private:
  const std::string_view name_;
};

/// A request of one client and what another one is told of it; both live through all kills.
class PairCase : public SocketCase {
 public:
  void set_up(World& world) override {
    world.socket_call(Op::kWrite, strings(path_));
    asker_ = open_watching(world, "/local/asker", "asker");
    watcher_ = open_watching(world, "/local/watcher", "watcher");
    world.wait_quiet();
  }
  void prepare(World& /*world*/) override { value_ = numbered_value(++number_, kShort); }
  void act_while_dead(World& world) override {
    asker_->read();
    asker_->ask_next();
    watcher_->read();  // a request of its own might be served before what it is to be told of
    world.act_all();
  }

 protected:
  PairCase(std::string_view name, std::string path) : SocketCase(name), path_(std::move(path)) {}

  void compare(World& world, std::vector<Message> replies, std::vector<Message> events = {}) {
    world.compare(*asker_, std::move(replies));
    world.compare(*watcher_, std::move(events));
    world.compare({});
  }

  const std::string path_;
  std::unique_ptr<SocketClient> asker_;
  std::unique_ptr<SocketClient> watcher_;
  std::string value_;
  std::uint32_t request_ = 0;

 private:
  unsigned number_ = 0;
};

class SocketRead : public PairCase {
 public:
  SocketRead() : PairCase("socket-read", "/local/read") {}
  void prepare(World& world) override {
    PairCase::prepare(world);
    world.call(*asker_, Op::kWrite, write_of(path_, value_));
  }
  void request(World& /*world*/) override { request_ = asker_->ask(Op::kRead, strings(path_)); }
  void check(World& world, Killed /*killed*/) override {
    compare(world, {reply(Op::kRead, request_, value_)});
  }
};

class SocketWrite : public PairCase {
 public:
  SocketWrite() : SocketWrite("socket-write", "/local/write") {}
  void prepare(World& world) override {
    PairCase::prepare(world);
    world.call(*asker_, Op::kWrite, write_of(path_, "before"));
    written_.note(world, path_);
  }
  void request(World& /*world*/) override {
    request_ = asker_->ask(Op::kWrite, write_of(path_, value_));
  }
  void check(World& world, Killed killed) override {
    compare(world, {reply(Op::kWrite, request_, strings(kOk))});
    check_value(world, killed);
  }

 protected:
  SocketWrite(std::string_view name, std::string path) : PairCase(name, std::move(path)) {}
  void check_value(World& world, Killed killed) {
    expect_value(world, path_, value_);
    written_.check(world, path_, killed);
  }

  WrittenOnce written_;
};

/// Of which the second part comes when the first has been received.
class SocketPieces : public SocketWrite {
 public:
  SocketPieces() : SocketWrite("socket-pieces", "/local/pieces") {}
  void prepare(World& world) override {
    SocketWrite::prepare(world);
    value_ = numbered_value(1, kLarge - kShort) + value_;
    request_ = asker_->queue(Op::kWrite, write_of(path_, value_));
    asker_->send(kLarge / 2);
    expect_value(world, path_, "before");  // it has been received when that was answered
  }
  void request(World& /*world*/) override { asker_->send(); }
};

/// Two watches of the other client, on the node and on what is above it, and an own one.
class SocketWatch : public SocketWrite {
 public:
  SocketWatch() : SocketWrite("socket-watch", "/local/watched/node") {}
  void set_up(World& world) override {
    SocketWrite::set_up(world);
    world.watch(*asker_, path_, "own");
    world.watch(*watcher_, "/local/watched", "above");
    world.watch(*watcher_, path_, "node");
  }
  void prepare(World& world) override {
    PairCase::prepare(world);
    world.socket_call(Op::kWrite, write_of(path_, "before"));
    world.compare(*asker_, {event(path_, "own")});
    world.compare(*watcher_, events());
    written_.note(world, path_);
  }
  void check(World& world, Killed killed) override {
    compare(world, {event(path_, "own"), reply(Op::kWrite, request_, strings(kOk))}, events());
    check_value(world, killed);
  }

 private:
  std::vector<Message> events() const { return {event(path_, "above"), event(path_, "node")}; }
};

/// END of a transaction begun before: done whole with OK, or not at all with EAGAIN.
class SocketCommit : public PairCase {
 public:
  SocketCommit() : PairCase("socket-commit", "/local/tx/one") {}
  void set_up(World& world) override {
    PairCase::set_up(world);
    world.socket_call(Op::kWrite, strings(kOther));
    world.watch(*watcher_, "/local/tx", "tx");
  }
  void prepare(World& world) override {
    PairCase::prepare(world);
    before_ = world.call(*asker_, Op::kRead, strings(path_));
    begin(world);
  }
  void request(World& /*world*/) override {
    request_ = asker_->ask(Op::kTransactionEnd, strings("T"), tx_);
  }
  void check(World& world, Killed killed) override {
    world.read_until(
        *asker_, [&] { return asker_->reply_to(request_) != nullptr; }, "the reply to END");
    if (!world.problem().empty()) return;
    const bool is_done = asker_->reply_to(request_)->type != static_cast<std::uint32_t>(Op::kError);
    world.expect(is_done || killed == Killed::kPerhapsBeforeCommit,
                 "a committed transaction was answered with an error");
    if (!is_done) {
      compare(world, {error("EAGAIN", request_, tx_)});
      expect_both(world, before_);
      begin(world);
      request(world);
    }
    compare(world, {reply(Op::kTransactionEnd, request_, strings(kOk), tx_)},
            {event(path_, "tx"), event(kOther, "tx")});
    expect_both(world, value_);
  }

 private:
  static constexpr const char* kOther = "/local/tx/two";

  void begin(World& world) {
    const std::string id = world.call(*asker_, Op::kTransactionStart, strings(""));
    tx_ = static_cast<std::uint32_t>(std::strtoul(id.c_str(), nullptr, 10));
    world.call(*asker_, Op::kWrite, write_of(path_, value_), tx_);
    world.call(*asker_, Op::kWrite, write_of(kOther, value_), tx_);
  }
  void expect_both(World& world, const std::string& value) {
    expect_value(world, path_, value);
    expect_value(world, kOther, value);
  }

  std::string before_;
  std::uint32_t tx_ = 0;
};

/// Several requests in one send: two that change something and are told to both, one in
/// vain, and what has come of the first.
class SocketPipelined : public PairCase {
 public:
  SocketPipelined() : PairCase("socket-pipelined", "/local/pipe/one") {}
  void set_up(World& world) override {
    PairCase::set_up(world);
    world.socket_call(Op::kWrite, strings(kOther));
    world.watch(*asker_, kOther, "own");
    world.watch(*watcher_, "/local/pipe", "pipe");
  }
  void prepare(World& world) override {
    PairCase::prepare(world);
    one_.note(world, path_);
    two_.note(world, kOther);
  }
  void request(World& /*world*/) override {
    first_ = asker_->queue(Op::kWrite, write_of(path_, value_));
    asker_->queue(Op::kRead, strings("/local/nothing"));
    asker_->queue(Op::kWrite, write_of(kOther, value_));
    asker_->queue(Op::kRead, strings(path_));
    asker_->queue(Op::kDirectory, strings("/local/pipe"));
    asker_->send();
  }
  void check(World& world, Killed killed) override {
    compare(
        world,
        {reply(Op::kWrite, first_, strings(kOk)), error("ENOENT", first_ + 1), event(kOther, "own"),
         reply(Op::kWrite, first_ + 2, strings(kOk)), reply(Op::kRead, first_ + 3, value_),
         reply(Op::kDirectory, first_ + 4, strings("one", "two"))},
        {event(path_, "pipe"), event(kOther, "pipe")});
    expect_value(world, path_, value_);
    expect_value(world, kOther, value_);
    one_.check(world, path_, killed);
    two_.check(world, kOther, killed);
  }

 private:
  static constexpr const char* kOther = "/local/pipe/two";

  std::uint32_t first_ = 0;
  WrittenOnce one_;
  WrittenOnce two_;
};

/// A client that comes for one request, and goes. What it leaves behind when it has gone
/// is nothing: no watch, and no file of its own with the keeper.
class FreshCase : public SocketCase {
 public:
  std::size_t turns_max() const override { return 1; }
  void set_up(World& world) override {
    world.socket_call(Op::kWrite, strings(kPath));
    world.wait_quiet();
    files_of_keeper_ = world.server().files_of_keeper();
  }
  void prepare(World& /*world*/) override {
    value_ = numbered_value(++number_, kShort);
    token_ = "fresh-" + value_;
  }
  void act_while_dead(World& world) override {
    if (client_) {
      client_->read();
      client_->ask_next();
    }
    world.act_all();
  }

 protected:
  using SocketCase::SocketCase;
  static constexpr const char* kPath = "/local/fresh";

  bool has_watch(World& world) const {
    return world.inspect().find("token=" + token_) != std::string::npos;
  }
  void leave(World& world) {
    client_.reset();
    expect_gone(world);
  }
  void expect_gone(World& world) {
    const auto end = Clock::now() + kPatience;
    const auto files = [&world] { return world.server().files_of_keeper(); };
    while (world.problem().empty() && (has_watch(world) || files() != files_of_keeper_)) {
      if (Clock::now() > end) {
        world.fail("a client has gone; its watch is" + std::string(has_watch(world) ? "" : " not") +
                   " there, its keeper has " + std::to_string(files()) + " files instead of " +
                   std::to_string(files_of_keeper_));
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    world.compare({});
  }

  std::unique_ptr<SocketClient> client_;
  std::string value_;
  std::string token_;

 private:
  static constexpr std::chrono::seconds kPatience{5};

  std::size_t files_of_keeper_ = 0;
  unsigned number_ = 0;
};

/// Replies for which what is kept of its output is too small, so that it grows.
class SocketLarge : public FreshCase {
 public:
  SocketLarge() : FreshCase("socket-large") {}
  void set_up(World& world) override {
    FreshCase::set_up(world);
    for (unsigned i = 0; i < kCount; ++i) {
      world.socket_call(Op::kWrite, write_of(path(i), numbered_value(i, kLarge)));
    }
  }
  void prepare(World& world) override {
    FreshCase::prepare(world);
    client_ = open_watching(world, kPath, token_);
  }
  void request(World& /*world*/) override {
    for (unsigned i = 0; i < kCount; ++i) first_ = client_->queue(Op::kRead, strings(path(i)));
    first_ -= kCount - 1;
    client_->send();
  }
  void check(World& world, Killed /*killed*/) override {
    std::vector<Message> replies;
    for (unsigned i = 0; i < kCount; ++i) {
      replies.push_back(reply(Op::kRead, first_ + i, numbered_value(i, kLarge)));
    }
    world.compare(*client_, replies);
    leave(world);
  }

 private:
  static constexpr unsigned kCount = 5;
  static std::string path(unsigned number) { return "/local/large/" + std::to_string(number); }

  std::uint32_t first_ = 0;
};

/// More than fits into the socket: what is sent is a part.
class SocketBacklog : public PairCase {
 public:
  SocketBacklog() : PairCase("socket-backlog", "/local/backlog") {}
  void set_up(World& world) override {
    PairCase::set_up(world);
    world.call(*asker_, Op::kWrite, write_of(path_, large_));
  }
  void prepare(World& world) override {
    first_ = ask(kBefore);
    world.socket_call(Op::kRead, strings("/"));  // that was answered when this is
  }
  void request(World& /*world*/) override { ask(kCount - kBefore); }
  void check(World& world, Killed killed) override {
    const std::size_t all = kCount * (large_.size() + sizeof(xenstored::Header));
    world.expect(killed != Killed::kNever || asker_->readable_bytes() < all,
                 "everything fits into the socket, which is no test");
    std::vector<Message> replies;
    for (unsigned i = 0; i < kCount; ++i) {
      replies.push_back(reply(Op::kRead, first_ + i, large_));
    }
    compare(world, replies);
  }

 private:
  static constexpr unsigned kBefore = 48;
  static constexpr unsigned kCount = 58;

  /// The id of the first.
  std::uint32_t ask(unsigned count) {
    std::uint32_t last = 0;
    for (unsigned i = 0; i < count; ++i) last = asker_->queue(Op::kRead, strings(path_));
    asker_->send();
    return last - (count - 1);
  }

  const std::string large_ = numbered_value(1, kLarge);
  std::uint32_t first_ = 0;
};

/// Its first watch, with which it begins to be kept. It may be closed, but only as long as
/// it has been told nothing, and with its watch.
class SocketHandover : public FreshCase {
 public:
  SocketHandover() : FreshCase("socket-handover") {}
  void prepare(World& world) override {
    FreshCase::prepare(world);
    client_ = world.open_client();
    if (client_) world.call(*client_, Op::kRead, strings("/"));
  }
  void request(World& /*world*/) override {
    request_ = client_->ask(Op::kWatch, strings(kPath, token_));
  }
  void check(World& world, Killed killed) override {
    world.read_until(
        *client_, [&] { return client_->received().size() >= 2; },
        "the reply to a WATCH, and its event", true);
    if (client_->is_closed()) {
      world.expect(client_->received().empty(), "a socket was closed after it had been answered");
      world.expect(killed == Killed::kPerhapsBeforeCommit, "a socket was closed that was kept");
      world.expect(!has_watch(world), "a socket was closed, and its watch is still there");
    } else {
      world.compare(*client_, {reply(Op::kWatch, request_, strings(kOk)), event(kPath, token_)});
      world.socket_call(Op::kWrite, write_of(kPath, value_));
      world.compare(*client_, {event(kPath, token_)});
      world.expect(has_watch(world), "a watch is not shown");
    }
    leave(world);
  }

 private:
  std::uint32_t request_ = 0;
};

class SocketGone : public FreshCase {
 public:
  SocketGone() : FreshCase("socket-gone") {}
  void prepare(World& world) override {
    FreshCase::prepare(world);
    client_ = open_watching(world, kPath, token_);
  }
  void request(World& /*world*/) override { client_.reset(); }
  void check(World& world, Killed /*killed*/) override { expect_gone(world); }
};

/// It says that it will send no more, right behind a request whose reply it waits for.
class SocketHalfClosed : public FreshCase {
 public:
  SocketHalfClosed() : FreshCase("socket-half-closed") {}
  void prepare(World& world) override {
    FreshCase::prepare(world);
    client_ = open_watching(world, kPath, token_);
    written_.note(world, kPath);
  }
  void request(World& /*world*/) override {
    request_ = client_->ask(Op::kWrite, write_of(kPath, value_));
    client_->send_no_more();
  }
  void act_while_dead(World& world) override {
    client_->read();
    world.act_all();
  }
  void check(World& world, Killed killed) override {
    world.read_until(
        *client_, [] { return false; }, "its end", true);
    world.compare("a socket client", client_->received(),
                  {event(kPath, token_), reply(Op::kWrite, request_, strings(kOk))});
    leave(world);
    expect_value(world, kPath, value_);
    written_.check(world, kPath, killed);
  }

 private:
  std::uint32_t request_ = 0;
  WrittenOnce written_;
};

/// A WRITE that is served by plain calls. Its client may be closed wherever the server is
/// killed; what it was told is true then as well, and ends anywhere.
class SocketHurried : public FreshCase {
 public:
  SocketHurried() : FreshCase("socket-hurried") {}
  bool is_hurried() const override { return true; }
  void prepare(World& world) override {
    FreshCase::prepare(world);
    client_ = open_watching(world, kPath, token_);
    before_ = world.socket_call(Op::kRead, strings(kPath));
    written_.note(world, kPath);
  }
  void request(World& /*world*/) override {
    request_ = client_->ask(Op::kWrite, write_of(kPath, value_));
  }
  void check(World& world, Killed killed) override {
    const std::vector<Message> told = {event(kPath, token_),
                                       reply(Op::kWrite, request_, strings(kOk))};
    const std::uint32_t next = client_->ask_next();
    world.read_until(
        *client_, [&] { return client_->reply_to(next) != nullptr; },
        "the reply to the next request", killed != Killed::kNever);
    bool is_done = true;
    if (client_->is_closed()) {
      const auto count = static_cast<std::ptrdiff_t>(client_->received().size());
      world.expect(count <= std::ssize(told), "a closed socket was told too much");
      if (!world.problem().empty()) return;
      world.compare("a closed client", client_->received(), {told.begin(), told.begin() + count});
      const bool must_be_done = count > 0 || killed == Killed::kAfterCommit;
      is_done = must_be_done || world.socket_call(Op::kRead, strings(kPath)) == value_;
    } else {
      world.compare(*client_, told);
    }
    expect_value(world, kPath, is_done ? value_ : before_);
    if (is_done) written_.check(world, kPath, killed);
    leave(world);
  }

 private:
  std::uint32_t request_ = 0;
  std::string before_;
  WrittenOnce written_;
};

}  // namespace

std::vector<std::unique_ptr<Case>> socket_cases() {
  std::vector<std::unique_ptr<Case>> all;
  all.push_back(std::make_unique<SocketRead>());
  all.push_back(std::make_unique<SocketWrite>());
  all.push_back(std::make_unique<SocketWatch>());
  all.push_back(std::make_unique<SocketCommit>());
  all.push_back(std::make_unique<SocketLarge>());
  all.push_back(std::make_unique<SocketPipelined>());
  all.push_back(std::make_unique<SocketPieces>());
  all.push_back(std::make_unique<SocketBacklog>());
  all.push_back(std::make_unique<SocketHandover>());
  all.push_back(std::make_unique<SocketGone>());
  all.push_back(std::make_unique<SocketHalfClosed>());
  all.push_back(std::make_unique<SocketHurried>());
  return all;
}

}  // namespace step
