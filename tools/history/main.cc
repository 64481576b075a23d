// SPDX-License-Identifier: MIT
// xs-history: looks into the history that a xenstored keeps of its tree. README.md
// in this folder has an example of each command.
#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>

#include "store/path.h"
#include "tools/common/client.h"
#include "tools/history/commands.h"
#include "tools/history/restore.h"

namespace {

using history::Problem;
using history::Repository;
using history::Result;

std::string default_area() {
  const char* const run_dir = std::getenv("XENSTORED_RUNDIR");
  return std::string(run_dir != nullptr ? run_dir : "/run/xenstored") + "/area";
}

/// As much as xenstore-ls uses of a terminal.
std::optional<int> terminal_width() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col <= 2) return std::nullopt;
  return size.ws_col - 2;
}

/// A path as the user gave it; one '/' at its end is no harm.
struct NodePathArgument : public CLI::Validator {
  NodePathArgument() : CLI::Validator("PATH") {
    func_ = [](std::string& path) -> std::string {
      if (path.size() > 1 && path.ends_with('/')) path.pop_back();
      return store::is_node_path(path) ? "" : store::escaped_word(path) + ": not a path of a node";
    };
  }
};

struct CommandLine {
  std::string area = default_area();
  std::string color = "auto";
  bool is_json = false;
  history::LogOptions log;
  std::string moment;
  history::LsOptions ls;
  std::string from, to, path = "/", at = "HEAD";
  history::FollowOptions follow;
  history::RestoreOptions restore;
  history::ReportOptions report;
  std::function<Result<void>(Repository&, const history::Look&)> command;
};

constexpr const char* kMoment = "a commit, or a time and so the last commit at or before it";

CLI::Option* add_path(CLI::App& command, std::string& path, const std::string& help) {
  return command.add_option("path", path, help)->transform(NodePathArgument())->type_name("PATH");
}

void add_log(CLI::App& app, CommandLine& line) {
  auto& log = *app.add_subcommand("log", "what was changed, when and by whom; newest first");
  add_path(log, line.log.path, "only what concerns this node and those below it");
  log.add_option("--at", line.log.at, "begin there: " + std::string(kMoment));
  log.add_option("--since", line.log.since, "end at this time")->type_name("TIME");
  log.add_option("-n", line.log.count, "at most so many commits")->type_name("COUNT");
  log.callback([&line] {
    line.command = [&line](auto& repository, auto& look) {
      return history::log(repository, line.log, look);
    };
  });
}

void add_show(CLI::App& app, CommandLine& line) {
  auto& show = *app.add_subcommand("show", "one commit, with all that it changed");
  show.add_option("commit", line.moment, kMoment)->required();
  show.callback([&line] {
    line.command = [&line](auto& repository, auto& look) {
      return history::show(repository, line.moment, look);
    };
  });
}

void add_ls(CLI::App& app, CommandLine& line) {
  auto& ls = *app.add_subcommand("ls", "the tree as it was, in the format of xenstore-ls");
  add_path(ls, line.ls.path, "what is below this node");
  ls.add_option("--at", line.ls.at, kMoment)->capture_default_str();
  ls.add_flag("-f", line.ls.has_full_paths, "with full paths");
  ls.add_flag("-p", line.ls.has_perms, "with permissions");
  ls.callback([&line] {
    line.ls.terminal_width = terminal_width();
    line.command = [&line](auto& repository, auto& look) {
      return history::ls(repository, line.ls, look);
    };
  });
}

void add_diff(CLI::App& app, CommandLine& line) {
  auto& diff = *app.add_subcommand("diff", "what differs between two moments");
  diff.add_option("from", line.from, kMoment)->required();
  diff.add_option("to", line.to, "the same")->required();
  add_path(diff, line.path, "only this node and those below it");
  diff.callback([&line] {
    line.command = [&line](auto& repository, auto& look) {
      return history::diff(repository, line.from, line.to, line.path, look);
    };
  });
}

