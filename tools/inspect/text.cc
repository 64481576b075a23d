// SPDX-License-Identifier: MIT
// The document for people: each client with all that is its own.
#include <fmt/format.h>

#include <set>

#include "tools/inspect/state.h"
#include "tools/inspect/table.h"

namespace inspect {
namespace {

bool is_set(const Document& object, const char* name) {
  const std::string value = field(object, name);
  return value != "-" && value != "0";
}

std::string domain_text(const Document& domain) {
  std::string text = "domain " + field(domain, "domid");
  if (!is_set(domain, "introduced")) text += ", not introduced";
  if (is_set(domain, "shutdown")) text += ", shut down";
  if (domain.contains("target")) text += ", target " + field(domain, "target");
  text += fmt::format("\n  handle {}  gfn {}  port {}  features {}\n", field(domain, "handle"),
                      field(domain, "gfn"), field(domain, "port"), field(domain, "features"));
  if (!field(domain, "quotas").empty()) text += "  quotas " + field(domain, "quotas") + '\n';
  return text;
}

std::string ring_text(const Document& conn) {
  std::string text =
      fmt::format("  requests taken to {} ({} bytes of the next)  output kept from {}\n",
                  field(conn, "in_off"), field(conn, "partial"), field(conn, "out_off"));
  if (conn.contains("req_cons")) {
    text +=
        fmt::format("  in the ring: requests {} to {}, replies {} to {}\n", field(conn, "req_cons"),
                    field(conn, "req_prod"), field(conn, "rsp_cons"), field(conn, "rsp_prod"));
  }
  if (is_set(conn, "resetting")) text += "  its ring is being reset\n";
  if (is_set(conn, "error")) {
    text += "  its ring is not served: error " + field(conn, "error") + '\n';
  }
  return text;
}

std::string watch_text(const Document& watch) {
  std::string text =
      fmt::format("  watch {}  token {}", field(watch, "path"), field(watch, "token"));
  if (field(watch, "depth") != "-1") text += "  depth " + field(watch, "depth");
  if (is_set(watch, "relative")) text += "  (relative)";
  return text + '\n';
}

std::string socket_text(const Document& conn) {
  return fmt::format("\nsocket client, process {} ({}) of user {}{}\n", field(conn, "pid"),
                     field(conn, "command"), field(conn, "uid"),
                     is_set(conn, "kept") ? ", goes on after a crash" : "");
}

std::string connection_text(const Document& conn, const Document& document) {
  const std::string id = field(conn, "conn");
  std::string text = fmt::format(
      "  connection {}: {} watches, highest transaction {}\n  output {} bytes in {} "
      "messages",
      id, field(conn, "watches"), field(conn, "next_tx"), field(conn, "out_bytes"),
      field(conn, "out_frames"));
  if (is_set(conn, "out_sent")) text += ", " + field(conn, "out_sent") + " bytes sent";
  text += '\n';
  if (is_set(conn, "is_domain")) text += ring_text(conn);
  for (const Document& transaction : document["transactions"]) {
    if (field(transaction, "conn") != id) continue;
    text += "  transaction " + field(transaction, "id") +
            (is_set(transaction, "doomed") ? " doomed\n" : " open\n");
  }
  for (const Document& watch : document["watches"]) {
    if (field(watch, "conn") == id) text += watch_text(watch);
  }
  return text;
}

}  // namespace

std::string as_text(const Document& document) {
  std::string text;
  for (const auto& [name, value] : document["source"].items()) {
    text += name + ' ' + field(document["source"], name.c_str()) + '\n';
  }
  std::set<std::string> shown;
  for (const Document& domain : document["domains"]) {
    text += '\n' + domain_text(domain);
    for (const Document& conn : document["connections"]) {
      if (!domain.contains("conn") || field(conn, "conn") != field(domain, "conn")) continue;
      shown.insert(field(conn, "conn"));
      text += connection_text(conn, document);
    }
  }
  for (const Document& conn : document["connections"]) {
    if (shown.contains(field(conn, "conn"))) continue;
    text += is_set(conn, "is_domain") ? "\nno introduced domain's\n" : socket_text(conn);
    text += connection_text(conn, document);
  }
  return text;
}

}  // namespace inspect
