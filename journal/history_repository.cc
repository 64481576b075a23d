// SPDX-License-Identifier: MIT
#include "journal/history_repository.h"

#include <algorithm>
#include <utility>

#include "journal/git_refs.h"
#include "journal/history_packs.h"
#include "journal/history_text.h"
#include "journal/history_tree.h"

namespace journal {
namespace {

constexpr std::string_view kMainBranch = "main";

auto history_failed(OpenError::Kind kind, std::string message) {
  return tl::unexpected(OpenError{kind, std::move(message)});
}

auto damaged_history(std::string message) {
  return history_failed(OpenError::Kind::kDamaged, std::move(message));
}

std::string commit_text(const git::ObjectId& tree, const std::optional<git::ObjectId>& parent,
                        const HistoryAuthor& author, std::uint64_t time_us,
                        std::string_view message) {
  const std::string when = " " + std::to_string(time_us / 1'000'000) + " +0000\n";
  std::string text = "tree " + tree.hex() + "\n";
  if (parent.has_value()) text += "parent " + parent->hex() + "\n";
  text += "author " + author_line(author) + when;
  text += "committer " + author_line(HistoryAuthor{}) + when;
  text += "\n";
  text += message;
  return text;
}

std::string whole_message(std::uint64_t number, std::uint64_t time_us, std::string_view reason) {
  const std::string clean = cleaned(reason);
  std::string message = "the whole tree: " + clean + "\n\n";
  message += "Xenstore-Whole: " + clean + "\n";
  append_trailers({.first = number, .last = number, .time_us = time_us}, message);
  return message;
}

}  // namespace

HistoryRepository::HistoryRepository(Options options) : options_(std::move(options)) {
  options_.limit_bytes = std::max(options_.limit_bytes, kLeastLimitBytes);
  if (!options_.note) options_.note = [](const std::string&) {};
}

HistoryRepository::~HistoryRepository() = default;

// HEAD is made after the first flush: without it and without a branch there was never
// a commit, and what packs there are nobody has been told of.
Result<std::unique_ptr<HistoryRepository>, OpenError> HistoryRepository::open(Options options) {
  std::unique_ptr<HistoryRepository> opened(new HistoryRepository(std::move(options)));
  const std::filesystem::path& folder = opened->options_.folder;
  git::remove_locks(folder);
  if (opened->options_.archive.has_value()) git::remove_locks(*opened->options_.archive);
  if (auto made = git::make_bare(folder); !made.has_value()) {
    return history_failed(OpenError::Kind::kSystem, made.error());
  }
  const auto tip = git::read_branch(folder, kMainBranch);
  if (!tip.has_value()) return damaged_history(tip.error());
  if (!tip.value().has_value() && git::has_head(folder)) {
    return damaged_history(folder.string() + " has lost its branch main");
  }
  auto packs = HistoryPacks::open({.repository = folder,
                                   .limit_bytes = opened->options_.limit_bytes,
                                   .archive = opened->options_.archive},
                                  tip.value(), opened->options_.note);
  if (!packs.has_value()) return tl::unexpected(packs.error());
  opened->packs_ = std::move(packs.value());
  opened->tree_ = std::make_unique<HistoryTree>(*opened->packs_, opened->options_.breathe);
  opened->tip_ = tip.value();
  if (auto read = opened->read_tip_commit(); !read.has_value()) {
    return tl::unexpected(read.error());
  }
  return opened;
}

Result<void, OpenError> HistoryRepository::read_tip_commit() {
  if (!tip_.has_value()) return {};
  const auto commit = packs_->read(*tip_, git::Kind::kCommit);
  if (!commit.has_value()) return damaged_history(commit.error());
  constexpr std::string_view kTree = "tree ";
  if (commit->starts_with(kTree)) {
    tip_tree_ = git::ObjectId::of_hex(std::string_view(*commit).substr(kTree.size(), 40));
  }
  const auto entry = entry_of_message(commit.value());
  if (!tip_tree_.has_value() || !entry.has_value()) {
    return damaged_history("the last commit, " + tip_->hex() + ", is none of xenstored's");
  }
  last_entry_ = flushed_entry_ = *entry;
  if (auto written = git::write_head(options_.folder, kMainBranch); !written.has_value()) {
    return history_failed(OpenError::Kind::kSystem, written.error());
  }
  return {};
}

bool HistoryRepository::is_fresh() const { return !tip_.has_value(); }

// Adding.

Result<void, std::string> HistoryRepository::add(std::span<const HistoryEntry> entries,
                                                 bool has_dropped_values) {
  HistoryCommit commit;
  for (const HistoryEntry& entry : entries) {
    if (entry.number > last_entry_) commit.add(entry);
  }
  if (has_dropped_values) commit.note_dropped_values();
  return commit.empty() ? Result<void, std::string>() : add(commit);
}

Result<void, std::string> HistoryRepository::add(const HistoryCommit& commit) {
  if (commit.empty()) return {};
  if (!is_fresh() && commit.first_number() != last_entry_ + 1) {
    return tl::unexpected("entry " + std::to_string(commit.first_number()) + " does not follow " +
                          std::to_string(last_entry_));
  }
  Result<void, std::string> added;
  if (packs_->wants_segment()) {
    added = add_in_new_segment([&] { return add_here(commit); });
  } else {
    const auto mark = packs_->mark();
    added = add_here(commit);
    if (!added.has_value()) packs_->rollback(mark);
  }
  if (added.has_value()) last_entry_ = commit.last_number();
  return added;
}

Result<void, std::string> HistoryRepository::add_here(const HistoryCommit& commit) {
  const auto tree = tree_->apply(tip_tree_, commit.effect());
  if (!tree.has_value()) return tl::unexpected(tree.error());
  return add_commit(tree.value(), commit.author(), commit.time_us(), commit.message());
}

Result<void, std::string> HistoryRepository::add_whole(std::uint64_t number, std::uint64_t time_us,
                                                       std::string_view reason,
                                                       const HistoryNodeSource& show_all) {
  auto added = add_in_new_segment([&]() -> Result<void, std::string> {
    const auto tree = tree_->write_whole(show_all);
    if (!tree.has_value()) return tl::unexpected(tree.error());
    return add_commit(tree.value(), HistoryAuthor{}, time_us,
                      whole_message(number, time_us, reason));
  });
  if (added.has_value()) last_entry_ = number;
  return added;
}

/// The segment before is complete on its own, whatever becomes of this one.
Result<void, std::string> HistoryRepository::add_in_new_segment(
    const std::function<Result<void, std::string>()>& add_commit_and_tree) {
  if (auto flushed = flush(); !flushed.has_value()) return flushed;
  const auto tip_before = tip_;
  const auto tree_before = tip_tree_;
  packs_->begin_segment();
  auto added = add_commit_and_tree();
  if (added.has_value()) added = tree_->complete(*tip_tree_);
  if (added.has_value()) {
    packs_->name_first(*tip_);
    return added;
  }
  packs_->abandon_segment();
  tip_ = tip_before;
  tip_tree_ = tree_before;
  is_ref_at_tip_ = true;
  return added;
}

Result<void, std::string> HistoryRepository::add_commit(const git::ObjectId& tree,
                                                        const HistoryAuthor& author,
                                                        std::uint64_t time_us,
                                                        std::string_view message) {
  const std::string text = commit_text(tree, tip_, author, time_us, message);
  const git::ObjectId id = git::id_of(git::Kind::kCommit, text);
  if (!packs_->segment_has(id)) packs_->add(git::Kind::kCommit, id, text);
  tip_ = id;
  tip_tree_ = tree;
  is_ref_at_tip_ = false;
  ++commits_;
  return {};
}

// Files.

// Killed anywhere in here, the branch names either commit, and what both need is there.
Result<void, std::string> HistoryRepository::flush() {
  if (auto published = packs_->publish(); !published.has_value()) return published;
  if (!is_ref_at_tip_) {
    auto written = git::write_branch(options_.folder, kMainBranch, *tip_);
    if (written.has_value()) written = git::write_head(options_.folder, kMainBranch);
    if (!written.has_value()) return written;
    is_ref_at_tip_ = true;
    flushed_entry_ = last_entry_;
  }
  packs_->retire();
  return {};
}

Result<void, std::string> HistoryRepository::read_tip(const HistoryNodeSink& sink) {
  if (!tip_tree_.has_value()) return {};
  return tree_->show(*tip_tree_, sink);
}

Result<bool, std::string> HistoryRepository::drop_oldest() { return packs_->drop_oldest(); }

std::uint64_t HistoryRepository::unflushed_bytes() const { return packs_->pending_bytes(); }
std::uint64_t HistoryRepository::bytes() const { return packs_->bytes(); }

}  // namespace journal
