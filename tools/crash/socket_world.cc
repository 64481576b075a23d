// SPDX-License-Identifier: MIT
#include "tools/crash/socket_world.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sstream>
#include <utility>

namespace crash {
namespace {

constexpr std::chrono::seconds kPatience{10};
constexpr std::string_view kHomes = "/c";
/// A client does not look at its connection in one of so many passes, at most so long.
constexpr std::uint64_t kSleepOneIn = 60;
constexpr std::uint64_t kSleepUs = 3000;
/// Now and then for longer, after it has asked for more than fits into the socket.
constexpr std::uint64_t kNapOneIn = 1500;
constexpr std::uint64_t kNapUs = 100'000;
constexpr int kMoreThanFits = 80;
/// It asks for nothing new, but takes events, once in so many passes.
constexpr std::uint64_t kPauseOneIn = 300;
constexpr std::uint64_t kPauseUs = 20'000;
/// Each so-many-th client does so nearly always.
constexpr std::size_t kQuietOneIn = 8;
constexpr std::uint64_t kQuietPauseOneIn = 20;
constexpr std::uint64_t kQuietPauseUs = 2'000'000;
/// Each so-many-th client's requests go out in pieces, smaller than the largest.
constexpr std::size_t kNarrowOneIn = 4;
/// Each so-many-th client never sets a watch.
constexpr std::size_t kWatchlessOneIn = 8;
/// A newcomer leaves in one of so many passes.
constexpr std::uint64_t kLeaveOneIn = 40;
/// A kill may strike a server that is still coming back from the one before, and so on.
constexpr std::size_t kKillsKept = 4;

std::string homes_of(std::size_t i) { return std::string(kHomes) + "/" + std::to_string(i); }

void make_narrow(const Connection& connection) {
  const int smallest = 1;  // the kernel makes about 4.5 KiB of it, its own needs included
  ::setsockopt(connection.fd(), SOL_SOCKET, SO_SNDBUF, &smallest, sizeof(smallest));
}

/// Empty when there is none.
std::string value_at(const Tree& tree, const std::string& path) {
  const auto node = tree.find(path);
  return node == tree.end() ? "" : node->second.value;
}

/// How many the server has, this one included (xenstored/handlers_inspect.cc).
store::Result<std::size_t, std::string> count_connections(const std::string& socket_path) {
  auto connection = Connection::open(socket_path);
  if (!connection) return failure(std::string("connect: ") + std::strerror(errno));
  std::size_t count = 0;
  std::string cursor = "1.0.0";
  while (cursor.starts_with("1.")) {
    const std::string payload = std::string("inspect") + '\0' + cursor + '\0';
    const auto frames = ask(*connection, {{Op::kControl, payload}});
    if (!frames.has_value()) return failure(frames.error());
    std::istringstream lines(frames->front().payload.c_str());
    cursor.clear();
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("connection ")) ++count;
      if (line.starts_with("next ")) cursor = line.substr(5);
    }
  }
  return count;
}

Tree without_counts(Tree tree) {
  for (auto& [path, node] : tree) {
    if (is_ring_counter(path)) node.value.clear();
  }
  return tree;
}

/// Error: one was refused.
Status ask_all(Connection& connection, const std::vector<Request>& requests) {
  const auto replies = ask(connection, requests);
  if (!replies.has_value()) return failure(replies.error());
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (replies.value()[i].type == Op::kError)
      return failure(text(requests[i]) + ": " + text(replies.value()[i]));
  }
  return {};
}

Status status_of(Verdict wrong) { return wrong ? Status(failure(*wrong)) : Status(); }

}  // namespace

SocketWorld::SocketWorld(const CampaignOptions& options)
    : socket_path_(options.server.directory + "/socket"),
      seed_(options.seed),
      calm_(options.calm),
      is_hurried_(options.is_hurried()),
      lasting_(options.sockets),
      random_(options.seed) {
  for (unsigned i = 0; i < options.sockets + options.newcomers; ++i)
    clients_.push_back(std::make_unique<SocketClient>(feeds_));
}

