// SPDX-License-Identifier: MIT
// stat: how much there is of everything.
#include <fmt/format.h>

#include <charconv>
#include <map>
#include <utility>

#include "journal/image.h"
#include "tools/history/output.h"
#include "tools/history/repository.h"
#include "tools/history/times.h"
#include "tools/inspect/commands.h"
#include "tools/inspect/stored_history.h"
#include "tools/inspect/table.h"

namespace inspect {
namespace {

namespace fs = std::filesystem;

/// Of the files in a folder and below it.
std::uint64_t bytes_below(const fs::path& folder) {
  std::uint64_t bytes = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    std::error_code gone;
    if (it->is_regular_file(gone)) bytes += it->file_size(gone);
  }
  return bytes;
}

/// Nodes and bytes, all in all and by owner: that of dead ones apart.
void add_nodes(const tools::Tree& tree, Document& document) {
  struct Owned {
    std::size_t nodes = 0;
    std::size_t value_bytes = 0;
  };
  std::map<std::pair<unsigned, bool>, Owned> owners;
  std::size_t value_bytes = 0;
  for (const auto& [path, content] : tree) {
    const auto perms = tools::perm_entries(content.perms);
    if (perms.empty()) continue;
    const std::string_view owner = perms.front();
    unsigned domid = 0;
    std::from_chars(owner.data() + 1, owner.data() + owner.size(), domid);
    Owned& owned = owners[{domid, owner.ends_with(" stale")}];
    ++owned.nodes;
    owned.value_bytes += content.value.size();
    value_bytes += content.value.size();
  }
  document["nodes"] = tree.size();
  document["value_bytes"] = value_bytes;
  document["owners"] = Document::array();
  for (const auto& [owner, owned] : owners) {
    document["owners"].push_back({{"domid", owner.first},
                                  {"dead", int{owner.second}},
                                  {"nodes", owned.nodes},
                                  {"value_bytes", owned.value_bytes}});
  }
}

void add_clients(const Document& clients, Document& document) {
  for (const char* const what : {"domains", "connections", "watches", "transactions"}) {
    document[what] = clients[what].size();
  }
}

Document commit_facts(const history::Commit& commit) {
  return {{"commit", commit.id.hex()},
          {"time", history::format_time(commit.time_us)},
          {"entry", commit.last_entry}};
}

/// Null: there is none. `stored` is none of a running daemon's.
Result<Document> history_facts(const fs::path& area, const StoredState* stored) {
  std::error_code error;
  if (!fs::exists(area / "history.git" / "HEAD", error)) return Document();
  const auto opened = history::Repository::open(area);
  if (!opened.has_value()) return tl::unexpected(opened.error());
  const auto tip = opened.value()->tip();
  if (!tip.has_value()) return tl::unexpected(tip.error());
  history::Commit first = tip.value();
  std::size_t count = 0;
  const auto walked = history::walk_back(
      *opened.value(), tip.value(), [&](const history::Commit& commit, const history::Commit*) {
        first = commit;
        ++count;
        return history::Result<bool>(true);
      });
  if (!walked.has_value()) return tl::unexpected(walked.error());
  Document facts = {{"bytes", bytes_below(area / "history.git")},
                    {"commits", count},
                    {"first", commit_facts(first)},
                    {"last", commit_facts(tip.value())}};
  if (stored == nullptr) return facts;
  const auto entries = parse_entries(stored->history_entries);
  if (!entries.has_value()) return tl::unexpected("stored entries: " + entries.error());
  std::size_t waiting = 0;
  for (const journal::HistoryEntry& entry : entries.value()) {
    if (entry.number > tip.value().last_entry) ++waiting;
  }
  facts["entries_waiting"] = waiting;
  facts["setting"] = history::escaped(stored->history_setting);
  return facts;
}

Document facts_of_state(const Place& place, const StoredState& stored) {
  Document document = {{"area", history::escaped(place.area.native())},
                       {"served", 0},
                       {"boot_id", stored.facts.boot_id},
                       {"database",
                        {{"bytes", stored.facts.bytes},
                         {"page_bytes", journal::kPageBytes},
                         {"pages", stored.facts.bytes / journal::kPageBytes},
                         {"pages_used", stored.facts.pages},
                         {"commits", stored.facts.commits}}}};
  add_nodes(stored.tree, document);
  add_clients(stored.clients, document);
  return document;
}

Result<Document> facts_of_daemon(const Place& place) {
  const auto clients = ask_daemon(place.socket);
  if (!clients.has_value()) return tl::unexpected(clients.error());
  const auto tree = ask_tree(place.socket, "/");
  if (!tree.has_value()) return tl::unexpected(tree.error());
  std::error_code error;
  const std::uintmax_t bytes = fs::file_size(place.area / place.state / "data.mdb", error);
  Document document = {{"area", history::escaped(place.area.native())},
                       {"served", 1},
                       {"database", {{"bytes", error ? 0 : bytes}}}};
  add_nodes(tree.value(), document);
  add_clients(clients.value(), document);
  return document;
}

std::string commit_line(const char* which, const Document& commit) {
  return fmt::format("  {:<14} {}  {}  entry {}\n", which, field(commit, "commit").substr(0, 12),
                     field(commit, "time"), field(commit, "entry"));
}

std::string history_text(const Document& history) {
  if (history.is_null()) return "history          none\n";
  std::string text = fmt::format("history          {} bytes, {} commits", field(history, "bytes"),
                                 field(history, "commits"));
  if (history.contains("entries_waiting")) {
    text += fmt::format(", {} entries wait for the next", field(history, "entries_waiting"));
    if (history["setting"] == "behind") text += ", it had fallen behind";
    if (field(history, "setting").empty()) text += ", the state was without it";
  }
  return text + '\n' + commit_line("first", history["first"]) +
         commit_line("last", history["last"]);
}

std::string as_lines(const Document& document) {
  const Document& database = document["database"];
  std::string text = fmt::format("area             {}{}\n", field(document, "area"),
                                 document["served"] == 1 ? ", served by a daemon" : "");
  text += fmt::format("database         {} bytes", field(database, "bytes"));
  if (database.contains("pages")) {
    text += fmt::format(", {} of {} pages used, commit {}", field(database, "pages_used"),
                        field(database, "pages"), field(database, "commits"));
  }
  text += '\n';
  for (const char* const name :
       {"nodes", "value_bytes", "domains", "connections", "watches", "transactions"}) {
    text += fmt::format("{:<16} {}\n", name, field(document, name));
  }
  return text + history_text(document["history"]) + '\n' +
         table({"domid", "dead", "nodes", "value_bytes"}, document["owners"]);
}

}  // namespace

Result<void> stat(const Place& place, bool is_json) {
  const auto stored = read_area(place.area, place.state);
  if (!stored.has_value() && !stored.error().is_served) return tl::unexpected(stored.error().text);
  auto document = stored.has_value() ? Result<Document>(facts_of_state(place, stored.value()))
                                     : facts_of_daemon(place);
  if (!document.has_value()) return tl::unexpected(document.error());
  auto history = history_facts(place.area, stored.has_value() ? &stored.value() : nullptr);
  if (!history.has_value()) return tl::unexpected(history.error());
  document.value()["history"] = std::move(history.value());
  history::put(is_json ? document.value().dump(2) + '\n' : as_lines(document.value()));
  return {};
}

}  // namespace inspect
