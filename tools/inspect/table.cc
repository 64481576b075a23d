// SPDX-License-Identifier: MIT
// One part of what is known of the clients, as a table.
#include "tools/inspect/table.h"

#include <algorithm>
#include <map>

namespace inspect {
namespace {

/// The columns of each part: the fields' own names.
const std::vector<std::string>& columns_of(std::string_view part) {
  static const std::map<std::string_view, std::vector<std::string>> kColumns = {
      {"domains",
       {"domid", "introduced", "conn", "target", "gfn", "port", "features", "shutdown", "handle",
        "quotas"}},
      {"rings",
       {"domid", "conn", "in_off", "partial", "req_cons", "req_prod", "out_off", "out_bytes",
        "out_frames", "rsp_cons", "rsp_prod", "resetting", "error"}},
      {"transactions", {"conn", "id", "doomed", "client"}},
      {"watches", {"conn", "depth", "relative", "client", "path", "token"}}};
  return kColumns.find(part)->second;
}

/// Whose connection it is; a dead daemon's sockets have left no names.
std::string client_of(const Document& conn_id, const Document& clients) {
  for (const Document& conn : clients["connections"]) {
    if (conn["conn"] != conn_id) continue;
    if (conn.value("is_domain", 0) != 0) return "domain " + field(conn, "domid");
    return field(conn, "command") + " (pid " + field(conn, "pid") + ")";
  }
  return "socket client";
}

}  // namespace

std::string field(const Document& object, const std::string& name) {
  const auto found = object.find(name);
  if (found == object.end()) return "-";
  return found->is_string() ? found->get<std::string>() : found->dump();
}

std::string table(const std::vector<std::string>& columns, const Document& rows) {
  std::vector<std::vector<std::string>> lines{columns};
  for (const Document& row : rows) {
    lines.emplace_back();
    for (const std::string& name : columns) {
      const std::string text = field(row, name);
      lines.back().push_back(text.empty() ? "-" : text);
    }
  }
  std::vector<std::size_t> widths(columns.size());
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  }
  std::string text;
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) {
      text += line[i];
      if (i + 1 < line.size()) text.append(widths[i] - line[i].size() + 2, ' ');
    }
    text += '\n';
  }
  return text;
}

Document only(std::string_view part, const Document& clients) {
  Document items = Document::array();
  for (const Document& item : clients[part == "rings" ? "connections" : std::string(part)]) {
    if (part == "rings" && item.value("is_domain", 0) == 0) continue;
    items.push_back(item);
    const bool has_client = part == "watches" || part == "transactions";
    if (has_client) items.back()["client"] = client_of(item["conn"], clients);
  }
  return {{"source", clients["source"]}, {std::string(part), std::move(items)}};
}

std::string as_table(std::string_view part, const Document& document) {
  return table(columns_of(part), document[std::string(part)]);
}

}  // namespace inspect