Status SocketWorld::make_shared_nodes(Connection& connection) {
  std::vector<Request> requests;
  for (std::size_t i = 0; i < clients_.size(); ++i)
    requests.push_back(path_request(Op::kMkdir, homes_of(i)));
  for (unsigned i = 0; i < kRingCounters; ++i)
    requests.push_back(write_request(ring_counter_path(i), "0"));
  if (Status made = ask_all(connection, requests); !made.has_value()) return made;
  const auto walked = walk(connection, {});
  if (!walked.has_value()) return failure(walked.error());
  shared_ = without_counts(walked.value().tree);
  return {};
}

Status SocketWorld::set_up(Connection& connection, const Server& server) {
  server_ = &server;
  if (Status made = make_shared_nodes(connection); !made.has_value()) return made;
  connection.close();
  for (std::size_t i = 0; i < clients_.size(); ++i) {
    clients_[i]->set_server(server);
    if (Verdict wrong = begin_life(i)) return failure(*wrong);
  }
  const auto all_to_be_kept = [this] {
    return std::all_of(clients_.begin(), clients_.end(),
                       [](const auto& client) { return client->is_to_be_kept(); });
  };
  if (Status done = go_on_until(all_to_be_kept); !done.has_value()) return done;
  is_resting_ = false;
  const auto begin_of_kills = Clock::now() + calm_;
  return go_on_until([begin_of_kills] { return Clock::now() >= begin_of_kills; });
}

Verdict SocketWorld::begin_life(std::size_t i) {
  const Clock::time_point began = Clock::now();
  auto connection = Connection::open(socket_path_);
  if (!connection) return std::string("connect: ") + std::strerror(errno);
  if (i % kNarrowOneIn == 1) make_narrow(*connection);
  const std::string life = "l" + std::to_string(++lives_);
  const std::string home = homes_of(i) + "/" + life;
  const RingIdentity identity{"socket client " + home,
                              home,
                              "",
                              std::make_shared<Feed>(home + "/p0", ""),
                              true,
                              i % kWatchlessOneIn != kWatchlessOneIn / 2};
  const Tree tree = {{homes_of(i), {"", {"n0"}, {}}}};
  clients_[i]->begin(
      std::move(*connection), began,
      std::make_unique<RingModel>(identity, tree, feeds_, counters_, statistics_),
      std::make_unique<RandomRingTraffic>(identity, feeds_, seed_ * 1'000'000 + lives_, life));
  return clients_[i]->run(false);
}

Verdict SocketWorld::end_life(std::size_t i) {
  SocketClient& client = *clients_[i];
  past_.push_back(client.end());
  return begin_life(i);
}

Verdict SocketWorld::closed(std::size_t i) {
  SocketClient& client = *clients_[i];
  ++(is_newcomer(i) ? sockets_.newcomers_closed : sockets_.closed);
  sockets_.closed_kept += client.is_kept() ? 1 : 0;
  client.busy().end();
  ends_.push_back({client.model().identity().name + "\n" + client.model().history(),
                   {client.began(), Clock::now()},
                   client.busy()});
  return end_life(i);
}

Verdict SocketWorld::let_nap(SocketClient& client) {
  for (int i = 0; i < kMoreThanFits; ++i) client.ask(large_question(client.model().identity()));
  Verdict wrong = client.run(false);
  client.sleep_until(Clock::now() + Microseconds(below(kNapUs)));
  return wrong;
}

void SocketWorld::let_rest(std::size_t i) {
  SocketClient& client = *clients_[i];
  const auto now = Clock::now();
  if (one_in(kSleepOneIn)) client.sleep_until(now + Microseconds(below(kSleepUs)));
  if (client.is_paused()) return;
  const bool is_quiet = i % kQuietOneIn == kQuietOneIn - 1;
  if (one_in(is_quiet ? kQuietPauseOneIn : kPauseOneIn))
    client.pause_until(now + Microseconds(below(is_quiet ? kQuietPauseUs : kPauseUs)));
}

