// SPDX-License-Identifier: MIT
#include "tools/crash/session.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace crash {
namespace {

/// A server that neither answers nor dies is wrong too.
constexpr int kPatienceMs = 10'000;

void send_more(Client& client, Checker& checker) {
  while (client.unanswered.size() < client.traffic->window()) {
    const std::optional<Request> request = client.traffic->next();
    if (!request) break;
    const std::uint32_t req_id = client.connection.queue(*request);
    checker.sent(client.region.client, req_id, *request);
    client.unanswered.push_back(*request);
  }
  client.connection.flush();
}

Verdict take_frames(Client& client, Checker& checker) {
  client.is_done = !client.connection.receive();
  while (const std::optional<Frame> frame = client.connection.next()) {
    if (Verdict wrong = checker.received(client.region.client, *frame)) return wrong;
    if (frame->type == Op::kWatchEvent) continue;
    const Request request = client.unanswered.front();
    client.unanswered.pop_front();
    client.traffic->replied(request, *frame);
  }
  if (client.connection.is_garbled()) return "a frame longer than any may be";
  return {};
}

/// Sends what the clients have to send; lists what to wait for, the server first.
std::vector<pollfd> send_and_list(std::vector<Client>& clients, Checker& checker,
                                  const Server& server) {
  std::vector<pollfd> wanted = {{server.serving_fd(), POLLIN, 0}};
  for (Client& client : clients) {
    if (client.is_done) continue;
    send_more(client, checker);
    const int events = POLLIN | (client.connection.wants_to_send() ? POLLOUT : 0);
    wanted.push_back({client.connection.fd(), static_cast<short>(events), 0});
  }
  return wanted;
}

bool is_quiet(const Client& client) {
  return !client.is_done && client.unanswered.empty() && !client.connection.wants_to_send();
}

void add(std::vector<Request>& requests, const std::string& path, const std::string& value) {
  requests.push_back(write_request(path, value));
}

std::vector<Request> set_up_requests(const std::vector<Client>& clients) {
  std::vector<Request> requests;
  for (const Client& client : clients) {
    const Region& region = client.region;
    requests.push_back(path_request(Op::kMkdir, region.root));
    requests.push_back(path_request(Op::kMkdir, region.side));
  }
  requests.push_back(path_request(Op::kMkdir, kOutposts));
  for (unsigned i = 0; i < kRegisters; ++i) add(requests, register_path(i), "first");
  for (unsigned i = 0; i < kCounters; ++i) add(requests, counter_path(i), "0");
  for (unsigned i = 0; i < kGroups; ++i) {
    for (unsigned j = 0; j < kGroupSize; ++j) add(requests, group_path(i, j), "first");
  }
  return requests;
}

}  // namespace

std::vector<unsigned> domids_of(const std::vector<Client>& clients) {
  std::vector<unsigned> domids;
  for (const Client& client : clients) {
    const std::vector<unsigned> own = client.region.domids();
    domids.insert(domids.end(), own.begin(), own.end());
  }
  return domids;
}

store::Result<Walk, std::string> set_up(Connection& connection,
                                        const std::vector<Client>& clients) {
  const std::vector<Request> requests = set_up_requests(clients);
  const auto replies = ask(connection, requests);
  if (!replies.has_value()) return failure(replies.error());
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (replies.value()[i].type == Op::kError)
      return failure("setting up: " + text(requests[i]) + ": " + text(replies.value()[i]));
  }
  return walk(connection, domids_of(clients));
}

Status connect(std::vector<Client>& clients, const Server& server, const Tree& found) {
  for (Client& client : clients) {
    auto connection = Connection::open(server.socket_path());
    if (!connection) return failure(std::string("connect: ") + std::strerror(errno));
    client.connection = std::move(*connection);
    client.unanswered.clear();
    client.is_done = false;
    client.traffic->connected(found);
  }
  return {};
}

Round run_clients(std::vector<Client>& clients, Checker& checker, const Server& server) {
  Clock::time_point first_end = Clock::time_point::max();
  while (true) {
    std::vector<pollfd> ready = send_and_list(clients, checker, server);
    if (std::all_of(clients.begin(), clients.end(), is_quiet))
      return {Outcome::kFinished, "", first_end};
    if (::poll(ready.data(), ready.size(), kPatienceMs) == 0)
      return {Outcome::kWrong, "the server neither answers nor dies", first_end};

    // The server's connections are closed before its pidfd tells of its death,
    // so what is still open after this pass belongs to the next server.
    const bool is_dead = ready.front().revents != 0;
    for (Client& client : clients) {
      if (client.is_done) continue;
      if (Verdict wrong = take_frames(client, checker)) return {Outcome::kWrong, *wrong, first_end};
      if (client.is_done) first_end = std::min(first_end, Clock::now());
    }
    const bool are_done = std::all_of(clients.begin(), clients.end(),
                                      [](const Client& client) { return client.is_done; });
    if (are_done) return {Outcome::kCut, "", first_end};
    if (is_dead) return {Outcome::kSurvived, "", first_end};
  }
}

}  // namespace crash
