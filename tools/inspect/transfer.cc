// SPDX-License-Identifier: MIT
// export and import: a tree as text, and the way back.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <span>
#include <thread>
#include <utility>

#include "journal/records.h"
#include "store/path.h"
#include "tools/common/daemon_tree.h"
#include "tools/history/output.h"
#include "tools/inspect/commands.h"
#include "tools/inspect/tree_text.h"

namespace inspect {
namespace {

using tools::Change;
using tools::Tree;

/// What one transaction may have: nodes that are read, and weight of changes. A commit
/// holds up everybody as long as it takes; and the daemon refuses one (ENOSPC) that
/// could write half a gigabyte, taking each new node for as many as its path has names.
constexpr std::size_t kReadInOne = 10'000;
constexpr std::size_t kWeightInOne = 10'000;
/// Others may be in the way for so long.
constexpr int kImportsMax = 100;
constexpr std::chrono::milliseconds kImportPause{20};

Result<Tree> tree_to_export(const ExportOptions& options) {
  if (!options.area) return ask_tree(options.socket, options.path);
  auto stored = read_area(options.area->area, options.area->state);
  if (!stored.has_value()) {
    return tl::unexpected(stored.error().text +
                          (stored.error().is_served ? ": ask it, without --area" : ""));
  }
  Tree tree;
  const std::string below = options.path == "/" ? "/" : options.path + '/';
  for (auto& [path, content] : stored.value().tree) {
    if (path == options.path || path.starts_with(below)) tree[path] = std::move(content);
  }
  return tree;
}

Result<std::string> read_file(const std::string& name) {
  if (name == "-") return std::string(std::istreambuf_iterator<char>(std::cin), {});
  std::ifstream file(name, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file.is_open() || file.bad()) {
    return tl::unexpected(fmt::format("cannot read {}", store::escaped_word(name)));
  }
  return text;
}

std::vector<Document> json_of(const std::vector<Change>& changes) {
  std::vector<Document> array;
  std::ranges::transform(changes, std::back_inserter(array), history::change_json);
  return array;
}

std::size_t weight_of(const Change& change) {
  const auto names = std::ranges::count(change.path, '/');
  return change.before ? 1 : static_cast<std::size_t>(names);
}

/// As many of the first changes as one transaction may have.
std::span<const Change> first_part(std::span<const Change> changes) {
  std::size_t weight = 0;
  const auto is_in = [&](const Change& change) {
    weight += weight_of(change);
    return weight <= kWeightInOne;
  };
  const auto end = std::ranges::find_if_not(changes, is_in);
  return changes.first(static_cast<std::size_t>(end - changes.begin()));
}

class Import {
 public:
  Import(const ImportOptions& options, bool is_json, Tree wanted, std::vector<std::string> roots)
      : options_(options),
        is_json_(is_json),
        wanted_(std::move(wanted)),
        roots_(std::move(roots)) {}

  Result<void> run() {
    auto connected = client_.connect(options_.socket);
    if (!connected.has_value()) return connected;
    return until_nobody_is_in_the_way([this] { return attempt(); });
  }

 private:
  template <class Attempt>
  Result<void> until_nobody_is_in_the_way(const Attempt& once) {
    for (int tries = 0; tries < kImportsMax; ++tries) {
      const auto done = once();
      if (!done.has_value()) return tl::unexpected(done.error());
      if (done.value()) return {};
      std::this_thread::sleep_for(kImportPause);
    }
    return tl::unexpected(
        fmt::format("others go on changing these nodes: {} transactions of {} "
                    "were done",
                    done_, transactions_));
  }

  /// False: others were in the way.
  Result<bool> attempt() {
    tools::Transaction transaction(client_);
    auto planned = plan(transaction);
    if (!planned.has_value()) return tl::unexpected(planned.error());
    show();
    if (plan_.empty()) return finish(false);
    if (is_large_) return options_.is_dry ? finish(false) : in_parts(transaction);
    tools::Work work;
    const auto worked = work.carry_out(transaction, plan_);
    if (!worked.has_value()) return tl::unexpected(worked.error() + "; nothing was done");
    if (options_.is_dry) return finish(false);
    const auto committed = transaction.commit();
    if (!committed.has_value() || !committed.value()) return committed;
    return finish(true);
  }

