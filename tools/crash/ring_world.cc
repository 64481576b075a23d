// SPDX-License-Identifier: MIT
#include "tools/crash/ring_world.h"

#include <poll.h>

#include <algorithm>
#include <set>

namespace crash {
namespace {

constexpr std::chrono::seconds kPatience{10};
constexpr std::string_view kKernelHome = "/c/kernel";
constexpr std::string_view kPublisherTop = "/c/publisher";
constexpr std::string_view kDomains = "/local/domain";
constexpr int kSuspend = 2;
/// A client sleeps in one of so many passes, at most so long.
constexpr std::uint64_t kSleepOneIn = 60;
constexpr std::uint64_t kSleepUs = 3000;
constexpr std::uint32_t kWatchDepth = 4;    ///< of server_features
constexpr std::size_t kSpecialWatches = 2;  ///< the first that the kernel sets
/// A toolstack that has nothing to do does something in one of so many passes.
constexpr std::uint64_t kActionOneIn = 12;

simxen::Uuid uuid_of(std::uint64_t life) {
  simxen::Uuid uuid{};
  for (std::size_t i = 0; i < 8; ++i) uuid[i] = static_cast<std::uint8_t>(life >> (8 * i));
  uuid[15] = 1;
  return uuid;
}

std::string numbers(std::initializer_list<std::uint64_t> words) {
  std::string out;
  for (const std::uint64_t word : words) out += std::to_string(word) + '\0';
  return out;
}

}  // namespace

RingWorld::RingWorld(const std::string& directory, unsigned guests, std::uint64_t seed)
    : machine_(simxen::Machine::make(directory + "/machine")),
      events_(machine_),
      random_(seed),
      seed_(seed),
      made_(guests),
      introduced_(guests),
      caller_(directory + "/socket"),
      progress_(Clock::now()) {
  kernel_ = std::make_unique<RingClient>(std::uint16_t{0}, feeds_);
  for (unsigned i = 0; i < guests; ++i)
    slots_.push_back(
        std::make_unique<RingClient>(static_cast<std::uint16_t>(kFirstGuestDomid + i), feeds_));
  auto feed = std::make_shared<Feed>(std::string(kPublisherTop), "");
  feeds_[feed->top()] = feed;
  all_feeds_.push_back(feed);
  publisher_ = std::make_unique<Publisher>(directory + "/socket", feed, feeds_, seed);
}

std::vector<std::string> RingWorld::environment(const std::string& libraries) const {
  return {"SIMXEN=" + machine_.dir(), "LD_PRELOAD=" + libraries};
}

std::vector<unsigned> RingWorld::domids() const {
  std::vector<unsigned> domids;
  for (const auto& slot : slots_) domids.push_back(slot->domid());
  return domids;
}

Status RingWorld::fail_if(Verdict wrong) const {
  return wrong ? Status(failure(*wrong)) : Status();
}

Status RingWorld::set_up(Connection& connection, const Server& server) {
  kernel_->set_server(server);
  for (const auto& slot : slots_) slot->set_server(server);
  std::vector<Request> requests = {
      path_request(Op::kMkdir, kDomains), path_request(Op::kMkdir, kKernelHome),
      path_request(Op::kMkdir, kPublisherTop), set_perms_request(kPublisherTop, {"r0"})};
  for (unsigned i = 0; i < kRingCounters; ++i) {
    requests.push_back(write_request(ring_counter_path(i), "0"));
    requests.push_back(set_perms_request(ring_counter_path(i), {"b0"}));
  }
  const auto replies = ask(connection, requests);
  if (!replies.has_value()) return failure(replies.error());
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (replies.value()[i].type == Op::kError)
      return failure("setting up: " + text(requests[i]) + ": " + text(replies.value()[i]));
  }
  const auto walked = walk(connection, {});
  if (!walked.has_value()) return failure(walked.error());
  publisher_tree_ = cut_out(walked.value().tree, std::string(kPublisherTop));
  rest_ = rest_of(walked.value().tree);
  connection.close();

  begin_kernel();
  add("the kernel's watches on domains",
      [this] { return kernel_->model().watches().size() >= kSpecialWatches; });
  for (std::size_t i = 0; i < slots_.size(); ++i) add_build(i);
  const Status done = rest_until([this] { return steps_.empty(); });
  is_resting_ = false;
  return done;
}

