// SPDX-License-Identifier: MIT
// xs-inspect: what a running xenstored, or the state that a dead one left, knows of its
// clients and its tree. README.md in this folder has an example of each command.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>

#include "store/path.h"
#include "tools/inspect/commands.h"

namespace {

using inspect::Result;

/// What the user said, and what is to be done.
struct CommandLine {
  std::string area;
  std::string socket;
  std::string state = "state";
  bool is_json = false;
  inspect::ExportOptions exporting;
  inspect::ImportOptions importing;
  std::function<int(CommandLine&)> command;

  /// The daemon to be asked.
  std::string daemon() const { return socket.empty() ? tools::default_socket() : socket; }
  /// An area and the socket of its daemon: of one that is named the other is beside it.
  inspect::Place place() const {
    const char* const named = std::getenv("XENSTORED_RUNDIR");
    std::filesystem::path run_dir = named != nullptr ? named : "/run/xenstored";
    if (!socket.empty()) run_dir = std::filesystem::path(socket).parent_path();
    inspect::Place place{run_dir / "area", state, daemon(), !socket.empty()};
    if (area.empty()) return place;
    place.area = area;
    if (socket.empty()) place.socket = (place.area / "..").lexically_normal() / "socket";
    return place;
  }
};

int finished(const Result<void>& done) {
  const bool is_written = std::fflush(stdout) == 0;
  if (done.has_value() && is_written) return 0;
  std::fprintf(stderr, "xs-inspect: %s\n",
               done.has_value() ? "cannot write the output" : done.error().c_str());
  return 1;
}

Result<inspect::Document> clients_of(const CommandLine& line) {
  if (line.area.empty()) return inspect::ask_daemon(line.daemon());
  auto stored = inspect::read_area(line.area, line.state);
  if (stored.has_value()) return std::move(stored.value().clients);
  return tl::unexpected(stored.error().text +
                        (stored.error().is_served ? ": ask it, without --area" : ""));
}

/// All of the clients, or one part.
int show(const CommandLine& line, const std::string& part) {
  auto document = clients_of(line);
  if (!document.has_value()) return finished(tl::unexpected(document.error()));
  if (!part.empty()) document = inspect::only(part, document.value());
  const std::string text = line.is_json   ? document.value().dump(2) + '\n'
                           : part.empty() ? inspect::as_text(document.value())
                                          : inspect::as_table(part, document.value());
  std::fputs(text.c_str(), stdout);
  return finished({});
}

void add_part(CLI::App& app, CommandLine& line, const std::string& part, const std::string& help) {
  app.add_subcommand(part, help)->callback([&line, part] {
    line.command = [part](CommandLine& said) { return show(said, part); };
  });
}

void add_export(CLI::App& app, CommandLine& line) {
  auto& command = *app.add_subcommand("export", "the tree as text, a line for each node");
  command.add_option("path", line.exporting.path, "this node and those below it")
      ->check([](const std::string& path) {
        return store::is_node_path(path) ? ""
                                         : store::escaped_word(path) + ": not a path of a node";
      })
      ->capture_default_str();
  command.callback([&line] {
    line.command = [](CommandLine& said) {
      if (!said.area.empty()) said.exporting.area = said.place();
      said.exporting.socket = said.daemon();
      return finished(inspect::export_tree(said.exporting, said.is_json));
    };
  });
}

void add_import(CLI::App& app, CommandLine& line) {
  auto& command = *app.add_subcommand("import", "write such a text through a running daemon");
  command.add_option("file", line.importing.file, "what export wrote; - is stdin")->required();
  command.add_flag("--prune", line.importing.is_pruning,
                   "nodes below those of the text that are not in it go");
  command.add_flag("--dry-run", line.importing.is_dry, "only show what would be done");
  command.add_flag("--orphans-to-dom0", line.importing.orphans_to_dom0,
                   "nodes whose owner is dead go to domain 0");
  command.callback([&line] {
    line.command = [](CommandLine& said) {
      if (!said.area.empty()) {
        return finished(tl::unexpected(tools::Problem("import is through a daemon: no --area")));
      }
      said.importing.socket = said.daemon();
      return finished(inspect::import_tree(said.importing, said.is_json));
    };
  });
}

void add_check(CLI::App& app, CommandLine& line) {
  app.add_subcommand("check", "compare the state, its history and the daemon")->callback([&line] {
    line.command = [](CommandLine& said) {
      const int status = inspect::check(said.place(), said.is_json);
      return std::fflush(stdout) == 0 ? status : 1;
    };
  });
}

void add_stat(CLI::App& app, CommandLine& line) {
  app.add_subcommand("stat", "sizes of an area and of what is in it")->callback([&line] {
    line.command = [](CommandLine& said) {
      return finished(inspect::stat(said.place(), said.is_json));
    };
  });
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Shows domains, rings, pending output, watches and transactions of a xenstored.");
  CommandLine line;
  app.fallthrough();
  app.require_subcommand(0, 1);
  app.add_option("--socket", line.socket, "of the daemon to be asked [" + line.daemon() + "]");
  auto* const area_option = app.add_option(
      "--area", line.area, "read the state in this area instead, which nobody serves");
  app.add_option("--state", line.state, "the area's folder to read; those set aside are state.*")
      ->needs(area_option)
      ->capture_default_str();
  app.add_flag("--json", line.is_json, "as JSON");
  add_check(app, line);
  add_stat(app, line);
  add_export(app, line);
  add_import(app, line);
  add_part(app, line, "domains", "a line for each domain");
  add_part(app, line, "rings", "where the streams of each domain stand");
  add_part(app, line, "watches", "a line for each watch");
  add_part(app, line, "transactions", "a line for each open transaction");
  CLI11_PARSE(app, argc, argv);
  return line.command ? line.command(line) : show(line, "");
}