void add_blame(CLI::App& app, CommandLine& line) {
  auto& blame = *app.add_subcommand("blame", "who set the value of each node last");
  add_path(blame, line.path, "this node and those below it")->required();
  blame.add_option("--at", line.at, kMoment)->capture_default_str();
  blame.callback([&line] {
    line.command = [&line](auto& repository, auto& look) {
      return history::blame(repository, line.path, line.at, look);
    };
  });
}

void add_follow(CLI::App& app, CommandLine& line) {
  auto& follow = *app.add_subcommand("follow", "changes as they come, as tail -f");
  add_path(follow, line.follow.path, "only what concerns this node and those below it");
  follow.add_option("-n", line.follow.count, "so many that are there already come first")
      ->capture_default_str();
  follow.callback([&line] {
    line.command = [&line](auto& repository, auto& look) {
      return history::follow(repository, line.follow, look);
    };
  });
}

void add_restore(CLI::App& app, CommandLine& line) {
  auto& restore = *app.add_subcommand(
      "restore", "make a part of a running daemon's tree again what it was, in one transaction");
  add_path(restore, line.restore.path, "this node and all below it")->required();
  restore.add_option("--at", line.restore.at, kMoment)->required();
  restore.add_option("--socket", line.restore.socket, "of the daemon")->capture_default_str();
  restore.add_flag("--yes", line.restore.is_confirmed, "without a question");
  restore.add_flag("--orphans-to-dom0", line.restore.orphans_to_dom0,
                   "nodes whose owner is dead go to domain 0");
  restore.callback([&line] {
    line.command = [&line](auto& repository, auto& look) {
      return history::restore(repository, line.restore, look);
    };
  });
}

void add_report(CLI::App& app, CommandLine& line) {
  auto& report = *app.add_subcommand("report", "one page of HTML for the post-mortem of a crash");
  report.add_option("-o", line.report.file, "the page to be written")
      ->required()
      ->type_name("FILE");
  report.add_option("--at", line.report.at,
                    "the moment before and after which the tree is shown; the last change else");
  report.add_option("--since", line.report.since, "begin of the time line")->type_name("TIME");
  report.add_option("-n", line.report.count, "at most so many commits in the time line")
      ->capture_default_str();
  report.callback([&line] {
    line.command = [&line](auto& repository, auto& look) {
      return history::report(repository, line.report, look);
    };
  });
}

bool is_coloured(const CommandLine& line) {
  if (line.color != "auto") return line.color == "always";
  return ::isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr;
}

Result<void> run(const CommandLine& line) {
  auto repository = Repository::open(line.area);
  if (!repository.has_value()) return tl::unexpected(repository.error());
  history::Look look;
  look.is_json = line.is_json;
  look.is_coloured = is_coloured(line);
  const auto done = line.command(*repository.value(), look);
  if (!done.has_value()) return done;
  if (std::fflush(stdout) != 0) return tl::unexpected(Problem("cannot write the output"));
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Looks into the history that a xenstored keeps of its tree.");
  CommandLine line;
  line.restore.socket = tools::default_socket();
  app.fallthrough();
  app.require_subcommand(1);
  app.add_option("--area", line.area, "the daemon's area, a copy of it, or of its history.git")
      ->capture_default_str();
  app.add_flag("--json", line.is_json, "as JSON");
  app.add_option("--color", line.color, "auto, always or never")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->capture_default_str();
  app.footer(
      "A time is 2026-11-21T16:40:11.5, 2026-11-21, 16:40, @1763741111.5, -5m or -1h30m. A commit\n"
      "is named as git does: 1a2b3c4d, HEAD, HEAD~3.");
  add_log(app, line);
  add_show(app, line);
  add_ls(app, line);
  add_diff(app, line);
  add_blame(app, line);
  add_follow(app, line);
  add_restore(app, line);
  add_report(app, line);
  CLI11_PARSE(app, argc, argv);

  const auto done = run(line);
  if (done.has_value()) return 0;
  std::fflush(stdout);
  std::fprintf(stderr, "xs-history: %s\n", done.error().c_str());
  return 1;
}
