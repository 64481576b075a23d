// SPDX-License-Identifier: MIT
/// What the tests of history share: repositories on a tmpfs, stock git as the judge,
/// and a tree as a plain map with random requests upon it.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "journal/history_repository.h"

namespace journal::testing {

/// A folder on /dev/shm, removed with its owner.
class TestFolder {
 public:
  TestFolder();
  ~TestFolder();
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path repository() const { return path_ / "history.git"; }

 private:
  std::filesystem::path path_;
};

/// What a shell command says on both outputs; fails the test if it fails.
std::string run(const std::string& command);
/// `git -C <repository> <arguments>`.
std::string git(const std::filesystem::path& repository, const std::string& arguments);
/// Fails the test unless `git fsck --strict` has nothing at all to say.
void expect_sound(const std::filesystem::path& repository);
/// The same, but there may be commits that no branch leads to.
void expect_readable(const std::filesystem::path& repository);

struct TestNode {
  std::string value{};
  store::Perms perms = {{store::kDom0, store::Access::kNone}};

  friend bool operator==(const TestNode&, const TestNode&) = default;
};

/// A tree by paths.
using TestTree = std::map<std::string, TestNode>;

/// The tree as git's plumbing has it (ls-tree, cat-file), not our reader.
TestTree tree_by_git(const std::filesystem::path& repository, const std::string& commit = "main");
/// The tree as read_tip shows it.
TestTree tree_at_tip(HistoryRepository& repository);
/// Shows a tree depth first.
HistoryNodeSource source_of(const TestTree& tree);

/// Makes what an entry does to a tree.
void perform(const HistoryEntry& entry, TestTree& tree);

/// Makes random requests, valid on the tree that it keeps.
class RandomRequests {
 public:
  explicit RandomRequests(std::uint64_t seed);

  HistoryEntry next();
  const TestTree& tree() const { return tree_; }
  std::uint64_t number() const { return number_; }

 private:
  std::uint64_t below(std::uint64_t end) { return random_() % end; }
  std::string some_path();
  std::string some_value();
  store::Perms some_perms();
  void change(HistoryEntry& entry);

  std::mt19937_64 random_;
  TestTree tree_;
  std::uint64_t number_ = 0;
};

/// Opens, failing the test if that is refused. Notes fail the test too, unless
/// `notes` is given to collect them.
std::unique_ptr<HistoryRepository> open_history(const HistoryRepository::Options& options,
                                                std::vector<std::string>* notes = nullptr);
/// The same with a first commit of an empty tree: a root.
std::unique_ptr<HistoryRepository> begin_history(const HistoryRepository::Options& options);

/// Fails the test when the result is an error.
template <class Result>
void expect_done(const Result& result) {
  EXPECT_TRUE(result.has_value()) << result.error();
}

}  // namespace journal::testing