// What no client does while all come to rest.
Verdict SocketWorld::act_up(std::size_t i) {
  if (is_newcomer(i) && one_in(kLeaveOneIn)) {
    ++sockets_.newcomers_left;
    return end_life(i);
  }
  const bool may_nap = clients_[i]->is_kept() && !clients_[i]->is_asleep();
  return may_nap && one_in(kNapOneIn) ? let_nap(*clients_[i]) : Verdict();
}

// One look at everybody.
Status SocketWorld::pass(const Server* server, bool& is_dead) {
  const bool is_hot = std::any_of(clients_.begin(), clients_.end(),
                                  [](const auto& client) { return client->is_hot(); });
  std::vector<pollfd> wanted;
  for (const auto& client : clients_)
    wanted.push_back({client->is_asleep() ? -1 : client->fd(), client->wanted_events(), 0});
  wanted.push_back({server == nullptr ? -1 : server->serving_fd(), POLLIN, 0});
  ::poll(wanted.data(), wanted.size(), is_hot ? 0 : 1);
  is_dead = wanted.back().revents != 0;

  for (std::size_t i = 0; i < clients_.size() && !wrong_; ++i) {
    SocketClient& client = *clients_[i];
    if (!is_resting_ && !client.is_asleep()) let_rest(i);
    wrong_ = client.run(wanted[i].revents != 0);
    if (!wrong_ && client.has_ended()) {
      wrong_ = closed(i);
    } else if (!wrong_ && !is_resting_) {
      wrong_ = act_up(i);
    }
  }
  if (std::exchange(progress_mark_, statistics_.replies) != statistics_.replies)
    progress_ = Clock::now();
  return status_of(wrong_);
}

store::Result<bool, std::string> SocketWorld::run_until_dead(const Server& server) {
  progress_ = Clock::now();
  bool is_dead = false;
  while (!is_dead) {
    if (Status status = pass(&server, is_dead); !status.has_value()) return failure(status.error());
    if (Clock::now() - progress_ > kPatience) return failure("nobody is served:\n" + who_waits());
  }
  return true;
}

void SocketWorld::killed(Clock::time_point at) {
  const TimeSpan kill{at, server_->killed_by()};
  for (const End& end : ends_) sockets_.busy_at_kill += end.busy.touch(kill) ? 1 : 0;
  for (const auto& client : clients_) {
    client->killed(at);
    sockets_.busy_at_kill += client->busy().touch(kill) ? 1 : 0;
  }
  kills_.push_back(kill);
  if (kills_.size() > kKillsKept) kills_.pop_front();
  if (!wrong_) wrong_ = judge_ends();
  for (const auto& client : clients_) client->busy().forget_before(kills_.front().from);
}

Verdict SocketWorld::judge_ends() {
  for (const End& end : ends_) {
    // In a hurry also one that was just being sent an event; how many of these is judged at last.
    const bool is_allowed =
        is_hurried_ || std::any_of(kills_.begin(), kills_.end(),
                                   [&](const TimeSpan& kill) { return end.busy.touch(kill); });
    if (!is_allowed)
      return "the connection of one was closed that was idle" + against_kills(end.life) + ": " +
             end.who;
  }
  ends_.clear();
  return {};
}

// For a person: how long before the last kill that was, and the others.
std::string SocketWorld::against_kills(const TimeSpan& span) const {
  if (kills_.empty()) return "";
  const auto ago = [this](Clock::time_point time) {
    const auto before = std::chrono::duration_cast<Microseconds>(kills_.back().to - time);
    return std::to_string(before.count());
  };
  std::string out = " (made " + ago(span.from) + " us before the last kill, its end seen " +
                    ago(span.to) + " before that; kills";
  for (const TimeSpan& kill : kills_) out += " " + ago(kill.from) + "-" + ago(kill.to);
  return out + ")";
}

std::string SocketWorld::who_waits() const {
  std::string out;
  for (const auto& client : clients_) {
    if (!client->is_idle()) out += client->model().history();
  }
  return out;
}

Status SocketWorld::go_on_until(const std::function<bool()>& is_done) {
  progress_ = Clock::now();
  while (!is_done()) {
    bool is_dead = false;
    if (Status status = pass(nullptr, is_dead); !status.has_value()) return status;
    if (Clock::now() - progress_ > kPatience)
      return failure("who is alive was not served:\n" + who_waits());
  }
  return {};
}

