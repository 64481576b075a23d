// SPDX-License-Identifier: MIT
// diff: what differs between two moments.
#include <fmt/format.h>

#include "tools/history/commands.h"
#include "tools/history/times.h"

namespace history {
namespace {

Document moment_json(const Commit& commit) {
  return {{"commit", commit.id.hex()}, {"time", format_time(commit.time_us)}};
}

}  // namespace

Result<void> diff(Repository& repository, const std::string& from, const std::string& to,
                  const std::string& path, const Look& look) {
  const auto old_commit = repository.resolve(from);
  if (!old_commit.has_value()) return tl::unexpected(old_commit.error());
  const auto new_commit = repository.resolve(to);
  if (!new_commit.has_value()) return tl::unexpected(new_commit.error());

  std::optional<JsonArray> json;
  if (look.is_json) {
    json.emplace(Document{{"from", moment_json(old_commit.value())},
                          {"to", moment_json(new_commit.value())},
                          {"path", escaped(path)}},
                 "changes");
  }
  bool is_same = true;
  const auto shown = compare(repository, old_commit.value().tree, new_commit.value().tree, path,
                             [&](const NodeChange& change) -> Result<bool> {
                               const auto read = read_change(repository, change);
                               if (!read.has_value()) return tl::unexpected(read.error());
                               is_same = false;
                               if (json) {
                                 json->add(change_json(read.value()));
                               } else {
                                 put(change_text(read.value(), look));
                               }
                               return true;
                             });
  if (!shown.has_value()) return shown;
  if (json) {
    json->close();
  } else if (is_same) {
    put(fmt::format("no difference of {} between {} ({}) and {} ({})\n", escaped(path),
                    old_commit.value().id.brief(), format_time(old_commit.value().time_us),
                    new_commit.value().id.brief(), format_time(new_commit.value().time_us)));
  }
  return {};
}

}  // namespace history
