// SPDX-License-Identifier: MIT
// check: whether what a daemon keeps two or three times says the same.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <thread>
#include <utility>

#include "tools/history/compare.h"
#include "tools/history/output.h"
#include "tools/history/times.h"
#include "tools/inspect/commands.h"
#include "tools/inspect/stored_history.h"

namespace inspect {
namespace {

using history::Repository;
using tools::Change;
using tools::Tree;

/// Differences that are printed.
constexpr std::size_t kShownMax = 50;
/// A running daemon's history comes after its tree, by a tenth of a second or, when it
/// is busy, by more. So what differs is looked at again, so many times at least and at
/// most (which is 5 seconds, and a minute).
constexpr int kLooksMin = 20;
constexpr int kLooksMax = 240;
constexpr std::chrono::milliseconds kBetweenLooks{250};

struct Part {
  enum class Verdict { kAgrees, kDiffers, kNotCompared };
  std::string name;
  Verdict verdict;
  std::string text;
  std::vector<Change> differences{};
};

const char* text_of(Part::Verdict verdict) {
  switch (verdict) {
    case Part::Verdict::kAgrees:
      return "agrees";
    case Part::Verdict::kDiffers:
      return "DIFFERS";
    case Part::Verdict::kNotCompared:
      break;
  }
  return "not compared";
}

Part agreeing(std::string name, std::string text) {
  return {std::move(name), Part::Verdict::kAgrees, std::move(text)};
}
Part not_compared(std::string name, std::string text) {
  return {std::move(name), Part::Verdict::kNotCompared, std::move(text)};
}
/// As far as what was read can be told node by node.
Part differing(std::string name, std::string text, std::vector<Change> found = {}) {
  return {std::move(name), Part::Verdict::kDiffers, std::move(text), std::move(found)};
}

/// One that says what `found` is: none, and all is well.
Part judged(std::string name, const std::string& text, std::vector<Change> found) {
  if (found.empty()) return agreeing(std::move(name), text);
  return differing(std::move(name), text, std::move(found));
}

/// What of `earlier` is still there, unchanged on both sides.
std::vector<Change> still_there(const std::vector<Change>& earlier,
                                const std::vector<Change>& now) {
  std::vector<Change> both;
  auto at = now.begin();
  for (const Change& change : earlier) {
    while (at != now.end() && at->path < change.path) ++at;
    if (at != now.end() && *at == change) both.push_back(change);
  }
  return both;
}

class Check {
 public:
  explicit Check(const Place& place) : place_(place) {}

  std::vector<Part> run() {
    const auto stored = read_area(place_.area, place_.state);
    if (!stored.has_value() && stored.error().is_served) {
      add(ask_to_check());
      add(history_of_daemon());
      return std::move(parts_);
    }
    add(state(stored));
    add(history_of(stored));
    add(daemon_of(stored));
    return std::move(parts_);
  }

 private:
  using Stored = store::Result<StoredState, AreaProblem>;

  void add(Part part) { parts_.push_back(std::move(part)); }

  static Part state(const Stored& stored) {
    if (stored.has_value()) {
      return agreeing(kState,
                      fmt::format("each page and record is as commit {} left it; {} nodes",
                                  stored.value().facts.commits, stored.value().tree.size()));
    }
    return stored.error().is_missing ? not_compared(kState, stored.error().text)
                                     : differing(kState, stored.error().text);
  }

  /// The part that says why not, if history cannot be read.
  store::Result<std::unique_ptr<Repository>, Part> open_history() const {
    std::error_code error;
    if (!std::filesystem::exists(place_.area / "history.git" / "HEAD", error)) {
      return tl::unexpected(not_compared(kHistory, "there is none in " + place_.area.native()));
    }
    auto opened = Repository::open(place_.area);
    if (!opened.has_value()) return tl::unexpected(differing(kHistory, opened.error()));
    return std::move(opened.value());
  }

  Part history_of(const Stored& stored) const {
    const auto opened = open_history();
    if (!opened.has_value()) return opened.error();
    Repository& repository = *opened.value();
    const auto tip = repository.tip();
    if (!tip.has_value()) return differing(kHistory, tip.error());
    auto tree = history::read_tree(repository, tip.value().tree, "/");
    if (!tree.has_value()) return differing(kHistory, tree.error());
    const std::string last =
        fmt::format("its last commit, {}, can be read", tip.value().id.brief());
    if (!stored.has_value()) return not_compared(kHistory, last + "; there is no state");
    const std::string& setting = stored.value().history_setting;
    if (setting.empty()) return not_compared(kHistory, last + "; the state was without history");
    Part part = with_entries(tip.value(), std::move(tree.value()), stored.value());
    if (setting == "on" || part.verdict == Part::Verdict::kAgrees) return part;
    return not_compared(kHistory, last +
                                      "; it had fallen behind, which the state says: the next "
                                      "start writes the whole tree");
  }

  /// The tip's tree, and what is stored since, make the state's.
  static Part with_entries(const history::Commit& tip, Tree tree, const StoredState& stored) {
    const auto entries = parse_entries(stored.history_entries);
    if (!entries.has_value()) return differing(kHistory, "stored entries: " + entries.error());
    std::uint64_t last = tip.last_entry;
    std::size_t waiting = 0;
    for (const journal::HistoryEntry& entry : entries.value()) {
      if (entry.number <= tip.last_entry) continue;
      if (entry.number != last + 1) {
        return differing(kHistory, fmt::format("after entry {} comes {}", last, entry.number));
      }
      for (const journal::HistoryChange& change : entry.changes) apply(change, tree);
      last = entry.number;
      ++waiting;
    }
    if (stored.facts.last_entry != last) {
      return differing(kHistory, fmt::format("with what is stored it ends with entry {}, but the "
                                             "state's last is {}",
                                             last, stored.facts.last_entry));
    }
    return judged(kHistory,
                  fmt::format("commit {}, entry {}, with {} stored since, against the state's tree",
                              tip.id.brief(), tip.last_entry, waiting),
                  tools::differences(tree, stored.tree));
  }