void RingWorld::begin_kernel() {
  const std::string home(kKernelHome);
  auto feed = std::make_shared<Feed>(home + "/p0", "");
  all_feeds_.push_back(feed);
  auto guest = std::make_unique<simxen::Guest>(machine_, events_, std::uint16_t{0});
  is_precise_ = (guest->page().server_features & kWatchDepth) != 0;
  RingIdentity identity{"dom0's kernel", home, "", feed, is_precise_};
  Tree tree;
  tree[home] = {"", {"n0"}, {}};
  auto traffic = make_traffic(slots_.size(), identity);
  kernel_->begin(std::move(guest),
                 std::make_unique<RingModel>(identity, tree, feeds_, counters_, statistics_),
                 std::move(traffic));
}

std::string RingWorld::home_of(std::size_t slot) const {
  return std::string(kDomains) + "/" + std::to_string(slots_[slot]->domid());
}

RingIdentity RingWorld::identity_for(std::size_t slot) {
  const std::string domid = std::to_string(slots_[slot]->domid());
  auto feed = std::make_shared<Feed>(home_of(slot) + "/p" + std::to_string(++lives_), domid);
  all_feeds_.push_back(feed);
  return {"domain " + domid, home_of(slot), domid, feed, is_precise_};
}

void RingWorld::begin_life(std::size_t slot) {
  const RingIdentity identity = identity_for(slot);
  Tree tree;
  tree[identity.home] = {"", {"n" + identity.creator}, {}};
  auto traffic = make_traffic(slot, identity);
  slots_[slot]->begin(std::make_unique<simxen::Guest>(machine_, events_, slots_[slot]->domid()),
                      std::make_unique<RingModel>(identity, tree, feeds_, counters_, statistics_),
                      std::move(traffic));
  introduced_[slot] = true;
}

std::unique_ptr<RingTraffic> RingWorld::make_traffic(std::size_t slot,
                                                     const RingIdentity& identity) {
  const std::string tag =
      slot == slots_.size() ? "k" : std::to_string(slot) + "l" + std::to_string(lives_);
  return std::make_unique<RandomRingTraffic>(identity, feeds_, seed_ * 1000 + lives_, tag);
}

// The toolstack.

void RingWorld::add_call(const Request& request, const std::string& also_right) {
  auto is_asked = std::make_shared<bool>(false);
  add(text(request), [this, request, also_right, is_asked] {
    if (!std::exchange(*is_asked, true)) caller_.call(request);
    if (caller_.is_busy()) return false;
    const std::string error = error_of(caller_.answer());
    if (!error.empty() && (error != also_right || !caller_.was_repeated()))
      wrong_step_ = "the toolstack's " + text(request) + ": " + text(caller_.answer());
    return true;
  });
}

void RingWorld::make_domain(std::size_t slot) {
  const std::uint16_t domid = slots_[slot]->domid();
  if (!machine_.exists(domid)) made_[slot] = machine_.create(domid, uuid_of(++lives_));
}

// The numbers are known once the domain was created.
void RingWorld::add_introduction(std::size_t slot) {
  auto is_asked = std::make_shared<bool>(false);
  add("INTRODUCE " + home_of(slot), [this, slot, is_asked] {
    if (!std::exchange(*is_asked, true))
      caller_.call(
          {Op::kIntroduce, numbers({slots_[slot]->domid(), made_[slot].gfn, made_[slot].port}), 0});
    if (caller_.is_busy()) return false;
    if (!error_of(caller_.answer()).empty())
      wrong_step_ = "INTRODUCE " + home_of(slot) + ": " + text(caller_.answer());
    return true;
  });
}

void RingWorld::add_home(std::size_t slot) {
  add_call(path_request(Op::kMkdir, home_of(slot)));
  add_call(set_perms_request(home_of(slot), {"n" + std::to_string(slots_[slot]->domid())}));
}

void RingWorld::add_begin(std::size_t slot) {
  add("begin", [this, slot] {
    begin_life(slot);
    return true;
  });
}

void RingWorld::add_build(std::size_t slot) {
  add("create", [this, slot] {
    make_domain(slot);
    ++introductions_[slots_[slot]->domid()];
    ++statistics_.introductions;
    return true;
  });
  add_home(slot);
  add_introduction(slot);
  add_begin(slot);
}

std::uint64_t RingWorld::special(const std::string& name, std::uint16_t domid) const {
  const auto& specials = kernel_->model().specials();
  const auto found = specials.find(name + "/" + std::to_string(domid));
  return found == specials.end() ? 0 : found->second;
}

void RingWorld::add_wait_for_release(std::size_t slot) {
  const std::uint16_t domid = slots_[slot]->domid();
  add("@releaseDomain/" + std::to_string(domid),
      [this, domid] { return was_told_of_release(domid); });
}