Status SocketWorld::come_to_rest() {
  is_resting_ = true;
  const auto all_idle = [this] {
    return std::all_of(clients_.begin(), clients_.end(),
                       [](const auto& client) { return client->is_idle(); });
  };
  for (const auto& client : clients_) {
    client->set_mode(RingMode::kSilent);
    client->sleep_until(Clock::now());
  }
  // What those who have left asked for last may still wait for another's transaction, and is done
  // then. Meanwhile somebody may find that he was closed, and begin anew.
  Status counted;
  const auto are_alone = [&] {
    if (!all_idle()) return false;
    const auto count = count_connections(socket_path_);
    if (!count.has_value()) counted = failure(count.error());
    return !count.has_value() || *count == clients_.size() + 1;  // with the one that asked
  };
  if (Status done = go_on_until(are_alone); !done.has_value()) return done;
  if (!counted.has_value()) return counted;
  // What was queued for anybody is before the answer to this.
  for (const auto& client : clients_) client->ask_fence();
  return go_on_until(all_idle);
}

// All that happened elsewhere was told, too.
Verdict SocketWorld::check_streams(const Tree& found) {
  for (const auto& model : past_) {
    if (Verdict wrong = model->resolve(found)) return wrong;
  }
  for (const auto& client : clients_) {
    const RingModel& model = client->model();
    Verdict wrong = model.check_complete();
    if (!wrong && !model.specials().empty()) wrong = "was told of a domain, and there is none";
    if (wrong) return model.identity().name + ": " + *wrong + "\n" + model.history();
  }
  return {};
}

Verdict SocketWorld::check_tree(const Walk& found) {
  Tree expected = shared_;
  std::vector<const RingModel*> models;
  for (const auto& model : past_) models.push_back(model.get());
  for (const auto& client : clients_) models.push_back(&client->model());
  for (const RingModel* model : models) {
    const std::string& home = model->identity().home;
    Tree part = cut_out(model->tree(), home);
    if (!part.empty()) expected.at(parent_of(home)).children.push_back(name_of(home));
    expected.merge(part);
  }
  const std::string lines = difference(expected, without_counts(found.tree));
  if (lines.empty()) return {};
  std::string histories;
  for (const RingModel* model : models) {
    if (lines.find(model->identity().home) != std::string::npos) histories += model->history();
  }
  return "the tree is not what everybody was told:\n" + lines + histories;
}

// Frees what lives that are over have made; their watchers are told of that, too.
Status SocketWorld::remove_past() {
  if (past_.empty()) return {};
  std::vector<Request> requests;
  for (const auto& model : past_) {
    if (model->tree().contains(model->identity().home))
      requests.push_back(path_request(Op::kRm, model->identity().home));
    if (model->tree().contains(model->identity().feed->top())) model->identity().feed->end();
  }
  auto connection = Connection::open(socket_path_);
  if (!connection) return failure(std::string("connect: ") + std::strerror(errno));
  if (Status removed = ask_all(*connection, requests); !removed.has_value()) return removed;
  for (const auto& model : past_) model->identity().feed->ended();
  past_.clear();
  return {};
}

Status SocketWorld::check(const Walk& found) {
  Verdict wrong = wrong_ ? wrong_ : judge_ends();
  if (!wrong) wrong = check_streams(found.tree);
  if (wrong) return failure(*wrong);
  for (const auto& model : past_) model->settle();
  for (const auto& client : clients_) {
    client->model().settle();
    client->traffic().settled(client->model().tree());
  }
  for (unsigned i = 0; i < kRingCounters && !wrong; ++i)
    wrong = counters_.check(ring_counter_path(i), value_at(found.tree, ring_counter_path(i)));
  if (!wrong) wrong = check_tree(found);
  if (wrong) return failure(*wrong);
  if (Status removed = remove_past(); !removed.has_value()) return removed;
  is_resting_ = false;
  for (const auto& client : clients_) client->set_mode(RingMode::kAll);
  return {};
}

}  // namespace crash
