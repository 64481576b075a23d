// SPDX-License-Identifier: MIT
// ls: the tree of a moment, byte for byte as xenstore-ls of Xen 4.17 prints it.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "tools/history/commands.h"
#include "tools/history/times.h"

namespace history {
namespace {

/// What is kept free of a line for ` = "..."`.
constexpr int kMarkWidth = 8;
/// Of lines that are not for a terminal.
constexpr int kUsualWidth = 80;
constexpr int kNoWidth = std::numeric_limits<int>::max();
/// Where permissions begin, if the value leaves room.
constexpr int kPermsColumn = 60;

/// A value as libxenstore shows it.
std::string sanitised(std::string_view value) {
  std::string text;
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (c >= ' ' && c <= '~' && c != '\\') {
      text += c;
    } else if (c == '\t') {
      text += "\\t";
    } else if (c == '\n') {
      text += "\\n";
    } else if (c == '\r') {
      text += "\\r";
    } else if (c == '\\') {
      text += "\\\\";
    } else {
      text += byte < 8 ? fmt::format("\\{:03o}", byte) : fmt::format("\\x{:02x}", byte);
    }
  }
  return text;
}

/// As printf's "%.*s": no room at all is less than none, and then all is shown.
std::string_view cut(std::string_view text, int room) {
  return room < 0 ? text : text.substr(0, static_cast<std::size_t>(room));
}

class Listing {
 public:
  Listing(Repository& repository, const LsOptions& options, JsonArray* json)
      : repository_(repository), options_(options), json_(json) {}

  Result<void> below(const Id& id, const std::string& path, std::size_t depth) {
    const auto parent = repository_.node(id);
    if (!parent.has_value()) return tl::unexpected(parent.error());
    for (const Node::Child& child : parent.value()->children) {
      const std::string below_it = child_path(path, child.name);
      if (below_it.size() > kPathMax) {
        return tl::unexpected(Problem("no store is so deep: ") + escaped(path.substr(0, 80)));
      }
      if (auto shown = node(child, below_it, depth); !shown.has_value()) return shown;
      if (auto shown = below(child.id, below_it, depth + 1); !shown.has_value()) {
        return shown;
      }
    }
    return {};
  }

 private:
  Result<void> node(const Node::Child& child, const std::string& path, std::size_t depth) {
    const auto read = repository_.node(child.id);
    if (!read.has_value()) return tl::unexpected(read.error());
    const auto content = read_content(repository_, {read.value()->value, read.value()->perms});
    if (!content.has_value()) return tl::unexpected(content.error());
    if (json_ == nullptr) {
      put(line(child.name, path, depth, content.value()));
    } else {
      Document document = {{"path", escaped(path)}};
      document.update(content_json(content.value()));
      json_->add(document);
    }
    return {};
  }

  std::string line(const std::string& name, const std::string& path, std::size_t depth,
                   const Content& content) const {
    const std::string value = sanitised(content.value);
    const std::string perms =
        options_.has_perms ? fmt::format("  ({})", escaped(content.perms_text())) : "";
    const int room = width() - kMarkWidth;
    std::string text(depth, ' ');
    text += cut(escaped(name), room - width_of(text));
    // A full path does not count.
    if (options_.has_full_paths) text.clear();
    // Whether it is too long is asked of the bytes, before they are escaped.
    if (room < width_of(text) + width_of(content.value)) {
      text += fmt::format(" = \"{}\\...\"", cut(value, room - width_of(text)));
    } else {
      text += fmt::format(" = \"{}\"", value);
      if (options_.has_perms) add_dots(text);
    }
    return (options_.has_full_paths ? escaped(path) : "") + text + perms + '\n';
  }

  int width() const {
    return options_.terminal_width.value_or(options_.has_full_paths ? kNoWidth : kUsualWidth);
  }

  static int width_of(const std::string& text) { return static_cast<int>(text.size()); }

  /// They lead to the permissions: one at each odd column.
  void add_dots(std::string& text) const {
    text += ' ';
    if (options_.has_full_paths) return;
    while (width_of(text) < std::min(kPermsColumn, width())) {
      text += text.size() % 2 == 1 ? '.' : ' ';
    }
  }

  Repository& repository_;
  const LsOptions& options_;
  JsonArray* json_;
};

}  // namespace

Result<void> ls(Repository& repository, const LsOptions& options, const Look& look) {
  const auto commit = repository.resolve(options.at);
  if (!commit.has_value()) return tl::unexpected(commit.error());
  const auto id = repository.find(commit.value().tree, options.path);
  if (!id.has_value()) return tl::unexpected(id.error());
  if (!id.value()) {
    return tl::unexpected(fmt::format("no node {} at {} ({})", escaped(options.path),
                                      commit.value().id.brief(),
                                      format_time(commit.value().time_us)));
  }
  if (!look.is_json) {
    return Listing(repository, options, nullptr).below(*id.value(), options.path, 0);
  }
  JsonArray json(Document{{"commit", commit.value().id.hex()},
                          {"time", format_time(commit.value().time_us)},
                          {"path", escaped(options.path)}},
                 "nodes");
  auto shown = Listing(repository, options, &json).below(*id.value(), options.path, 0);
  if (shown.has_value()) json.close();
  return shown;
}

}  // namespace history
