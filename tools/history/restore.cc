// SPDX-License-Identifier: MIT
#include "tools/history/restore.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <thread>
#include <utility>
#include <vector>

#include "tools/common/client.h"
#include "tools/common/daemon_tree.h"
#include "tools/history/compare.h"
#include "tools/history/times.h"

namespace history {
namespace {

/// Others may be in the way for so long.
constexpr int kRestoresMax = 100;
constexpr std::chrono::milliseconds kPause{20};

std::string plan_text(const std::vector<Change>& plan, const Look& look) {
  std::string text;
  for (const Change& change : plan) text += change_text(change, look);
  return text;
}

bool agrees() {
  std::fputs("Do this? [y/N] ", stderr);
  char answer[16] = {};
  if (std::fgets(answer, sizeof answer, stdin) == nullptr) return false;
  return answer[0] == 'y' || answer[0] == 'Y';
}

class Restoration {
 public:
  Restoration(const RestoreOptions& options, const Look& look, const Commit& commit, Tree wanted)
      : options_(options), look_(look), commit_(commit), wanted_(std::move(wanted)) {}

  Result<void> run() {
    auto connected = client_.connect(options_.socket);
    if (!connected.has_value()) return connected;
    for (int tries = 0; tries < kRestoresMax; ++tries) {
      const auto outcome = attempt();
      if (!outcome.has_value()) return tl::unexpected(outcome.error());
      switch (outcome.value()) {
        case Outcome::kDone:
          return {};
        case Outcome::kAsk:
          if (auto agreement = agree(); !agreement.has_value()) return agreement;
          break;
        case Outcome::kAgain:
          std::this_thread::sleep_for(kPause);
          break;
      }
    }
    return tl::unexpected(
        fmt::format("others go on changing {}: nothing was done", escaped(options_.path)));
  }

 private:
  /// kAsk: it could be done, but it is not what was agreed to.
  enum class Outcome { kDone, kAsk, kAgain };

  std::string moment() const {
    return fmt::format("{} ({})", commit_.id.brief(), format_time(commit_.time_us));
  }

  Result<Outcome> attempt() {
    tools::Transaction transaction(client_);
    const auto started = transaction.start();
    if (!started.has_value()) return tl::unexpected(started.error());
    const auto live = tools::read_tree(transaction, options_.path);
    if (!live.has_value()) return tl::unexpected(live.error());
    plan_ = tools::plan_changes(wanted_, live.value(), options_.orphans_to_dom0);
    if (plan_.empty()) {
      return tl::unexpected(
          fmt::format("{} is as it was at {}: nothing to do", escaped(options_.path), moment()));
    }
    const auto worked = tools::Work().carry_out(transaction, plan_);
    if (!worked.has_value()) return tl::unexpected(worked.error() + "; nothing was done");
    if (!options_.is_confirmed && plan_text(plan_, look_) != agreed_) return Outcome::kAsk;
    const auto committed = transaction.commit();
    if (!committed.has_value()) return tl::unexpected(committed.error());
    if (!committed.value()) return Outcome::kAgain;
    if (!look_.is_json && options_.is_confirmed) show_plan();
    tell(true);
    return Outcome::kDone;
  }

  void show_plan() const {
    put(fmt::format("{} becomes what it was at {}:\n{}", escaped(options_.path), moment(),
                    plan_text(plan_, look_)));
    std::fflush(stdout);
  }

  /// No transaction is open while the user thinks.
  Result<void> agree() {
    if (look_.is_json) {
      tell(false);
    } else {
      show_plan();
    }
    if (look_.is_json || ::isatty(STDIN_FILENO) == 0) {
      return tl::unexpected(Problem("nothing was done; --yes does it"));
    }
    if (!agrees()) return tl::unexpected(Problem("nothing was done"));
    agreed_ = plan_text(plan_, look_);
    return {};
  }

  void tell(bool is_done) const {
    if (!look_.is_json) {
      put(fmt::format("done: {} nodes in one transaction\n", plan_.size()));
      return;
    }
    Document changes = Document::array();
    for (const Change& change : plan_) changes.push_back(change_json(change));
    const Document document = {{"path", escaped(options_.path)},
                               {"commit", commit_.id.hex()},
                               {"time", format_time(commit_.time_us)},
                               {"is_done", is_done},
                               {"changes", std::move(changes)}};
    put(document.dump(2) + '\n');
  }

  const RestoreOptions& options_;
  const Look& look_;
  const Commit& commit_;
  Tree wanted_;
  tools::Client client_;
  std::vector<Change> plan_;  ///< of the last attempt
  std::string agreed_;        ///< what the user agreed to
};

}  // namespace

Result<void> restore(Repository& repository, const RestoreOptions& options, const Look& look) {
  const auto commit = repository.resolve(options.at);
  if (!commit.has_value()) return tl::unexpected(commit.error());
  auto wanted = read_tree(repository, commit.value().tree, options.path);
  if (!wanted.has_value()) return tl::unexpected(wanted.error());
  return Restoration(options, look, commit.value(), std::move(wanted.value())).run();
}

}  // namespace history
