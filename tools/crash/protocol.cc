// SPDX-License-Identifier: MIT
#include "tools/crash/protocol.h"

#include <algorithm>
#include <array>
#include <cstdio>

namespace crash {
namespace {

constexpr std::array<std::string_view, 27> kOpNames = {"CONTROL",
                                                       "DIRECTORY",
                                                       "READ",
                                                       "GET_PERMS",
                                                       "WATCH",
                                                       "UNWATCH",
                                                       "TRANSACTION_START",
                                                       "TRANSACTION_END",
                                                       "INTRODUCE",
                                                       "RELEASE",
                                                       "GET_DOMAIN_PATH",
                                                       "WRITE",
                                                       "MKDIR",
                                                       "RM",
                                                       "SET_PERMS",
                                                       "WATCH_EVENT",
                                                       "ERROR",
                                                       "IS_DOMAIN_INTRODUCED",
                                                       "RESUME",
                                                       "SET_TARGET",
                                                       "RESTRICT",
                                                       "RESET_WATCHES",
                                                       "DIRECTORY_PART",
                                                       "GET_FEATURE",
                                                       "SET_FEATURE",
                                                       "GET_QUOTA",
                                                       "SET_QUOTA"};

std::string name(Op op) {
  const auto number = static_cast<std::uint32_t>(op);
  return number < kOpNames.size() ? std::string(kOpNames[number])
                                  : "type " + std::to_string(number);
}

std::string terminated(std::string_view text) {
  std::string out(text);
  out.push_back('\0');
  return out;
}

}  // namespace

Request path_request(Op op, std::string_view path, std::uint32_t tx) {
  return {op, terminated(path), tx};
}

Request write_request(std::string_view path, std::string_view value, std::uint32_t tx) {
  return {Op::kWrite, terminated(path).append(value), tx};
}

Request set_perms_request(std::string_view path, const std::vector<std::string>& perms,
                          std::uint32_t tx) {
  std::string payload = terminated(path);
  for (const std::string& perm : perms) payload += terminated(perm);
  return {Op::kSetPerms, payload, tx};
}

Request directory_part_request(std::string_view path, std::size_t offset) {
  return {Op::kDirectoryPart, terminated(path) + terminated(std::to_string(offset)), 0};
}

Request start_request() { return {Op::kTransactionStart, terminated(""), 0}; }

Request end_request(std::uint32_t tx, bool commit) {
  return {Op::kTransactionEnd, terminated(commit ? "T" : "F"), tx};
}

Request watch_request(Op op, std::string_view path, std::string_view token) {
  return {op, terminated(path) + terminated(token), 0};
}

Request introduce_request(unsigned domid) {
  // Frame number and port mean nothing to a server without rings (-D).
  return {Op::kIntroduce, terminated(std::to_string(domid)) + terminated("1") + terminated("1"), 0};
}

Request domain_request(Op op, unsigned domid) { return {op, terminated(std::to_string(domid)), 0}; }

Request reset_watches_request() { return {Op::kResetWatches, terminated(""), 0}; }

std::string encode(const Request& request, std::uint32_t req_id) {
  const xenstored::Header header{static_cast<std::uint32_t>(request.op), req_id, request.tx,
                                 static_cast<std::uint32_t>(request.payload.size())};
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof(header));
  return bytes + request.payload;
}

std::vector<std::string> split(std::string_view payload) {
  std::vector<std::string> strings;
  while (!payload.empty()) {
    const std::size_t end = std::min(payload.find('\0'), payload.size());
    strings.emplace_back(payload.substr(0, end));
    payload.remove_prefix(std::min(end + 1, payload.size()));
  }
  return strings;
}

std::string path_of(const Request& request) {
  return request.payload.substr(0, request.payload.find('\0'));
}

std::string_view value_of(const Request& request) {
  const std::size_t end = request.payload.find('\0');
  return end == std::string::npos ? std::string_view{}
                                  : std::string_view(request.payload).substr(end + 1);
}

std::string error_of(const Frame& frame) {
  return frame.type == Op::kError ? frame.payload.substr(0, frame.payload.find('\0')) : "";
}

bool changes_state(Op op) {
  return op == Op::kWrite || op == Op::kMkdir || op == Op::kRm || op == Op::kSetPerms ||
         op == Op::kIntroduce || op == Op::kRelease || op == Op::kTransactionEnd;
}

std::string printable(std::string_view bytes) {
  constexpr std::size_t kShown = 60;
  std::string out;
  for (const char c : bytes.substr(0, kShown)) {
    out.push_back(c == '\0' ? ' ' : (c < ' ' || c > '~') ? '?' : c);
  }
  if (bytes.size() > kShown) out += "...(" + std::to_string(bytes.size()) + " bytes)";
  return out;
}

std::string text(const Request& request) {
  std::string out = name(request.op);
  if (request.tx != 0) out += " tx=" + std::to_string(request.tx);
  return out + " " + printable(request.payload);
}

std::string text(const Frame& frame) {
  return (frame.type == Op::kError ? "ERROR " : name(frame.type) + " answered ") +
         printable(frame.payload);
}

}  // namespace crash
