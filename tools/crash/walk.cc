// SPDX-License-Identifier: MIT
#include "tools/crash/walk.h"

#include <poll.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "tools/crash/protocol.h"

namespace crash {
namespace {

constexpr int kPatienceMs = 10'000;
constexpr std::size_t kQuestions = 4;  // READ, GET_PERMS, DIRECTORY, DIRECTORY_PART

struct Part {
  std::uint64_t generation = 0;
  std::vector<std::string> children;
  bool is_last = false;
};

/// "<generation>\0" and children; one empty string more marks the end.
std::optional<Part> parse_part(const std::string& payload) {
  const std::size_t end = payload.find('\0');
  Part part;
  if (end == std::string::npos || end == 0) return {};
  const auto [stop, error] = std::from_chars(payload.data(), payload.data() + end, part.generation);
  if (error != std::errc{} || stop != payload.data() + end) return {};
  part.children = split(std::string_view(payload).substr(end + 1));
  if (!part.children.empty() && part.children.back().empty()) {
    part.is_last = true;
    part.children.pop_back();
  }
  return part;
}

std::string child_path(const std::string& path, const std::string& name) {
  return path == "/" ? "/" + name : path + "/" + name;
}

/// The rest of a directory too large for one DIRECTORY_PART.
store::Result<void, std::string> read_rest(Connection& connection, const std::string& path,
                                           Part& part) {
  while (!part.is_last) {
    std::size_t offset = 0;
    for (const std::string& child : part.children) offset += child.size() + 1;
    const auto replies = ask(connection, {directory_part_request(path, offset)});
    if (!replies.has_value()) return tl::unexpected(replies.error());
    std::optional<Part> more = parse_part(replies.value().front().payload);
    if (!more || more->generation != part.generation || (more->children.empty() && !more->is_last))
      return tl::unexpected("DIRECTORY_PART of " + path + ": " + text(replies.value().front()));
    part.children.insert(part.children.end(), more->children.begin(), more->children.end());
    part.is_last = more->is_last;
  }
  return {};
}

/// Adds the node that `answers` (kQuestions of them) are about.
store::Result<void, std::string> take_node(Connection& connection, const std::string& path,
                                           const Frame* answers, Walk& walk) {
  for (std::size_t i = 0; i < kQuestions; ++i) {
    const bool may_be_too_big = i == 2 && error_of(answers[i]) == "E2BIG";
    if (answers[i].type == Op::kError && !may_be_too_big)
      return tl::unexpected("walking, " + path + ": " + text(answers[i]));
  }
  std::optional<Part> part = parse_part(answers[3].payload);
  if (!part) return tl::unexpected("DIRECTORY_PART of " + path + ": " + text(answers[3]));
  const auto rest = read_rest(connection, path, *part);
  if (!rest.has_value()) return tl::unexpected(rest.error());
  if (answers[2].type != Op::kError && split(answers[2].payload) != part->children)
    return tl::unexpected("DIRECTORY and DIRECTORY_PART of " + path +
                          " differ: " + text(answers[2]) + " / " + text(answers[3]));
  walk.generations[path] = part->generation;
  walk.tree[path] = {answers[0].payload, split(answers[1].payload), part->children};
  return {};
}

}  // namespace

store::Result<std::vector<Frame>, std::string> ask(Connection& connection,
                                                   const std::vector<Request>& requests) {
  std::vector<Frame> replies;
  for (const Request& request : requests) connection.queue(request);
  while (replies.size() < requests.size()) {
    connection.flush();
    pollfd wanted{connection.fd(), POLLIN, 0};
    if (connection.wants_to_send()) wanted.events |= POLLOUT;
    if (::poll(&wanted, 1, kPatienceMs) == 0) {
      // A machine that stood still is told from a server that forgot.
      const bool is_late = ::poll(&wanted, 1, 3 * kPatienceMs) != 0;
      return tl::unexpected("no answer for ten seconds to " + text(requests[replies.size()]) +
                            (is_late ? ", only later" : ", nor for thirty more"));
    }
    const bool is_alive = connection.receive();
    while (std::optional<Frame> frame = connection.next()) {
      if (frame->type != Op::kWatchEvent) replies.push_back(std::move(*frame));
    }
    if (replies.size() < requests.size() && (!is_alive || connection.is_garbled()))
      return tl::unexpected("the connection ended before the answer to " +
                            text(requests[replies.size()]));
  }
  return replies;
}

store::Result<Walk, std::string> walk(Connection& connection, const std::vector<unsigned>& domids) {
  Walk result;
  std::vector<std::string> level = {"/"};
  while (!level.empty()) {
    std::vector<Request> questions;
    for (const std::string& path : level) {
      questions.push_back(path_request(Op::kRead, path));
      questions.push_back(path_request(Op::kGetPerms, path));
      questions.push_back(path_request(Op::kDirectory, path));
      questions.push_back(directory_part_request(path, 0));
    }
    const auto answers = ask(connection, questions);
    if (!answers.has_value()) return tl::unexpected(answers.error());
    std::vector<std::string> below;
    for (std::size_t i = 0; i < level.size(); ++i) {
      const auto taken = take_node(connection, level[i], &answers.value()[i * kQuestions], result);
      if (!taken.has_value()) return tl::unexpected(taken.error());
      for (const std::string& name : result.tree[level[i]].children)
        below.push_back(child_path(level[i], name));
    }
    level = std::move(below);
  }

  std::vector<Request> questions;
  questions.reserve(domids.size());
  for (const unsigned domid : domids)
    questions.push_back(domain_request(Op::kIsDomainIntroduced, domid));
  const auto answers = ask(connection, questions);
  if (!answers.has_value()) return tl::unexpected(answers.error());
  for (std::size_t i = 0; i < domids.size(); ++i) {
    if (answers.value()[i].payload.starts_with('T')) result.introduced.insert(domids[i]);
  }
  return result;
}

}  // namespace crash
