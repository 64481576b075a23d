// SPDX-License-Identifier: MIT
#include "tools/step/world.h"

#include <poll.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>

namespace step {
namespace {

constexpr std::array<std::uint16_t, 3> kGuests = {1, 2, 3};

std::string made(const std::string& directory) {
  std::filesystem::create_directories(directory + "/run");
  return directory;
}

std::string home(std::uint16_t domid) { return "/local/domain/" + std::to_string(domid); }

}  // namespace

World::World(const Options& options)
    : options_(options),
      server_({options.binary, options.preload, made(options.directory), options.has_keeper,
               options.is_hurried}) {
  machine_.emplace(simxen::Machine::make(options_.directory + "/machine"));
  events_.emplace(*machine_);
  rings_[0] = std::make_unique<RingClient>(*machine_, *events_, 0);
  server_.start();
  for (const std::uint16_t domid : kGuests) make_guest(domid);
  wait_idle();
}

World::~World() {
  server_.kill();
  rings_.clear();
  events_.reset();
  std::filesystem::remove_all(options_.directory);
}

void World::fail(const std::string& what) {
  if (problem_.empty()) problem_ = what;
}

void World::expect(bool holds, const std::string& what) {
  if (!holds) fail(what);
}

/// A domain with a home of its own, in which it may write.
void World::make_guest(std::uint16_t domid) {
  introduce(domid, replace_guest(domid));
  socket_call(Op::kMkdir, strings(home(domid)));
  socket_call(Op::kSetPerms, strings(home(domid), "n" + std::to_string(domid)));
}

std::string introduction(std::uint16_t domid, const simxen::NewDomain& domain) {
  return strings(std::to_string(domid), std::to_string(domain.gfn), std::to_string(domain.port));
}

void World::introduce(std::uint16_t domid, const simxen::NewDomain& domain) {
  socket_call(Op::kIntroduce, introduction(domid, domain));
}

void World::destroy_guest(std::uint16_t domid) {
  rings_.erase(domid);
  machine_->destroy({domid});
}

simxen::NewDomain World::replace_guest(std::uint16_t domid) {
  if (machine_->exists(domid)) destroy_guest(domid);
  simxen::Uuid uuid{};
  ++next_uuid_;
  std::memcpy(uuid.data(), &next_uuid_, sizeof next_uuid_);
  const simxen::NewDomain made = machine_->create(domid, uuid);
  rings_[domid] = std::make_unique<RingClient>(*machine_, *events_, domid);
  return made;
}

void World::watch(std::uint16_t domid, const std::string& path, const std::string& token) {
  RingClient& watcher = ring(domid);
  watcher.ask(Op::kWatch, strings(path, token));
  act_until([&] { return watcher.received().size() == 2; }, "the reply to a WATCH, and its event");
  watcher.forget_received();
}

bool World::act() {
  const std::vector<std::uint16_t> told = events_->take();
  bool did_act = false;
  // dom0 last: what others cause it to be sent comes before its own requests.
  for (auto at = rings_.rbegin(); at != rings_.rend(); ++at) {
    const auto& [domid, ring] = *at;
    if (!ring->has_news() && std::find(told.begin(), told.end(), domid) == told.end()) continue;
    ring->act();
    did_act = true;
  }
  return did_act;
}

void World::act_all() {
  events_->take();
  for (const auto& [domid, ring] : rings_) ring->act();
}

void World::act_until(const std::function<bool()>& is_so, const std::string& what) {
  const auto end = deadline();
  while (problem_.empty()) {
    act();
    if (is_so()) return;
    pollfd waiting{events_->fd(), POLLIN, 0};
    if (::poll(&waiting, 1, milliseconds_until(end)) == 0) fail("waited in vain for " + what);
  }
}

/// The one message received, of that type.
std::string World::take_reply(const std::string& who, Op op, const std::vector<Message>& received) {
  expect(received.size() == 1 && received[0].type == static_cast<std::uint32_t>(op),
         who + " asked " + std::string(xenstored::op_name(static_cast<std::uint32_t>(op))) +
             " and received" + describe_all(received));
  return received.empty() ? std::string() : received[0].payload;
}

std::string World::call(std::uint16_t domid, Op op, std::string_view payload, std::uint32_t tx_id) {
  if (!problem_.empty()) return {};
  RingClient& asker = ring(domid);
  const std::string who = "domain " + std::to_string(domid);
  const std::uint32_t id = asker.ask(op, payload, tx_id);
  act_until([&] { return asker.reply_to(id) != nullptr; }, "a reply to " + who);
  const std::vector<Message> received = asker.received();
  asker.forget_received();
  return take_reply(who, op, received);
}

std::unique_ptr<SocketClient> World::open_client() {
  const auto end = deadline();
  for (;;) {
    auto client = SocketClient::open(server_.socket_path());
    if (client) return client;
    if (server_.has_ended()) fail("the server has ended by itself");
    if (Clock::now() > end) fail("the server does not listen");
    if (!problem_.empty()) return {};
    ::sched_yield();
  }
}

void World::read_until(SocketClient& client, const std::function<bool()>& is_so,
                       const std::string& what, bool may_be_closed) {
  const auto end = deadline();
  while (problem_.empty()) {
    client.read();
    if (is_so()) return;
    if (client.is_closed()) {
      if (!may_be_closed) fail("a socket was closed that waited for " + what);
      return;
    }
    pollfd waiting{client.fd(), POLLIN, 0};
    if (::poll(&waiting, 1, milliseconds_until(end)) == 0) fail("waited in vain for " + what);
  }
}

void World::watch(SocketClient& client, const std::string& path, const std::string& token) {
  client.ask(Op::kWatch, strings(path, token));
  read_until(
      client, [&] { return client.received().size() == 2; }, "the reply to a WATCH, and its event");
  client.forget_received();
}

std::string World::call(SocketClient& client, Op op, std::string_view payload,
                        std::uint32_t tx_id) {
  if (!problem_.empty()) return {};
  const std::uint32_t id = client.ask(op, payload, tx_id);
  read_until(
      client, [&] { return client.reply_to(id) != nullptr; }, "a reply to a socket");
  const std::vector<Message> received = client.received();
  client.forget_received();
  return take_reply("a socket client", op, received);
}

std::string World::socket_call(Op op, std::string_view payload) {
  if (!socket_) socket_ = open_client();
  return socket_ ? call(*socket_, op, payload) : std::string();
}

std::string World::inspect() {
  std::string all;
  for (std::string cursor; problem_.empty();) {
    const std::string lines =
        socket_call(Op::kControl, cursor.empty() ? strings("inspect") : strings("inspect", cursor));
    const std::size_t last = lines.find_last_of('\n', lines.size() - 3) + 1;  // before "\n\0"
    all += lines.substr(0, last);
    constexpr std::string_view kNext = "next ";
    if (lines.compare(last, kNext.size(), kNext) != 0) break;
    cursor = lines.substr(last + kNext.size(), lines.find('\n', last) - last - kNext.size());
  }
  return all;
}

void World::wait_idle() {
  if (!problem_.empty()) return;
  const auto address = server_.wait_idle(deadline());
  if (address) {
    wait_address_ = *address;
  } else {
    fail("the server does not become idle");
  }
}

void World::wait_quiet() {
  if (!problem_.empty()) return;
  expect(server_.wait_quiet(deadline()).has_value(), "the server does not become quiet");
}

void World::kill_server() {
  if (!options_.has_keeper) socket_.reset();
  server_.kill();
}

void World::ask_next(std::uint16_t domid) {
  if (next_asked_.contains(domid)) return;
  next_asked_[domid] = ring(domid).ask(Op::kGetDomainPath, strings(std::to_string(domid)));
}

void World::compare(const Transcripts& expected) {
  const auto of = [&expected](std::uint16_t domid) {
    const auto found = expected.find(domid);
    return found == expected.end() ? std::vector<Message>{} : found->second;
  };
  // Before anything is asked: a reply or event must not need another request to come.
  for (const auto& [domid, ring] : rings_) {
    act_until([&, domid = domid] { return ring->received().size() >= of(domid).size(); },
              "messages to domain " + std::to_string(domid));
  }
  for (const auto& [domid, ring] : rings_) ask_next(domid);
  for (const auto& [domid, ring] : rings_) {
    act_until([&, domid = domid] { return ring->reply_to(next_asked_[domid]) != nullptr; },
              "the reply to the next request of domain " + std::to_string(domid));
  }
  for (const auto& [domid, ring] : rings_) {
    std::vector<Message> wanted = of(domid);
    wanted.push_back(reply(Op::kGetDomainPath, next_asked_[domid], strings(home(domid))));
    compare("domain " + std::to_string(domid), ring->received(), wanted);
    ring->forget_received();
  }
  next_asked_.clear();
}

void World::compare(SocketClient& client, std::vector<Message> expected) {
  const std::size_t count = expected.size();
  read_until(
      client, [&] { return client.received().size() >= count; }, "messages to a socket");
  const std::uint32_t next = client.ask_next();
  read_until(
      client, [&] { return client.reply_to(next) != nullptr; },
      "the reply to the next request of a socket");
  expected.push_back(reply(Op::kGetDomainPath, next, strings(home(0))));
  compare("a socket client", client.received(), expected);
  client.forget_received();
}

void World::compare(const std::string& who, const std::vector<Message>& received,
                    const std::vector<Message>& expected) {
  expect(std::ranges::equal(received, expected, is_same),
         who + " received" + describe_all(received) + "\n    instead of" + describe_all(expected));
}

}  // namespace step
