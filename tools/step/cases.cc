// SPDX-License-Identifier: MIT
#include "tools/step/cases.h"

#include <cstdio>
#include <cstdlib>
#include <utility>

namespace step {
namespace {

constexpr std::uint16_t kAsker = 1;
constexpr std::uint16_t kWatcher = 2;
constexpr const char* kOk = "OK";

constexpr std::size_t kShort = 9;
constexpr std::size_t kLarge = 3000;  ///< three rings full, almost

std::string absolute(const std::string& path) { return "/local/domain/1/" + path; }

/// The asker's request on a ring, and one more while the server is dead.
class RingCase : public Case {
 public:
  void set_up(World& world) override {
    world.call(kAsker, Op::kWrite, strings(path_, ""));
    const std::string perms = strings(path_, "n1", "r2");
    world.call(kAsker, Op::kSetPerms, perms);
  }
  void prepare(World& /*world*/) override { value_ = numbered_value(++number_, value_bytes_); }
  void act_while_dead(World& world) override {
    world.ask_next(kAsker);
    world.act_all();
  }

 protected:
  explicit RingCase(std::string path, std::size_t value_bytes = kShort)
      : path_(std::move(path)), value_bytes_(value_bytes) {}

  void compare(World& world, const Message& reply, std::vector<Message> events = {}) {
    Transcripts expected;
    expected[kAsker] = {reply};
    expected[kWatcher] = std::move(events);
    world.compare(expected);
  }
  void expect_value(World& world, const std::string& path, const std::string& value) {
    world.expect(world.call(kAsker, Op::kRead, strings(path)) == value,
                 path + " has not the value " + value.substr(0, 20));
  }
  /// Changes with each modification of a node, and never goes back.
  unsigned long generation(World& world) {
    return std::strtoul(world.call(kAsker, Op::kDirectoryPart, strings(path_, "0")).c_str(),
                        nullptr, 10);
  }

  const std::string path_;
  const std::size_t value_bytes_;
  std::string value_;
  std::uint32_t request_ = 0;
  unsigned number_ = 0;
};

class Read : public RingCase {
 public:
  Read(std::string_view name, std::size_t value_bytes)
      : RingCase("data/read", value_bytes), name_(name) {}
  std::string_view name() const override { return name_; }
  void prepare(World& world) override {
    RingCase::prepare(world);
    world.call(kAsker, Op::kWrite, path_ + '\0' + value_);
  }
  void request(World& world) override {
    request_ = world.ring(kAsker).ask(Op::kRead, strings(path_));
  }
  void check(World& world, Killed /*killed*/) override {
    compare(world, reply(Op::kRead, request_, value_));
  }

 private:
  const std::string_view name_;
};

/// A WRITE done twice leaves the same value: the node's generation tells.
class Write : public RingCase {
 public:
  Write(std::string_view name, std::size_t value_bytes, std::string path = "data/write")
      : RingCase(std::move(path), value_bytes), name_(name) {}
  std::string_view name() const override { return name_; }
  void prepare(World& world) override {
    RingCase::prepare(world);
    world.call(kAsker, Op::kWrite, path_ + '\0' + "before");
    generation_ = generation(world);
  }
  void request(World& world) override {
    request_ = world.ring(kAsker).ask(Op::kWrite, path_ + '\0' + value_);
  }
  void check(World& world, Killed killed) override {
    compare(world, reply(Op::kWrite, request_, strings(kOk)), events());
    expect_value(world, path_, value_);
    const unsigned long steps = generation(world) - generation_;
    if (killed == Killed::kNever) usual_steps_ = steps;
    world.expect(!usual_steps_ || steps == usual_steps_,
                 "the node's generation went up by " + std::to_string(steps) + " instead of " +
                     std::to_string(usual_steps_.value_or(0)));
  }

 protected:
  virtual std::vector<Message> events() const { return {}; }