  Part daemon_of(const Stored& stored) const {
    if (!place_.is_socket_named) return not_compared(kDaemon, "none serves this area");
    const auto live = ask_tree(place_.socket, "/");
    if (!live.has_value()) return not_compared(kDaemon, live.error());
    if (!stored.has_value()) return not_compared(kDaemon, "there is no state");
    return judged(kDaemon,
                  fmt::format("the state's tree against {} nodes of the daemon on {}",
                              live.value().size(), place_.socket.native()),
                  tools::differences(tools::without_marks(stored.value().tree), live.value()));
  }

  /// Nobody else can read the state while a daemon writes it.
  Part ask_to_check() const {
    tools::Client client;
    const auto connected = client.connect(place_.socket);
    if (!connected.has_value()) {
      return not_compared(kState, "a daemon serves it: " + connected.error());
    }
    const auto reply = client.ask(xenstored::Op::kControl, std::string_view("check\0", 6));
    if (!reply.has_value()) return not_compared(kState, reply.error());
    if (!reply.value().is_error) {
      return agreeing(kState, "the daemon that serves it compared it with its memory");
    }
    if (reply.value().payload == "EIO") {
      return differing(kState, "the daemon that serves it found differences, and logged them");
    }
    return not_compared(kState, "the daemon does not check: " + reply.value().payload);
  }

  /// What is found at one look at a running daemon and its history.
  struct Finding {
    history::Commit tip;
    std::size_t nodes;
    std::vector<Change> changes;

    std::string text() const {
      return fmt::format("commit {}, entry {}, against {} nodes of the running daemon",
                         tip.id.brief(), tip.last_entry, nodes);
    }
  };

  store::Result<Finding, Part> look_at_daemon(Repository& repository) const {
    const auto live = ask_tree(place_.socket, "/");
    if (!live.has_value()) return tl::unexpected(not_compared(kHistory, live.error()));
    const auto tip = repository.tip();
    if (!tip.has_value()) return tl::unexpected(differing(kHistory, tip.error()));
    auto tree = history::read_tree(repository, tip.value().tree, "/");
    if (!tree.has_value()) return tl::unexpected(differing(kHistory, tree.error()));
    return Finding{tip.value(), live.value().size(),
                   tools::differences(tools::without_marks(std::move(tree.value())), live.value())};
  }

  Part history_of_daemon() const {
    const auto opened = open_history();
    if (!opened.has_value()) return opened.error();
    auto found = look_at_daemon(*opened.value());
    const std::int64_t first_look_us = history::now_us();
    int looks_at_tip = 1;
    for (int looks = 1; looks < kLooksMax && found.has_value(); ++looks) {
      const Finding& last = found.value();
      // What was changed before the first look is in history once something later is,
      // or if nothing more comes.
      const bool has_later = last.tip.time_us > first_look_us && looks >= kLooksMin;
      if (last.changes.empty() || has_later || looks_at_tip >= kLooksMin) {
        return judged(kHistory, last.text(), last.changes);
      }
      std::this_thread::sleep_for(kBetweenLooks);
      auto next = look_at_daemon(*opened.value());
      if (!next.has_value()) return next.error();
      next.value().changes = still_there(last.changes, next.value().changes);
      looks_at_tip = next.value().tip.id == last.tip.id ? looks_at_tip + 1 : 1;
      found = std::move(next);
    }
    return found.has_value() ? not_compared(kHistory, "it is far behind the running daemon")
                             : found.error();
  }

  static constexpr const char* kState = "state";
  static constexpr const char* kHistory = "history";
  static constexpr const char* kDaemon = "daemon";

  const Place& place_;
  std::vector<Part> parts_;
};

Document as_json(const Part& part) {
  Document document = {{"part", part.name},
                       {"verdict", text_of(part.verdict)},
                       {"text", history::escaped(part.text)},
                       {"count", part.differences.size()}};
  Document shown = Document::array();
  for (const Change& change : part.differences) {
    if (shown.size() < kShownMax) shown.push_back(history::change_json(change));
  }
  document["differences"] = std::move(shown);
  return document;
}

void print(const Part& part) {
  history::put(fmt::format("{:<8} {:<13} {}\n", part.name, text_of(part.verdict),
                           history::escaped(part.text)));
  const std::size_t count = part.differences.size();
  for (std::size_t i = 0; i < std::min(count, kShownMax); ++i) {
    history::put(history::change_text(part.differences[i], {}));
  }
  if (count > kShownMax) history::put(fmt::format("  and {} more nodes\n", count - kShownMax));
}

}  // namespace

int check(const Place& place, bool is_json) {
  const std::vector<Part> parts = Check(place).run();
  if (is_json) {
    Document document = {{"area", history::escaped(place.area.native())},
                         {"parts", Document::array()}};
    for (const Part& part : parts) document["parts"].push_back(as_json(part));
    history::put(document.dump(2) + '\n');
  } else {
    for (const Part& part : parts) print(part);
  }
  const auto has = [&](Part::Verdict verdict) {
    return std::ranges::any_of(parts, [&](const Part& part) { return part.verdict == verdict; });
  };
  if (has(Part::Verdict::kDiffers)) return 1;
  return has(Part::Verdict::kAgrees) ? 0 : 2;
}

}  // namespace inspect