// Who is not told which domain it was has to be content with any event.
bool RingWorld::was_told_of_release(std::uint16_t domid) const {
  if (is_precise_) return special("@releaseDomain", domid) >= releases_.at(domid);
  std::uint64_t all = 0;
  for (const auto& [id, count] : releases_) all += count;
  const auto told = kernel_->model().specials().find("@releaseDomain");
  return told != kernel_->model().specials().end() && told->second >= all;
}

void RingWorld::destroy(const std::vector<std::size_t>& slots) {
  add("destroy", [this, slots] {
    std::vector<std::uint16_t> domids;
    for (const std::size_t slot : slots) {
      slots_[slot]->end(RingClient::State::kAbsent);
      domids.push_back(slots_[slot]->domid());
      ++releases_[slots_[slot]->domid()];
      ++statistics_.deaths;
      introduced_[slot] = false;
    }
    machine_.destroy(domids);
    return true;
  });
  for (const std::size_t slot : slots) {
    add_wait_for_release(slot);
    add("gone", [this, slot] {
      slots_[slot]->ended();
      return true;
    });
    add_build(slot);
  }
}

void RingWorld::reuse(std::size_t slot, bool introduces_first) {
  const std::uint16_t domid = slots_[slot]->domid();
  add("replace", [this, slot, domid] {
    slots_[slot]->end(RingClient::State::kAbsent);
    ++releases_[domid];
    ++statistics_.deaths;
    introduced_[slot] = false;
    machine_.destroy({domid});
    make_domain(slot);
    return true;
  });
  const auto gone = [this, slot] {
    slots_[slot]->model().identity().feed->ended();
    return true;
  };
  if (!introduces_first) {
    add_wait_for_release(slot);
    add("gone", gone);
    add_build(slot);
    return;
  }
  // The introduction of the new one makes the end of the old one known.
  add("count", [this, domid] {
    ++introductions_[domid];
    ++statistics_.introductions;
    return true;
  });
  add_introduction(slot);
  add_wait_for_release(slot);
  add("gone", gone);
  add_home(slot);
  add_begin(slot);
}

void RingWorld::die_slowly(std::size_t slot) {
  const std::uint16_t domid = slots_[slot]->domid();
  add("die", [this, slot, domid] {
    slots_[slot]->end(RingClient::State::kEnding);
    ++releases_[domid];
    ++statistics_.deaths;
    introduced_[slot] = false;
    machine_.start_dying(domid);
    return true;
  });
  add_wait_for_release(slot);
  add("gone", [this, slot, domid] {
    slots_[slot]->ended();
    machine_.destroy({domid});
    return true;
  });
  add_build(slot);
}

void RingWorld::release(std::size_t slot) {
  const std::uint16_t domid = slots_[slot]->domid();
  add("end", [this, slot, domid] {
    slots_[slot]->end(RingClient::State::kEnding);
    ++releases_[domid];
    ++statistics_.deaths;
    introduced_[slot] = false;
    return true;
  });
  add_call(domain_request(Op::kRelease, domid), "ENOENT");
  add_wait_for_release(slot);
  add("gone", [this, slot] {
    slots_[slot]->ended();
    return true;
  });
  add_build(slot);
}

void RingWorld::shut_down(std::size_t slot) {
  const std::uint16_t domid = slots_[slot]->domid();
  add("shut down", [this, domid] {
    ++releases_[domid];
    ++statistics_.shutdowns;
    machine_.shut_down(domid, kSuspend);
    return true;
  });
  add_wait_for_release(slot);
  add("resume", [this, domid] {
    machine_.resume(domid);
    return true;
  });
  add_call(domain_request(Op::kResume, domid));
}

void RingWorld::add_wait_for_feed_only(std::size_t slot) {
  add("only what can be found out is under way", [this, slot] {
    slots_[slot]->set_mode(RingMode::kFeedOnly);
    return slots_[slot]->model().has_only_feed_unanswered();
  });
}

void RingWorld::introduce_again(std::size_t slot) {
  add_wait_for_feed_only(slot);
  add("freeze", [this, slot] {
    slots_[slot]->freeze();
    ++statistics_.reintroductions;
    return true;
  });
  add_introduction(slot);
  add("go on", [this, slot] {
    slots_[slot]->restart();
    slots_[slot]->set_mode(is_resting_ ? RingMode::kSilent : RingMode::kAll);
    return true;
  });
}