 private:
  const std::string_view name_;
  unsigned long generation_ = 0;
  std::optional<unsigned long> usual_steps_;
};

/// Two watches of another domain, on the node and on what is above it.
class WatchedWrite : public Write {
 public:
  WatchedWrite() : Write("watched_write", kShort, "data/watched/node") {}
  void set_up(World& world) override {
    Write::set_up(world);
    world.watch(kWatcher, absolute("data/watched"), "above");
    world.watch(kWatcher, absolute(path_), "node");
  }
  void prepare(World& world) override {
    Write::prepare(world);
    RingClient& watcher = world.ring(kWatcher);
    world.act_until([&] { return watcher.received().size() == 2; }, "the events before");
    watcher.forget_received();
  }

 protected:
  std::vector<Message> events() const override {
    return {event(absolute(path_), "above"), event(absolute(path_), "node")};
  }
};

/// END of a transaction begun before: done whole with OK, or not at all with EAGAIN.
class Commit : public RingCase {
 public:
  Commit() : RingCase("data/tx/one"), other_("data/tx/two") {}
  std::string_view name() const override { return "commit"; }
  void set_up(World& world) override {
    RingCase::set_up(world);
    world.call(kAsker, Op::kWrite, strings(other_, ""));
    world.call(kAsker, Op::kSetPerms, strings(other_, "n1", "r2"));
    world.watch(kWatcher, absolute("data/tx"), "tx");
  }
  void prepare(World& world) override {
    RingCase::prepare(world);
    before_ = world.call(kAsker, Op::kRead, strings(path_));
    begin(world);
  }
  void request(World& world) override {
    request_ = world.ring(kAsker).ask(Op::kTransactionEnd, strings("T"), tx_);
  }
  void check(World& world, Killed killed) override {
    RingClient& asker = world.ring(kAsker);
    world.act_until([&] { return asker.reply_to(request_) != nullptr; }, "the reply to END");
    if (!world.problem().empty()) return;
    const bool is_done = asker.reply_to(request_)->type != static_cast<std::uint32_t>(Op::kError);
    world.expect(is_done || killed == Killed::kPerhapsBeforeCommit,
                 "a committed transaction was answered with an error");
    if (is_done) {
      compare(world, reply(Op::kTransactionEnd, request_, strings(kOk), tx_), events());
    } else {
      compare(world, error("EAGAIN", request_, tx_));
      expect_both(world, before_);
      begin(world);
      request(world);
      compare(world, reply(Op::kTransactionEnd, request_, strings(kOk), tx_), events());
    }
    expect_both(world, value_);
  }

 private:
  void begin(World& world) {
    tx_ = static_cast<std::uint32_t>(
        std::strtoul(world.call(kAsker, Op::kTransactionStart, strings("")).c_str(), nullptr, 10));
    world.call(kAsker, Op::kWrite, path_ + '\0' + value_, tx_);
    world.call(kAsker, Op::kWrite, other_ + '\0' + value_, tx_);
  }
  void expect_both(World& world, const std::string& value) {
    expect_value(world, path_, value);
    expect_value(world, other_, value);
  }
  std::vector<Message> events() const {
    return {event(absolute(path_), "tx"), event(absolute(other_), "tx")};
  }

