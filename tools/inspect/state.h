// SPDX-License-Identifier: MIT
/// What a daemon knows of its clients and its tree, from it while it runs or from
/// what it left.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "journal/reader.h"
#include "store/perms.h"
#include "tools/common/client.h"
#include "tools/common/tree.h"

namespace inspect {

using tools::Problem;
using tools::Result;

/// Of the clients, from both sources alike and as `--json` prints it: arrays
/// "domains", "connections", "transactions" and "watches" of objects with the fields
/// of CONTROL inspect (xenstored/handlers_inspect.cc), and an object "source".
/// Strings that clients chose have bytes below '!' and above '~' as \xHH.
using Document = nlohmann::ordered_json;

/// Asks the daemon that listens on a socket.
Result<Document> ask_daemon(const std::filesystem::path& socket);
/// The nodes at and below a path at one moment; none if there is no such node.
Result<tools::Tree> ask_tree(const std::filesystem::path& socket, const std::string& path);

/// The state in an area that no daemon serves.
struct StoredState {
  Document clients;
  journal::StateFacts facts;
  tools::Tree tree;
  std::string history_setting;  ///< "on", "behind"; empty: without history
  std::string history_entries;  ///< those that are stored, as records.h tells
};

struct AreaProblem {
  std::string text;
  bool is_served = false;   ///< by a daemon that runs
  bool is_missing = false;  ///< there is no state
};

store::Result<StoredState, AreaProblem> read_area(const std::filesystem::path& area,
                                                  std::string_view state);

/// As tools::Content has them.
std::string perms_text(store::PermsView perms);

/// The clients for people: each with all that is its own.
std::string as_text(const Document& clients);

/// "domains", "rings", "watches" or "transactions" alone: in an array of that name,
/// and with the client's name where it is not told by itself.
Document only(std::string_view part, const Document& clients);
/// The same for people, a line each.
std::string as_table(std::string_view part, const Document& document);

}  // namespace inspect