void RingWorld::reconnect(std::size_t slot) {
  add_wait_for_feed_only(slot);
  add("ask for a reconnection", [this, slot] {
    slots_[slot]->ask_for_reconnection();
    ++statistics_.reconnections;
    return true;
  });
  add("reconnection", [this, slot] {
    if (!slots_[slot]->is_reconnected()) return false;
    slots_[slot]->restart();
    slots_[slot]->set_mode(is_resting_ ? RingMode::kSilent : RingMode::kAll);
    return true;
  });
}

void RingWorld::choose_action() {
  if (slots_.empty() || random_() % kActionOneIn != 0) return;
  const std::size_t slot = random_() % slots_.size();
  const bool is_plain = !is_precise_;  // such a server knows only the end of a domain
  switch (is_plain ? 2 + random_() % 3 : random_() % 10) {
    case 0: {
      std::vector<std::size_t> doomed;
      for (std::size_t i = 0; i < slots_.size(); ++i) {
        if (i == slot || random_() % 4 == 0) doomed.push_back(i);
      }
      return destroy(doomed);
    }
    case 1:
      return reuse(slot, random_() % 2 == 0);
    case 2:
      return die_slowly(slot);
    case 3:
      return release(slot);
    case 4:
    case 5:
      return shut_down(slot);
    case 6:
    case 7:
      return introduce_again(slot);
    default:
      return reconnect(slot);
  }
}

void RingWorld::run_toolstack() {
  caller_.run();
  if (steps_.empty() && !is_resting_) choose_action();
  while (!steps_.empty() && !wrong_step_) {
    if (!steps_.front().step()) return;
    steps_.pop_front();
    progress_ = Clock::now();
  }
}

// One look at everybody.
Status RingWorld::pass(const Server* server, bool& is_dead) {
  std::vector<RingClient*> clients = present();
  const bool is_hot = std::any_of(clients.begin(), clients.end(),
                                  [](const RingClient* client) { return client->is_hot(); });
  std::vector<pollfd> wanted = {{events_.fd(), POLLIN, 0},
                                {caller_.fd(), POLLIN, 0},
                                {publisher_->fd(), POLLIN, 0},
                                {server == nullptr ? -1 : server->serving_fd(), POLLIN, 0}};
  ::poll(wanted.data(), wanted.size(), is_hot ? 0 : 1);
  is_dead = wanted[3].revents != 0;

  const std::vector<std::uint16_t> told = events_.take();
  const std::set<std::uint16_t> woken(told.begin(), told.end());
  for (RingClient* client : clients) {
    if (!is_resting_ && !is_predictable_ && random_() % kSleepOneIn == 0)
      client->sleep_until(Clock::now() + Microseconds(random_() % kSleepUs));
    if (Verdict wrong = client->run(woken.contains(client->domid()))) return fail_if(wrong);
  }
  if (Verdict wrong = publisher_->run(is_resting_)) return fail_if(wrong);
  run_toolstack();
  if (wrong_step_) return fail_if(wrong_step_);
  if (std::exchange(progress_mark_, statistics_.replies) != statistics_.replies)
    progress_ = Clock::now();
  return {};
}

std::vector<RingClient*> RingWorld::present() {
  std::vector<RingClient*> clients = {kernel_.get()};
  for (const auto& slot : slots_) {
    if (slot->state() != RingClient::State::kAbsent) clients.push_back(slot.get());
  }
  return clients;
}

store::Result<bool, std::string> RingWorld::run_until_dead(const Server& server) {
  progress_ = Clock::now();
  bool is_dead = false;
  while (!is_dead) {
    if (Status status = pass(&server, is_dead); !status.has_value()) return failure(status.error());
    if (Clock::now() - progress_ > kPatience) return failure("nobody is served:\n" + who_waits());
    if (has_finished() && steps_.empty() && are_clients_finished()) return false;
  }
  return true;
}

bool RingWorld::are_clients_finished() const {
  return kernel_->is_finished() && std::all_of(slots_.begin(), slots_.end(), [](const auto& slot) {
           return slot->is_finished();
         });
}

void RingWorld::be_predictable(std::uint64_t changes) {
  is_predictable_ = true;
  publisher_->set_budget(changes);
}

void RingWorld::killed(Clock::time_point at) {
  kernel_->killed(at);
  for (const auto& slot : slots_) slot->killed(at);
}

std::string RingWorld::who_waits() const {
  std::string out;
  if (!steps_.empty()) out += "  the toolstack: " + steps_.front().name + "\n";
  if (caller_.is_busy()) out += "  its request: " + caller_.request_text() + "\n";
  if (!kernel_->is_idle()) out += kernel_->model().history();
  for (const auto& slot : slots_) {
    if (!slot->is_idle()) out += slot->model().history();
  }
  return out;
}