  const std::string other_;
  std::string before_;
  std::uint32_t tx_ = 0;
};

/// Once its ring was made anew, a guest reads there what it may use.
void expect_features(World& world, std::uint16_t domid) {
  constexpr std::uint32_t kAll = 15;
  world.expect(world.ring(domid).server_features() == kAll, "server_features are not in the page");
}

/// Domain 4 comes and goes, and two rings watch that. The request comes by a socket:
/// the kill ends it, and who asked has to find out whether it was done.
class Introduce : public Case {
 public:
  std::string_view name() const override { return "introduce"; }
  void set_up(World& world) override {
    world.socket_call(Op::kSetPerms, strings(kSpecial, "n0", "r2"));
    world.watch(0, kSpecial, "t0");
    world.watch(kWatcher, kSpecial, "t2");
  }
  void prepare(World& world) override {
    if (is_introduced(world)) world.socket_call(Op::kRelease, strings("4"));
    domain_ = world.replace_guest(kNewcomer);
    is_introduced(world);  // the server has also seen that the last one died
  }
  void request(World& world) override {
    client_ = world.take_socket();
    request_ = client_->ask(Op::kIntroduce, introduction(kNewcomer, domain_));
  }
  /// The new domain goes on as soon as who introduces it was told that it may.
  void act_while_dead(World& world) override {
    answer_ = client_->last_words();
    if (answer_) world.ask_next(kNewcomer);
    world.act_all();
  }
  void check(World& world, Killed killed) override {
    if (!answer_) answer_ = client_->last_words();
    client_.reset();
    const bool was_told = answer_.has_value();
    world.expect(!was_told || is_same(*answer_, reply(Op::kIntroduce, request_, strings("OK"))),
                 "the reply to INTRODUCE is wrong");
    answer_.reset();
    const bool is_done = is_introduced(world);
    world.expect(is_done || !was_told, "INTRODUCE was answered but is forgotten");
    world.expect(is_done || killed != Killed::kAfterCommit, "INTRODUCE was committed but is lost");
    world.expect(was_told || killed != Killed::kNever, "INTRODUCE was not answered");
    if (!is_done) world.introduce(kNewcomer, domain_);
    expect_features(world, kNewcomer);
    Transcripts expected;
    expected[0] = {event(kSpecial, "t0")};
    expected[kWatcher] = {event(kSpecial, "t2")};
    world.compare(expected);
  }

 private:
  static constexpr std::uint16_t kNewcomer = 4;
  static constexpr const char* kSpecial = "@introduceDomain";

  static bool is_introduced(World& world) {
    return world.socket_call(Op::kIsDomainIntroduced, strings("4")) == strings("T");
  }

  simxen::NewDomain domain_{};
  std::unique_ptr<SocketClient> client_;
  std::optional<Message> answer_;
  std::uint32_t request_ = 0;
};

/// dom0 has the state compared, which commits in the middle of a turn. That request
/// comes in two pieces: the ring has no more room for it behind another one. A guest's
/// write, of two pieces too, has an event for dom0 in the very turn of the second.
class Check : public Case {
 public:
  std::string_view name() const override { return "check"; }
  void set_up(World& world) override {
    world.call(kAsker, Op::kWrite, strings("data/checked", ""));
    world.watch(0, absolute("data/checked"), "t0");
  }
  void prepare(World& /*world*/) override {
    const std::string path = strings(kPath);
    value_ = numbered_value(++number_, kRingBytes - kHeaderBytes - kPiece - path.size());
  }
  void request(World& world) override {
    RingClient& dom0 = world.ring(0);
    other_ =
        world.ring(kAsker).ask(Op::kWrite, "data/checked" + strings("") + std::string(1500, 'x'));
    write_ = dom0.ask(Op::kWrite, strings(kPath) + value_);
    check_ = dom0.ask(Op::kControl, strings("check"));
  }
  void act_while_dead(World& world) override { world.act_all(); }
  void check(World& world, Killed /*killed*/) override {
    RingClient& dom0 = world.ring(0);
    world.act_until([&] { return dom0.received().size() == 3; }, "two replies and an event");
    // The event may come before either reply.
    const Message seen = event(absolute("data/checked"), "t0");
    std::vector<Message> replies = dom0.received();
    std::erase_if(replies, [&](const Message& message) { return is_same(message, seen); });
    world.expect(replies.size() == 2 &&
                     is_same(replies[0], reply(Op::kWrite, write_, strings(kOk))) &&
                     is_same(replies[1], reply(Op::kControl, check_, strings(kOk))),
                 "dom0 has not received two replies and an event");
    dom0.forget_received();
    Transcripts expected;
    expected[kAsker] = {reply(Op::kWrite, other_, strings(kOk))};
    world.compare(expected);
    world.expect(world.call(0, Op::kRead, strings(kPath)) == value_, "the value is wrong");
  }

