// SPDX-License-Identifier: MIT
// log, show and follow: commits with what they changed.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <thread>
#include <utility>

#include "tools/history/commands.h"
#include "tools/history/times.h"

namespace history {
namespace {

/// So many changes of one commit are shown, unless it was asked for.
constexpr std::size_t kChangesShown = 20;
/// How often follow looks whether there is more.
constexpr std::chrono::milliseconds kGlance{100};

/// Prints changes line by line, up to a number of them.
class ChangeLines {
 public:
  ChangeLines(Repository& repository, const Look& look, std::size_t max)
      : repository_(repository), look_(look), max_(max) {}

  Result<bool> add(const NodeChange& change) {
    if (++count_ > max_) return true;
    const auto read = read_change(repository_, change);
    if (!read.has_value()) return tl::unexpected(read.error());
    put(change_text(read.value(), look_));
    return true;
  }

  void end(const Commit& commit) const {
    if (count_ == 0) put(note_text("no difference in the end", look_));
    if (count_ <= max_) return;
    put(note_text(
        fmt::format("and {} more nodes: xs-history show {}", count_ - max_, commit.id.brief()),
        look_));
  }

 private:
  Repository& repository_;
  const Look& look_;
  std::size_t max_;
  std::size_t count_ = 0;
};

Result<void> put_as_text(Repository& repository, const Commit& commit, const Commit* before,
                         const std::string& path, const Look& look, bool is_whole_story) {
  put(commit_text(commit, look, is_whole_story));
  if (before == nullptr) {
    put(note_text("the first commit that is kept", look));
    // What was there before it is not known, so nothing in it is news.
    if (path == "/" && !is_whole_story) return {};
  }
  ChangeLines lines(repository, look, is_whole_story ? std::size_t(-1) : kChangesShown);
  auto shown = changes_of(repository, commit, before, path,
                          [&](const NodeChange& change) { return lines.add(change); });
  if (!shown.has_value()) return shown;
  lines.end(commit);
  return {};
}

/// `has_tree`: also where the commit is the first, so that all is new.
Result<Document> as_json(Repository& repository, const Commit& commit, const Commit* before,
                         const std::string& path, bool has_tree) {
  Document document = commit_json(commit);
  if (before == nullptr) document["is_first_kept"] = true;
  if (before == nullptr && path == "/" && !has_tree) return document;
  Document changes = Document::array();
  const auto shown =
      changes_of(repository, commit, before, path, [&](const NodeChange& change) -> Result<bool> {
        const auto read = read_change(repository, change);
        if (!read.has_value()) return tl::unexpected(read.error());
        changes.push_back(change_json(read.value()));
        return true;
      });
  if (!shown.has_value()) return tl::unexpected(shown.error());
  document["changes"] = std::move(changes);
  return document;
}

/// Whether a commit changed something at or below a path.
Result<bool> touches(Repository& repository, const Commit& commit, const Commit* before,
                     const std::string& path) {
  if (path == "/") return true;
  const auto now = repository.find(commit.tree, path);
  if (!now.has_value()) return tl::unexpected(now.error());
  if (before == nullptr) return now.value().has_value();
  const auto then = repository.find(before->tree, path);
  if (!then.has_value()) return tl::unexpected(then.error());
  return now.value() != then.value();
}

/// Prints the commits of `log`, in either form.
class Log {
 public:
  Log(Repository& repository, const LogOptions& options, const Look& look)
      : repository_(repository), options_(options), look_(look) {}

  Result<void> run() {
    if (options_.since) {
      since_us_ = parse_time(*options_.since, now_us());
      if (!since_us_) return tl::unexpected(escaped(*options_.since) + ": not a time");
    }
    auto start = repository_.resolve(options_.at);
    if (!start.has_value()) return tl::unexpected(start.error());
    if (look_.is_json) json_.emplace(Document{{"path", escaped(options_.path)}}, "commits");
    const auto end = walk_back(
        repository_, std::move(start.value()),
        [this](const Commit& commit, const Commit* before) { return visit(commit, before); });
    if (!end.has_value()) return tl::unexpected(end.error());
    return finish(end.value() == End::kDropped);
  }

 private:
  Result<bool> visit(const Commit& commit, const Commit* before) {
    if (count_ == options_.count || (since_us_ && commit.time_us < *since_us_)) return false;
    const auto is_touched = touches(repository_, commit, before, options_.path);
    if (!is_touched.has_value() || !is_touched.value())
      return is_touched.has_value() ? true : is_touched;
    ++count_;
    if (json_) {
      const auto document = as_json(repository_, commit, before, options_.path, false);
      if (!document.has_value()) return tl::unexpected(document.error());
      json_->add(document.value());
      return true;
    }
    const auto shown = put_as_text(repository_, commit, before, options_.path, look_, false);
    if (!shown.has_value()) return tl::unexpected(shown.error());
    return true;
  }