Status RingWorld::rest_until(const std::function<bool()>& is_done) {
  progress_ = Clock::now();
  while (!is_done()) {
    bool is_dead = false;
    if (Status status = pass(nullptr, is_dead); !status.has_value()) return status;
    if (Clock::now() - progress_ > kPatience)
      return failure("who is alive was not served:\n" + who_waits());
  }
  return {};
}

Status RingWorld::come_to_rest() {
  is_resting_ = true;
  const auto all_idle = [this] {
    const auto clients = present();
    return publisher_->is_idle() &&
           std::all_of(clients.begin(), clients.end(), [](const auto* c) { return c->is_idle(); });
  };
  if (Status done = rest_until([this] { return steps_.empty(); }); !done.has_value()) return done;
  for (RingClient* client : present()) client->set_mode(RingMode::kSilent);
  if (Status done = rest_until(all_idle); !done.has_value()) return done;
  // What was queued for anybody is before the answer to this.
  for (RingClient* client : present()) client->ask_fence();
  const Status done = rest_until(all_idle);
  publisher_->cut();
  return done;
}

Verdict RingWorld::check_specials() const {
  if (!is_precise_) return {};
  for (const auto& slot : slots_) {
    const std::uint16_t domid = slot->domid();
    for (const auto& [name, wanted] : {std::pair("@releaseDomain", &releases_),
                                       std::pair("@introduceDomain", &introductions_)}) {
      const auto found = wanted->find(domid);
      const std::uint64_t count = found == wanted->end() ? 0 : found->second;
      if (special(name, domid) != count)
        return std::string(name) + "/" + std::to_string(domid) + " was told " +
               std::to_string(special(name, domid)) + " times instead of " + std::to_string(count) +
               "\n" + kernel_->model().history();
    }
  }
  return {};
}

Tree RingWorld::rest_of(const Tree& whole) const {
  Tree rest;
  for (const auto& [path, node] : whole) {
    const bool is_somebodys = (is_within(path, kDomains) && path != kDomains) ||
                              is_within(path, kKernelHome) || is_within(path, kPublisherTop);
    if (is_somebodys) continue;
    Node& kept = rest[path] = node;
    if (path == kDomains) kept.children.clear();
    if (is_ring_counter(path)) kept.value.clear();
  }
  return rest;
}

Verdict RingWorld::check_tree(const Walk& found) {
  std::string lines = difference(rest_, rest_of(found.tree));
  for (RingClient* client : present()) {
    const RingModel& model = client->model();
    lines += difference(model.tree(), cut_out(found.tree, model.identity().home));
  }
  lines += difference(publisher_tree_, cut_out(found.tree, std::string(kPublisherTop)));
  if (!lines.empty()) {
    for (RingClient* client : present()) lines += client->model().history();
    return "the tree is not what everybody was told:\n" + lines;
  }
  std::set<unsigned> introduced;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    if (introduced_[i]) introduced.insert(slots_[i]->domid());
  }
  if (found.introduced != introduced) return "other domains are introduced than should be";
  const auto domains = found.tree.find(std::string(kDomains));
  if (domains->second.children.size() != introduced.size())
    return "nodes of domains that are gone are still there";
  return {};
}

Status RingWorld::check(const Walk& found) {
  for (const auto& feed : all_feeds_) feed->decide(found.tree);
  for (RingClient* client : present()) {
    if (Verdict wrong = client->model().check_complete())
      return fail_if(client->model().identity().name + ": " + *wrong + "\n" +
                     client->model().history());
  }
  for (RingClient* client : present()) {
    client->model().settle();
    client->traffic().settled(client->model().tree());
  }
  publisher_->feed().settle(publisher_tree_);
  publisher_->settled(publisher_tree_);
  if (Verdict wrong = check_specials()) return fail_if(wrong);
  for (unsigned i = 0; i < kRingCounters; ++i) {
    const std::string path = ring_counter_path(i);
    if (Verdict wrong = counters_.check(path, found.tree.at(path).value)) return fail_if(wrong);
  }
  if (Verdict wrong = check_tree(found)) return fail_if(wrong);
  std::erase_if(all_feeds_, [](const auto& feed) { return feed->has_ended(); });
  is_resting_ = false;
  for (RingClient* client : present()) client->set_mode(RingMode::kAll);
  return {};
}

}  // namespace crash
