// SPDX-License-Identifier: MIT
// blame: who set each value last.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "tools/history/commands.h"
#include "tools/history/times.h"

namespace history {
namespace {

/// Whose deed a value is.
struct Deed {
  Id commit;
  std::int64_t time_us = 0;
  Author author;
  std::string request;
  bool is_or_before = false;  ///< it was so in the first commit that is kept
  std::size_t others = 0;     ///< the commit has so many requests, and the author is not certain
};

struct Blamed {
  NodeState state;
  std::optional<Deed> deed;
};

/// In a coalesced commit the author is that of the last request; the message
/// tells the others, up to a number of them.
Deed deed_of(const Commit& commit, const std::string& path) {
  Deed deed{commit.id, commit.time_us, commit.author, commit.subject, false, 0};
  if (!commit.is_coalesced()) return deed;
  for (auto line = commit.body.rbegin(); line != commit.body.rend(); ++line) {
    const RequestLine request = parse_request_line(*line);
    const auto& paths = request.paths;
    if (!request.author || std::find(paths.begin(), paths.end(), path) == paths.end()) continue;
    deed.author = *request.author;
    deed.request = request.text;
    return deed;
  }
  deed.others = commit.last_entry - commit.first_entry + 1;
  return deed;
}

class Blame {
 public:
  Blame(Repository& repository, std::string path)
      : repository_(repository), path_(std::move(path)) {}

  Result<void> run(Commit start) {
    auto listed = compare(repository_, std::nullopt, start.tree, path_,
                          [this](const NodeChange& change) -> Result<bool> {
                            nodes_[change.path].state = *change.after;
                            return true;
                          });
    if (!listed.has_value()) return listed;
    open_ = nodes_.size();
    const auto end = walk_back(
        repository_, std::move(start),
        [this](const Commit& commit, const Commit* before) { return visit(commit, before); });
    if (!end.has_value()) return tl::unexpected(end.error());
    return {};
  }

  const std::map<std::string, Blamed>& nodes() const { return nodes_; }

 private:
  Result<bool> visit(const Commit& commit, const Commit* before) {
    const auto shown = changes_of(
        repository_, commit, before, path_, [&](const NodeChange& change) -> Result<bool> {
          if (change.after && (!change.before || change.has_new_value())) {
            settle(change.path, commit, before == nullptr);
          }
          return open_ > 0;
        });
    if (!shown.has_value()) return tl::unexpected(shown.error());
    return open_ > 0;
  }

  void settle(const std::string& path, const Commit& commit, bool is_or_before) {
    const auto node = nodes_.find(path);
    if (node == nodes_.end() || node->second.deed) return;
    node->second.deed = deed_of(commit, path);
    node->second.deed->is_or_before = is_or_before;
    --open_;
  }

  Repository& repository_;
  std::string path_;
  std::map<std::string, Blamed> nodes_;
  std::size_t open_ = 0;  ///< nodes whose deed is not known yet
};

std::string author_text(const Deed& deed) {
  if (deed.is_or_before) return "?";
  return escaped(deed.author.text()) +
         (deed.others == 0 ? "" : fmt::format(" or one of {} requests", deed.others));
}

Document deed_json(const Deed& deed) {
  Document document = {{"commit", deed.commit.hex()},
                       {"time", format_time(deed.time_us)},
                       {"time_us", deed.time_us},
                       {"is_or_before", deed.is_or_before}};
  if (deed.is_or_before) return document;
  document["author"] = author_json(deed.author);
  document["request"] = escaped(deed.request);
  if (deed.others > 0) document["one_of_requests"] = deed.others;
  return document;
}

Result<void> put_json(Repository& repository, const std::string& path, const Blame& blame) {
  JsonArray json(Document{{"path", escaped(path)}}, "nodes");
  for (const auto& [node_path, blamed] : blame.nodes()) {
    const auto content = read_content(repository, blamed.state);
    if (!content.has_value()) return tl::unexpected(content.error());
    Document document = {{"path", escaped(node_path)}, {"value", escaped(content.value().value)}};
    if (blamed.deed) document.update(deed_json(*blamed.deed));
    json.add(document);
  }
  json.close();
  return {};
}

Result<void> put_text(Repository& repository, const Blame& blame, const Look& look) {
  std::size_t width = 0;
  bool has_older = false;
  for (const auto& [path, blamed] : blame.nodes()) {
    if (!blamed.deed) continue;
    width = std::max(width, author_text(*blamed.deed).size());
    has_older = has_older || blamed.deed->is_or_before;
  }
  for (const auto& [path, blamed] : blame.nodes()) {
    const auto value = repository.blob(blamed.state.value);
    if (!value.has_value()) return tl::unexpected(value.error());
    const Deed deed = blamed.deed.value_or(Deed{});
    put(fmt::format("{}{}  {}  {:<{}}  {} = {}\n", deed.is_or_before ? '^' : ' ',
                    deed.commit.brief(), format_time(deed.time_us), author_text(deed), width,
                    escaped(path), quoted(value.value(), look.value_bytes_max)));
  }
  if (has_older) put(note_text("^ set then or before: the first commit that is kept", look));
  return {};
}

}  // namespace

Result<void> blame(Repository& repository, const std::string& path, const std::string& at,
                   const Look& look) {
  auto commit = repository.resolve(at);
  if (!commit.has_value()) return tl::unexpected(commit.error());
  const std::string moment =
      fmt::format("{} ({})", commit.value().id.brief(), format_time(commit.value().time_us));
  Blame blame(repository, path);
  auto done = blame.run(std::move(commit.value()));
  if (!done.has_value()) return done;
  if (blame.nodes().empty()) {
    return tl::unexpected(fmt::format("no node {} at {}", escaped(path), moment));
  }
  return look.is_json ? put_json(repository, path, blame) : put_text(repository, blame, look);
}

}  // namespace history
