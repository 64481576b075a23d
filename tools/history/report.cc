// SPDX-License-Identifier: MIT
// report: one page of HTML, on what happened around a moment. What comes from the
// store is escaped twice: escaped() leaves printable ASCII, html() takes the
// meaning from that; and the page's policy runs no script but its own.
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <deque>
#include <map>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include "store/path.h"
#include "tools/history/commands.h"
#include "tools/history/report_page.h"
#include "tools/history/times.h"

namespace history {
namespace {

constexpr std::size_t kValueShown = 300;
constexpr std::size_t kChangesOnPage = 50;
constexpr std::size_t kLanesShown = 40;
/// Nodes of the tree that are shown though they do not differ.
constexpr std::size_t kSameShown = 20'000;
/// The part of the time line that is left for what came after the moment.
constexpr std::size_t kPartAfter = 4;

struct Moment {
  Commit commit;  ///< the one that made the difference
  std::optional<Commit> before;
};

/// A commit of the time line.
struct Row {
  Commit commit;
  std::string by;
  std::set<std::string> about;
  std::string changes;  ///< HTML
};

std::string value_html(std::string_view value) { return html(quoted(value, kValueShown)); }

std::string perms_html(const Content& content) {
  std::string text;
  for (const std::string_view entry : perm_entries(content.perms)) {
    text += (text.empty() ? "" : ",") + html(escaped(entry));
  }
  return fmt::format("<span class=\"perms\">({})</span>", text);
}

std::string content_html(const std::optional<Content>& content) {
  return content ? value_html(content->value) + ' ' + perms_html(*content) : "";
}

std::string change_html(const Change& change) {
  const std::string path = html(escaped(change.path));
  if (!change.before) {
    return fmt::format("<div class=\"new\">+ {} = {}</div>", path, content_html(change.after));
  }
  if (!change.after) {
    return fmt::format("<div class=\"gone\">- {} = {}</div>", path, content_html(change.before));
  }
  std::string text = "<div>~ " + path;
  for (const bool is_value : {true, false}) {
    const auto& [before, after] = std::pair(*change.before, *change.after);
    if (is_value ? before.value == after.value : before.perms == after.perms) continue;
    text += fmt::format(" <span class=\"gone\">{}</span> &rarr; <span class=\"new\">{}</span>",
                        is_value ? value_html(before.value) : perms_html(before),
                        is_value ? value_html(after.value) : perms_html(after));
  }
  return text + "</div>";
}

/// A row's lane: clients of a socket by their command, whatever their pid.
std::string lane_of(const Author& author) {
  return author.kind == Author::Kind::kSocket ? escaped(author.name) : escaped(author.text());
}

bool is_number(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// The domains whose node this is: N of /local/domain/N, and of backend/TYPE/N below it.
void add_domains_of(const std::string& path, std::set<std::string>& domains) {
  std::vector<std::string_view> names;
  for (store::PathNames rest(path); !rest.done();) names.push_back(rest.next());
  if (names.size() < 3 || names[0] != "local" || names[1] != "domain") return;
  if (is_number(names[2])) domains.insert(fmt::format("domain {}", names[2]));
  if (names.size() < 6 || names[3] != "backend" || !is_number(names[5])) return;
  domains.insert(fmt::format("domain {}", names[5]));
}

/// The lanes of a time line, the busiest first.
class Lanes {
 public:
  void count(const std::string& name) { ++counts_[name]; }

  void close() {
    for (const auto& [name, commits] : counts_) names_.push_back(name);
    std::stable_sort(names_.begin(), names_.end(), [this](const auto& a, const auto& b) {
      return counts_.at(a) > counts_.at(b);
    });
    for (std::size_t i = 0; i < names_.size(); ++i) indices_[names_[i]] = i;
  }

  std::size_t index_of(const std::string& name) const { return indices_.at(name); }
  std::size_t commits_of(const std::string& name) const { return counts_.at(name); }
  const std::vector<std::string>& names() const { return names_; }

 private:
  std::map<std::string, std::size_t> counts_;
  std::vector<std::string> names_;
  std::map<std::string, std::size_t> indices_;
};

/// What the page shows.
class Report {
 public:
  Report(Repository& repository, const ReportOptions& options)
      : repository_(repository), options_(options) {}

  Result<void> collect() {
    if (options_.since) {
      since_us_ = parse_time(*options_.since, now_us());
      if (!since_us_) return tl::unexpected(escaped(*options_.since) + ": not a time");
    }
    const auto found = find_moment();
    if (!found.has_value()) return found;
    const auto listed = list_commits();
    if (!listed.has_value()) return listed;
    return make_rows();
  }

  Result<void> write(std::FILE* file) {
    file_ = file;
    write_head();
    write_lanes("Time line: changed by", "by", by_);
    write_lanes("Time line: nodes of", "about", about_);
    write_bar();
    write_commits();
    const auto written = write_nodes();
    write_end();
    return written;
  }

  std::size_t rows() const { return rows_.size(); }

 private:
  /// A time stands between two commits: the one after it is shown, if there is one.
  Result<void> find_moment() {
    auto tip = repository_.tip();
    if (!tip.has_value()) return tl::unexpected(tip.error());
    tip_ = tip.value();
    if (!options_.at) return moment_of(tip_);
    const auto time = parse_time(*options_.at, now_us());
    auto named = repository_.resolve(*options_.at);
    if (!named.has_value()) return tl::unexpected(named.error());
    if (!time || named.value().id == tip_.id) return moment_of(std::move(named.value()));
    const auto end = walk_back(repository_, tip_, [&](const Commit& commit, const Commit* before) {
      const bool is_next = before != nullptr && before->id == named.value().id;
      if (is_next) moment_ = Moment{commit, *before};
      return Result<bool>(!is_next);
    });
    if (!end.has_value()) return tl::unexpected(end.error());
    if (end.value() != End::kStopped) return moment_of(std::move(named.value()));
    return {};
  }

  Result<void> moment_of(Commit commit) {
    auto before = repository_.before(commit);
    if (!before.has_value()) return tl::unexpected(before.error());
    moment_ = Moment{std::move(commit), std::move(before.value())};
    return {};
  }

  /// Newest first: some of those after the moment, it, and those before it.
  Result<void> list_commits() {
    bool is_after = true;
    const auto end =
        walk_back(repository_, tip_, [&](const Commit& commit, const Commit*) -> Result<bool> {
          if (ids_.size() >= options_.count && !is_after) return false;
          if (!is_after && since_us_ && commit.time_us < *since_us_) return false;
          is_after = is_after && commit.id != moment_.commit.id;
          ids_.push_back(commit.id);
          if (is_after && ids_.size() > options_.count / kPartAfter) ids_.pop_front(), ++left_out_;
          return true;
        });
    if (!end.has_value()) return tl::unexpected(end.error());
    end_ = end.value();
    return {};
  }

  Result<void> make_rows() {
    for (auto id = ids_.rbegin(); id != ids_.rend(); ++id) {
      auto commit = repository_.commit(*id);
      if (!commit.has_value()) return tl::unexpected(commit.error());
      const auto before = repository_.before(commit.value());
      if (!before.has_value()) return tl::unexpected(before.error());
      Row row{std::move(commit.value()), {}, {}, {}};
      const auto filled = fill(row, before.value() ? &*before.value() : nullptr);
      if (!filled.has_value()) return filled;
      by_.count(row.by);
      for (const std::string& domain : row.about) about_.count(domain);
      rows_.push_back(std::move(row));
    }
    by_.close();
    about_.close();
    return {};
  }

  Result<void> fill(Row& row, const Commit* before) {
    row.by = lane_of(row.commit.author);
    if (before == nullptr) {
      row.changes += "<div class=\"note\">the first commit that is kept</div>";
      return {};
    }
    std::size_t count = 0;
    const auto shown = changes_of(repository_, row.commit, before, "/",
                                  [&](const NodeChange& change) -> Result<bool> {
                                    add_domains_of(change.path, row.about);
                                    if (++count > kChangesOnPage) return true;
                                    const auto read = read_change(repository_, change);
                                    if (!read.has_value()) return tl::unexpected(read.error());
                                    row.changes += change_html(read.value());
                                    return true;
                                  });
    if (count == 0) row.changes += "<div class=\"note\">no difference in the end</div>";
    if (count > kChangesOnPage) {
      row.changes +=
          fmt::format("<div class=\"note\">and {} more nodes</div>", count - kChangesOnPage);
    }
    return shown;
  }

  void out(std::string_view text) { std::fwrite(text.data(), 1, text.size(), file_); }

  void fact(std::string_view name, const std::string& value) {
    out(fmt::format("<dt>{}</dt><dd>{}</dd>\n", name, value));
  }

  static std::string commit_fact(const Commit& commit) {
    return fmt::format("<code>{}</code> {} by {}: {}", commit.id.brief(),
                       format_time(commit.time_us), html(escaped(commit.author.text())),
                       html(escaped(commit.subject)));
  }

  void write_head() {
    // Nobody who writes to the store can know the hash of a commit that holds what he writes.
    const std::string nonce = tip_.id.hex();
    out(fmt::format(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
        "style-src 'nonce-{0}'; script-src 'nonce-{0}'\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        "<title>xenstore around {1}</title>\n<style nonce=\"{0}\">{2}</style></head>\n<body>\n"
        "<h1>xenstore around {1}</h1>\n<dl>\n",
        nonce, format_time(moment_.commit.time_us), kPageStyle));
    fact("moment", fmt::format("<a href=\"#c{}\">{}</a>", moment_.commit.id.brief(),
                               commit_fact(moment_.commit)));
    fact("state before", moment_.before ? commit_fact(*moment_.before) : "not known");
    fact("time line", span_text());
    fact("history", html(escaped(repository_.path().native())));
    fact("written", format_time(now_us()) + " by xs-history report");
    out("</dl>\n");
  }

  std::string span_text() const {
    std::string text =
        fmt::format("{} commits, {} to {}", rows_.size(), format_time(rows_.front().commit.time_us),
                    format_time(rows_.back().commit.time_us));
    if (end_ == End::kStopped) text += "; there are older ones";
    if (end_ == End::kDropped) text += "; older history was dropped";
    if (left_out_ > 0) text += fmt::format("; {} later ones are not shown", left_out_);
    return text;
  }

  /// Where a time is in the picture, in its units.
  double x_of(std::int64_t time_us) const {
    const auto [first, last] = span();
    if (first == last) return kLeft;
    const double part = static_cast<double>(time_us - first) / static_cast<double>(last - first);
    return kLeft + (kRight - kLeft) * std::clamp(part, 0.0, 1.0);
  }

  /// Clocks may have been set back meanwhile.
  std::pair<std::int64_t, std::int64_t> span() const {
    const auto [first, last] = std::minmax_element(
        rows_.begin(), rows_.end(),
        [](const Row& a, const Row& b) { return a.commit.time_us < b.commit.time_us; });
    return {first->commit.time_us, last->commit.time_us};
  }

  void write_lanes(std::string_view title, std::string_view kind, const Lanes& lanes) {
    if (lanes.names().empty()) return;
    const std::size_t shown = std::min(lanes.names().size(), kLanesShown);
    const auto bottom = static_cast<double>(shown) * kLaneHeight;
    out(fmt::format("<h2>{}</h2>\n<svg class=\"lanes\" viewBox=\"0 0 1000 {}\" role=\"img\">\n",
                    title, bottom + kLaneHeight));
    for (std::size_t i = 0; i < shown; ++i) write_lane(kind, lanes, i);
    const double moment = x_of(moment_.commit.time_us);
    out(fmt::format("<line class=\"moment\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"0\" y2=\"{1}\"/>\n",
                    moment, bottom));
    const auto [first, last] = span();
    out(fmt::format(
        "<text x=\"{}\" y=\"{}\">{}</text>"
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n</svg>\n",
        kLeft, bottom + 12, format_time(first), kRight, bottom + 12, format_time(last)));
    if (shown < lanes.names().size()) {
      out(fmt::format("<p class=\"note\">and {} more, less busy</p>\n",
                      lanes.names().size() - shown));
    }
  }

  void write_lane(std::string_view kind, const Lanes& lanes, std::size_t index) {
    const std::string& name = lanes.names()[index];
    const double top = static_cast<double>(index) * kLaneHeight;
    out(
        fmt::format("<g class=\"lane\" data-kind=\"{}\" data-lane=\"{}\" data-name=\"{}\" "
                    "tabindex=\"0\" role=\"button\"><text x=\"0\" y=\"{}\">{} ({})</text></g>"
                    "<line class=\"rule\" x1=\"{}\" x2=\"{}\" y1=\"{}\" y2=\"{}\"/>\n",
                    kind, index, html(name), top + 12, html(name.substr(0, 24)),
                    lanes.commits_of(name), kLeft, kRight, top + 15, top + 15));
    for (const Row& row : rows_) {
      if (kind == "by" ? row.by != name : !row.about.contains(name)) continue;
      out(
          fmt::format("<a href=\"#c{}\"><rect x=\"{:.1f}\" y=\"{}\" width=\"2\" height=\"11\"/>"
                      "</a>",
                      row.commit.id.brief(), x_of(row.commit.time_us) - 1, top + 3));
    }
    out("\n");
  }

  void write_bar() {
    out("<div id=\"bar\" hidden><input id=\"search\" type=\"search\" "
        "placeholder=\"search paths, values, requests, names\">"
        "<label><input id=\"only\" type=\"checkbox\"> only nodes that differ</label>"
        "<span id=\"count\"></span><span id=\"chosen\" class=\"note\"></span></div>\n");
  }

  void write_commits() {
    out("<h2>Changes</h2>\n<table id=\"commits\"><thead><tr><th>time, commit</th><th>by</th>"
        "<th>request and what it changed</th></tr></thead><tbody>\n");
    for (const Row& row : rows_) {
      std::string about;
      for (const std::string& domain : row.about) {
        about += fmt::format("{}{}", about.empty() ? "" : " ", about_.index_of(domain));
      }
      out(
          fmt::format("<tr id=\"c{}\" data-by=\"{}\" data-about=\"{}\"{}><td>{} "
                      "<span class=\"note\">{}</span></td><td>{}</td><td>{}{}{}</td></tr>\n",
                      row.commit.id.brief(), by_.index_of(row.by), about,
                      row.commit.id == moment_.commit.id ? " class=\"moment\"" : "",
                      format_time(row.commit.time_us), row.commit.id.brief(),
                      html(escaped(row.commit.author.text())), html(escaped(row.commit.subject)),
                      requests_html(row.commit), row.changes));
    }
    out("</tbody></table>\n");
  }

  static std::string requests_html(const Commit& commit) {
    std::string text;
    for (const std::string& line : commit.body) {
      if (!line.empty()) text += "<div class=\"note\">" + html(escaped(line)) + "</div>";
    }
    return text;
  }

  Result<void> write_nodes() {
    out("<h2>The tree just before and after the moment</h2>\n<table id=\"nodes\"><thead><tr>"
        "<th>node</th><th>before</th><th>after</th></tr></thead><tbody>\n");
    std::size_t same = 0;
    const std::optional<Id> before =
        moment_.before ? std::optional(moment_.before->tree) : std::nullopt;
    const auto shown = compare(
        repository_, before, moment_.commit.tree, "/",
        [&](const NodeChange& change) -> Result<bool> {
          if (change.is_same() && ++same > kSameShown) return true;
          const auto read = read_change(repository_, change);
          if (!read.has_value()) return tl::unexpected(read.error());
          write_node(read.value(), change);
          return true;
        },
        Which::kAll);
    out("</tbody></table>\n");
    if (same > kSameShown) {
      out(fmt::format(
          "<p class=\"note\">and {} more that did not differ: xs-history ls --at {}</p>\n",
          same - kSameShown, moment_.commit.id.brief()));
    }
    return shown;
  }

  void write_node(const Change& change, const NodeChange& kind) {
    const std::string path = html(escaped(change.path));
    if (kind.is_same()) {
      out(
          fmt::format("<tr class=\"same\"><td>{}</td><td>{}</td><td class=\"note\">the same</td>"
                      "</tr>\n",
                      path, content_html(change.after)));
      return;
    }
    const char* const colour = !change.before ? "new" : !change.after ? "gone" : "";
    out(
        fmt::format("<tr class=\"differs\"><td class=\"{}\">{}</td><td class=\"gone\">{}</td>"
                    "<td class=\"new\">{}</td></tr>\n",
                    colour, path, content_html(change.before), content_html(change.after)));
  }

  void write_end() {
    out(fmt::format("<script nonce=\"{}\">{}</script>\n</body></html>\n", tip_.id.hex(),
                    kPageScript));
  }

  static constexpr double kLeft = 230;
  static constexpr double kRight = 995;
  static constexpr double kLaneHeight = 17;

  Repository& repository_;
  const ReportOptions& options_;
  std::optional<std::int64_t> since_us_;
  Commit tip_;
  Moment moment_;
  std::deque<Id> ids_;
  End end_ = End::kFirst;
  std::size_t left_out_ = 0;
  std::vector<Row> rows_;  ///< oldest first, never empty
  Lanes by_;
  Lanes about_;
  std::FILE* file_ = nullptr;
};

auto cannot_write(const std::string& file) {
  return tl::unexpected(
      fmt::format("cannot write {}: {}", file, std::generic_category().message(errno)));
}

}  // namespace

Result<void> report(Repository& repository, const ReportOptions& options, const Look& look) {
  Report report(repository, options);
  if (const auto collected = report.collect(); !collected.has_value()) return collected;
  // Not for everybody: it shows what guests and toolstacks have stored.
  const int fd = ::open(options.file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  std::FILE* const file = fd < 0 ? nullptr : ::fdopen(fd, "w");
  if (file == nullptr) return cannot_write(options.file);
  const auto written = report.write(file);
  const bool is_bad = std::ferror(file) != 0;
  if (std::fclose(file) != 0 || is_bad) return cannot_write(options.file);
  if (!written.has_value()) return written;
  if (look.is_json) {
    put(Document{{"file", options.file}, {"commits", report.rows()}}.dump(2) + '\n');
  } else {
    put(fmt::format("{}: {} commits; open it in a browser\n", options.file, report.rows()));
  }
  return {};
}

}  // namespace history