 private:
  static constexpr const char* kPath = "/local/checked";
  static constexpr std::size_t kRingBytes = 1024;
  static constexpr std::size_t kHeaderBytes = 16;
  static constexpr std::size_t kPiece = 20;  ///< of the second request, comes with the first

  std::string value_;
  std::uint32_t other_ = 0;
  std::uint32_t write_ = 0;
  std::uint32_t check_ = 0;
  unsigned number_ = 0;
};

/// A guest asks for a new connection: both streams begin again, the old session is gone.
class Reconnect : public Case {
 public:
  std::string_view name() const override { return "reconnect"; }
  void set_up(World& world) override { world.call(kGuest, Op::kWrite, strings(kPath, "")); }
  void prepare(World& world) override {
    world.watch(kGuest, kPath, "old");
    world.call(kGuest, Op::kTransactionStart, strings(""));
  }
  void request(World& world) override { world.ring(kGuest).reconnect(); }
  void act_while_dead(World& world) override {
    if (!world.ring(kGuest).is_reconnecting()) world.ask_next(kGuest);
    world.act_all();
  }
  void check(World& world, Killed /*killed*/) override {
    world.act_until([&] { return !world.ring(kGuest).is_reconnecting(); }, "the new connection");
    expect_features(world, kGuest);
    world.compare({});
    // The old watch would be told of this.
    world.call(kGuest, Op::kWrite, kPath + std::string(1, '\0') + "new");
    world.compare({});
  }

 private:
  static constexpr std::uint16_t kGuest = 3;
  static constexpr const char* kPath = "data/reconnect";
};

/// A domain dies, its nodes with it; two rings are told.
class Death : public Case {
 public:
  std::string_view name() const override { return "death"; }
  void set_up(World& world) override {
    world.socket_call(Op::kSetPerms, strings(kSpecial, "n0", "r2"));
    world.watch(0, kSpecial, "t0");
    world.watch(kWatcher, kSpecial, "t2");
    world.watch(0, kNode, "node");
  }
  void prepare(World& world) override {
    world.introduce(kDoomed, world.replace_guest(kDoomed));
    world.socket_call(Op::kWrite, kNode + std::string(1, '\0') + "its own");
    world.socket_call(Op::kSetPerms, strings(kNode, "n4"));
    RingClient& watcher = world.ring(0);
    world.act_until([&] { return watcher.received().size() == 2; }, "the events before");
    watcher.forget_received();
  }
  void request(World& world) override { world.destroy_guest(kDoomed); }
  void act_while_dead(World& world) override { world.act_all(); }
  void check(World& world, Killed /*killed*/) override {
    Transcripts expected;
    expected[0] = {event(kNode, "node"), event(kSpecial, "t0")};
    expected[kWatcher] = {event(kSpecial, "t2")};
    world.compare(expected);
  }

 private:
  static constexpr std::uint16_t kDoomed = 4;
  static constexpr const char* kSpecial = "@releaseDomain";
  static constexpr const char* kNode = "/local/doomed";
};

}  // namespace

std::string numbered_value(unsigned number, std::size_t size) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "v%08u", number);
  std::string value;
  while (value.size() < size) value += text.data();
  value.resize(size);
  return value;
}

std::vector<std::unique_ptr<Case>> ring_cases() {
  std::vector<std::unique_ptr<Case>> all;
  all.push_back(std::make_unique<Read>("read", kShort));
  all.push_back(std::make_unique<Write>("write", kShort));
  all.push_back(std::make_unique<WatchedWrite>());
  all.push_back(std::make_unique<Commit>());
  all.push_back(std::make_unique<Introduce>());
  all.push_back(std::make_unique<Write>("large_write", kLarge));
  all.push_back(std::make_unique<Read>("large_read", kLarge));
  all.push_back(std::make_unique<Reconnect>());
  all.push_back(std::make_unique<Check>());
  all.push_back(std::make_unique<Death>());
  return all;
}

}  // namespace step