  Result<void> finish(bool is_dropped) {
    if (json_) json_->close({{"older_was_dropped", is_dropped}});
    if (!json_ && is_dropped) put(note_text("older history was dropped", look_));
    if (count_ > 0 || json_) return {};
    return tl::unexpected(fmt::format("{}: no change of {} {}", repository_.path().native(),
                                      escaped(options_.path),
                                      since_us_ ? "since then" : "in the history that is kept"));
  }

  Repository& repository_;
  const LogOptions& options_;
  const Look& look_;
  std::optional<std::int64_t> since_us_;
  std::optional<JsonArray> json_;
  std::size_t count_ = 0;
};

/// Remembers how far it has shown the commits that come.
class Follower {
 public:
  Follower(Repository& repository, const FollowOptions& options, const Look& look)
      : repository_(repository), options_(options), look_(look) {}

  /// Shows what is new. What the daemon replaces meanwhile is met again later.
  Result<void> glance() {
    const auto tip = repository_.tip_id();
    if (!tip.has_value()) return tl::unexpected(tip.error());
    if (last_ == tip.value()) return {};
    // Packs that are no more would keep their space for as long as we run.
    if (auto opened = repository_.reopen(); !opened.has_value()) return opened;
    const auto news = since_last(tip.value());
    if (!news.has_value()) return tl::unexpected(news.error());
    for (auto id = news.value().rbegin(); id != news.value().rend(); ++id) {
      if (auto shown = show_one(*id); !shown.has_value()) return shown;
      last_ = *id;
    }
    last_ = tip.value();
    std::fflush(stdout);
    return {};
  }

 private:
  /// Newest first; at the beginning the last few.
  Result<std::vector<Id>> since_last(const Id& tip) {
    std::vector<Id> ids;
    auto start = repository_.commit(tip);
    if (!start.has_value()) return tl::unexpected(start.error());
    const auto end = walk_back(repository_, std::move(start.value()),
                               [&](const Commit& commit, const Commit* before) -> Result<bool> {
                                 if (last_ == commit.id || (!last_ && ids.size() == options_.count))
                                   return false;
                                 const auto is_touched =
                                     touches(repository_, commit, before, options_.path);
                                 if (!is_touched.has_value())
                                   return tl::unexpected(is_touched.error());
                                 if (is_touched.value()) ids.push_back(commit.id);
                                 return true;
                               });
    if (!end.has_value()) return tl::unexpected(end.error());
    if (last_ && end.value() != End::kStopped) {
      std::fputs("xs-history: what was between was dropped, or history began anew\n", stderr);
    }
    return ids;
  }

  Result<void> show_one(const Id& id) {
    const auto commit = repository_.commit(id);
    if (!commit.has_value()) return {};  // dropped since it was found
    const auto before = repository_.before(commit.value());
    if (!before.has_value()) return tl::unexpected(before.error());
    const Commit* const older = before.value() ? &*before.value() : nullptr;
    if (!look_.is_json) {
      return put_as_text(repository_, commit.value(), older, options_.path, look_, false);
    }
    const auto document = as_json(repository_, commit.value(), older, options_.path, false);
    if (!document.has_value()) return tl::unexpected(document.error());
    put(document.value().dump() + '\n');
    return {};
  }

  Repository& repository_;
  const FollowOptions& options_;
  const Look& look_;
  std::optional<Id> last_;
};

}  // namespace

Result<void> log(Repository& repository, const LogOptions& options, const Look& look) {
  return Log(repository, options, look).run();
}

Result<void> show(Repository& repository, const std::string& moment, const Look& look) {
  const auto commit = repository.resolve(moment);
  if (!commit.has_value()) return tl::unexpected(commit.error());
  const auto before = repository.before(commit.value());
  if (!before.has_value()) return tl::unexpected(before.error());
  const Commit* const older = before.value() ? &*before.value() : nullptr;
  if (!look.is_json) {
    Look whole = look;
    whole.value_bytes_max = std::string::npos;
    return put_as_text(repository, commit.value(), older, "/", whole, true);
  }
  const auto document = as_json(repository, commit.value(), older, "/", true);
  if (!document.has_value()) return tl::unexpected(document.error());
  put(document.value().dump(2) + '\n');
  return {};
}

Result<void> follow(Repository& repository, const FollowOptions& options, const Look& look) {
  Follower follower(repository, options, look);
  if (auto first = follower.glance(); !first.has_value()) return first;
  while (true) {
    std::this_thread::sleep_for(kGlance);
    // The area may be away for a moment, while a daemon starts.
    static_cast<void>(follower.glance().has_value());
  }
}

}  // namespace history