  Result<void> plan(tools::Transaction& transaction) {
    if (auto started = transaction.start(); !started.has_value()) return started;
    Tree live;
    for (const std::string& root : roots_) {
      auto read = tools::read_tree(transaction, root);
      if (!read.has_value()) return tl::unexpected(read.error());
      live.merge(read.value());
    }
    plan_ = tools::plan_changes(wanted_, live, options_.orphans_to_dom0);
    if (!options_.is_pruning) {
      std::erase_if(plan_, [](const Change& change) { return !change.after; });
    }
    transactions_ = 0;
    for (std::span<const Change> rest = plan_; !rest.empty(); ++transactions_) {
      rest = rest.subspan(first_part(rest).size());
    }
    is_large_ = transactions_ > 1 || live.size() > kReadInOne;
    return {};
  }

  /// What was read belongs to none of these: that would be too much for a commit.
  Result<bool> in_parts(tools::Transaction& reading) {
    if (auto ended = reading.give_up(); !ended.has_value()) return tl::unexpected(ended.error());
    tools::Work work;
    for (std::span<const Change> rest = plan_; !rest.empty(); ++done_) {
      const auto part = first_part(rest);
      auto done = until_nobody_is_in_the_way([&]() -> Result<bool> {
        tools::Transaction transaction(client_);
        const tools::Work before = work;
        if (auto ok = transaction.start(); !ok.has_value()) return tl::unexpected(ok.error());
        if (auto ok = work.carry_out(transaction, part); !ok.has_value()) {
          return tl::unexpected(
              fmt::format("{}; {} transactions of {} were done", ok.error(), done_, transactions_));
        }
        auto committed = transaction.commit();
        if (committed.has_value() && !committed.value()) work = before;
        return committed;
      });
      if (!done.has_value()) return tl::unexpected(done.error());
      rest = rest.subspan(part.size());
    }
    return finish(true);
  }

  /// Before it is done; and again if it is something else now.
  void show() {
    if (is_json_) return;
    std::string text;
    for (const Change& change : plan_) text += history::change_text(change, {});
    if (text == shown_) return;
    if (!shown_.empty()) history::put("meanwhile others changed these nodes; now:\n");
    history::put(text);
    if (transactions_ > 1) {
      history::put(fmt::format(
          "too much for one transaction: {}, between which others see a part\n", transactions_));
    }
    std::fflush(stdout);
    shown_ = std::move(text);
  }

  bool finish(bool is_done) const {
    if (is_json_) {
      const Document document = {
          {"is_done", is_done}, {"transactions", transactions_}, {"changes", json_of(plan_)}};
      history::put(document.dump(2) + '\n');
    } else if (plan_.empty()) {
      history::put("nothing to do: the daemon has these nodes\n");
    } else if (!is_done) {
      history::put(fmt::format("{} nodes; nothing was done\n", plan_.size()));
    } else if (transactions_ == 1) {
      history::put(fmt::format("done: {} nodes in one transaction\n", plan_.size()));
    } else {
      history::put(fmt::format("done: {} nodes in {} transactions\n", plan_.size(), transactions_));
    }
    return true;
  }

  const ImportOptions& options_;
  bool is_json_;
  Tree wanted_;
  std::vector<std::string> roots_;
  tools::Client client_;
  std::vector<Change> plan_;  ///< of the last attempt
  bool is_large_ = false;     ///< too much for one transaction with what was read
  std::size_t transactions_ = 0;
  std::size_t done_ = 0;  ///< of these
  std::string shown_;
};

}  // namespace

Result<void> export_tree(const ExportOptions& options, bool is_json) {
  const auto tree = tree_to_export(options);
  if (!tree.has_value()) return tl::unexpected(tree.error());
  if (!tree.value().contains(options.path)) {
    return tl::unexpected(fmt::format("no node {}", store::escaped_word(options.path)));
  }
  if (!is_json) {
    for (const auto& [path, content] : tree.value()) history::put(line_of(path, content));
    return {};
  }
  history::JsonArray json(Document{{"path", options.path}}, "nodes");
  for (const auto& [path, content] : tree.value()) {
    Document node = {{"path", history::escaped(path)}};
    node.update(history::content_json(content));
    json.add(node);
  }
  json.close();
  return {};
}

Result<void> import_tree(const ImportOptions& options, bool is_json) {
  const auto text = read_file(options.file);
  if (!text.has_value()) return tl::unexpected(text.error());
  auto tree = parse_tree(text.value());
  if (!tree.has_value()) return tl::unexpected(tree.error());
  auto roots = roots_of(tree.value());
  if (!roots.has_value()) return tl::unexpected(roots.error());
  return Import(options, is_json, std::move(tree.value()), std::move(roots.value())).run();
}

}  // namespace inspect
