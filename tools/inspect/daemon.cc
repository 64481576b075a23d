// SPDX-License-Identifier: MIT
// The running daemon, asked by CONTROL.
#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>
#include <system_error>
#include <utility>

#include "store/path.h"
#include "tools/common/client.h"
#include "tools/common/daemon_tree.h"
#include "tools/inspect/state.h"

namespace inspect {
namespace {

/// Of a daemon that would never come to an end.
constexpr int kRepliesMax = 1'000'000;

/// One CONTROL request and its reply's strings.
Result<std::string> control(tools::Client& client, std::string_view command) {
  auto reply = client.ask(xenstored::Op::kControl, command);
  if (!reply.has_value()) return tl::unexpected(reply.error());
  std::string payload = std::move(reply.value().payload);
  payload.resize(std::strlen(payload.c_str()));
  if (!reply.value().is_error) return payload;
  return tl::unexpected("the daemon refuses to be inspected (" + payload + ")");
}

/// The part before the separator, which both are taken off `text`.
std::string_view take_until(std::string_view& text, char separator) {
  const std::size_t end = std::min(text.find(separator), text.size());
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return part;
}

/// A number where all of it is one, as far as the field is no string.
Document value_of(std::string_view name, std::string_view text) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool is_text = name == "path" || name == "token" || name == "handle" || name == "quotas" ||
                       name == "command";
  if (!is_text && error == std::errc() && end == text.data() + text.size()) return number;
  return std::string(text);
}

Document fields_of(std::string_view line) {
  Document fields = Document::object();
  while (!line.empty()) {
    std::string_view field = take_until(line, ' ');
    const std::string_view name = take_until(field, '=');
    fields[std::string(name)] = value_of(name, field);
  }
  return fields;
}

/// Adds a reply's lines. The cursor of the next one; empty: that was all.
std::string add_lines(std::string_view text, Document& document) {
  static const std::map<std::string_view, const char*> kArrays = {{"domain", "domains"},
                                                                  {"connection", "connections"},
                                                                  {"transaction", "transactions"},
                                                                  {"watch", "watches"}};
  while (!text.empty()) {
    std::string_view line = take_until(text, '\n');
    const std::string_view kind = take_until(line, ' ');
    if (kind == "next") return std::string(line);
    // Kinds of a newer daemon's are left out.
    const auto array = kArrays.find(kind);
    if (array != kArrays.end()) document[array->second].push_back(fields_of(line));
  }
  return {};
}

}  // namespace

Result<Document> ask_daemon(const std::filesystem::path& path) {
  tools::Client client;
  if (const auto connected = client.connect(path); !connected.has_value()) {
    return tl::unexpected(connected.error());
  }
  Document document = {{"source", {{"daemon", store::escaped_word(path.native())}}},
                       {"domains", Document::array()},
                       {"connections", Document::array()},
                       {"transactions", Document::array()},
                       {"watches", Document::array()}};
  std::string cursor;
  for (int replies = 0; replies < kRepliesMax; ++replies) {
    std::string command = "inspect";
    command += '\0';
    if (!cursor.empty()) command += cursor + '\0';
    const auto reply = control(client, command);
    if (!reply.has_value()) return tl::unexpected(reply.error());
    cursor = add_lines(reply.value(), document);
    if (cursor.empty()) return document;
  }
  return tl::unexpected(std::string("the daemon's answer has no end"));
}

Result<tools::Tree> ask_tree(const std::filesystem::path& path, const std::string& from) {
  tools::Client client;
  if (const auto connected = client.connect(path); !connected.has_value()) {
    return tl::unexpected(connected.error());
  }
  tools::Transaction transaction(client);
  if (const auto started = transaction.start(); !started.has_value()) {
    return tl::unexpected(started.error());
  }
  return tools::read_tree(transaction, from);
}

}  // namespace inspect
