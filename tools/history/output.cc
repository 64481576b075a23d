// SPDX-License-Identifier: MIT
#include "tools/history/output.h"

#include <fmt/format.h>

#include <cstdio>

#include "tools/history/times.h"

namespace history {
namespace {

constexpr std::string_view kRed = "31";
constexpr std::string_view kGreen = "32";
constexpr std::string_view kYellow = "33";
constexpr std::string_view kCyan = "36";
constexpr std::string_view kGrey = "90";

std::string painted(std::string_view text, std::string_view colour, const Look& look) {
  return look.is_coloured ? fmt::format("\x1b[{}m{}\x1b[0m", colour, text) : std::string(text);
}

void append_escaped(std::string& text, char c) {
  switch (c) {
    case '\n':
      text += "\\n";
      return;
    case '\r':
      text += "\\r";
      return;
    case '\t':
      text += "\\t";
      return;
    case '\\':
      text += "\\\\";
      return;
    default:
      break;
  }
  if (c >= ' ' && c <= '~') {
    text += c;
  } else {
    text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  }
}

/// "(n3,r5 stale)".
std::string perms_in_brackets(const Content& content) {
  std::string text;
  for (const std::string_view entry : perm_entries(content.perms)) {
    text += (text.empty() ? "(" : ",") + escaped(entry);
  }
  return text.empty() ? "()" : text + ')';
}

std::string entries_text(const Commit& commit) {
  return commit.is_coalesced() ? fmt::format("entries {}-{}", commit.first_entry, commit.last_entry)
                               : fmt::format("entry {}", commit.last_entry);
}

}  // namespace

std::string escaped(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) append_escaped(text, c);
  return text;
}

std::string quoted(std::string_view bytes, std::size_t bytes_max) {
  std::string text = "\"";
  for (const char c : bytes.substr(0, bytes_max)) {
    if (c == '"') text += '\\';
    append_escaped(text, c);
  }
  text += '"';
  if (bytes.size() > bytes_max) text += fmt::format("... ({} bytes)", bytes.size());
  return text;
}

std::string content_text(const Content& content, const Look& look) {
  return fmt::format("{}  {}", quoted(content.value, look.value_bytes_max),
                     perms_in_brackets(content));
}

std::string commit_text(const Commit& commit, const Look& look, bool has_requests) {
  std::string text = fmt::format(
      "{}  {}  {}  {}\n", painted(commit.id.brief(), kYellow, look), format_time(commit.time_us),
      painted(escaped(commit.author.text()), kCyan, look), escaped(commit.subject));
  // The daemon says it in the subject as well.
  const bool is_told = commit.whole && commit.subject.find(*commit.whole) != std::string::npos;
  if (commit.whole && !is_told)
    text += note_text("the whole tree: " + escaped(*commit.whole), look);
  if (!has_requests) return text;
  if (commit.last_entry != 0) text += note_text(entries_text(commit), look);
  for (const std::string& line : commit.body) {
    if (!line.empty()) text += note_text(escaped(line), look);
  }
  return text;
}

std::string change_text(const Change& change, const Look& look) {
  const std::string path = escaped(change.path);
  if (!change.before && !change.after) return {};
  if (!change.before) {
    return fmt::format(
        "  {}\n",
        painted(fmt::format("+ {} = {}", path, content_text(*change.after, look)), kGreen, look));
  }
  if (!change.after) {
    return fmt::format(
        "  {}\n",
        painted(fmt::format("- {} = {}", path, content_text(*change.before, look)), kRed, look));
  }
  std::string text = fmt::format("  ~ {}", path);
  if (change.before->value != change.after->value) {
    text += fmt::format("  {} -> {}",
                        painted(quoted(change.before->value, look.value_bytes_max), kRed, look),
                        painted(quoted(change.after->value, look.value_bytes_max), kGreen, look));
  }
  if (change.before->perms != change.after->perms) {
    text += fmt::format("  {} -> {}", painted(perms_in_brackets(*change.before), kRed, look),
                        painted(perms_in_brackets(*change.after), kGreen, look));
  }
  return text + '\n';
}

std::string note_text(std::string_view note, const Look& look) {
  return fmt::format("  {}\n", painted(note, kGrey, look));
}

Document author_json(const Author& author) {
  switch (author.kind) {
    case Author::Kind::kDomain:
      return {{"kind", "domain"}, {"name", escaped(author.name)}, {"domid", author.domid}};
    case Author::Kind::kSocket:
      return {{"kind", "socket"},
              {"name", escaped(author.name)},
              {"pid", author.pid},
              {"uid", author.uid}};
    case Author::Kind::kDaemon:
      break;
  }
  return {{"kind", "daemon"}, {"name", escaped(author.name)}};
}

Document commit_json(const Commit& commit) {
  Document document = {{"commit", commit.id.hex()},          {"time", format_time(commit.time_us)},
                       {"time_us", commit.time_us},          {"author", author_json(commit.author)},
                       {"subject", escaped(commit.subject)}, {"first_entry", commit.first_entry},
                       {"last_entry", commit.last_entry}};
  if (commit.whole) document["whole"] = escaped(*commit.whole);
  Document notes = Document::array();
  for (const std::string& line : commit.body) {
    if (!line.empty()) notes.push_back(escaped(line));
  }
  if (!notes.empty()) document["notes"] = std::move(notes);
  return document;
}

Document content_json(const Content& content) {
  Document perms = Document::array();
  for (const std::string_view entry : perm_entries(content.perms)) perms.push_back(escaped(entry));
  return {{"value", escaped(content.value)}, {"perms", std::move(perms)}};
}

Document change_json(const Change& change) {
  const char* const kind = !change.before ? "created" : !change.after ? "removed" : "changed";
  Document document = {{"path", escaped(change.path)}, {"kind", kind}};
  if (change.before) document["before"] = content_json(*change.before);
  if (change.after) document["after"] = content_json(*change.after);
  return document;
}

void put(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

JsonArray::JsonArray(const Document& head, std::string_view name) {
  std::string text = head.dump();
  text.pop_back();
  put(fmt::format("{}{}\"{}\": [", text, head.empty() ? "" : ", ", name));
}

void JsonArray::add(const Document& element) {
  put(is_empty_ ? "\n" : ",\n");
  put(element.dump());
  is_empty_ = false;
}

void JsonArray::close(const Document& tail) {
  put("\n]");
  for (const auto& [name, value] : tail.items()) {
    put(fmt::format(", \"{}\": {}", name, value.dump()));
  }
  put("}\n");
}

}  // namespace history
