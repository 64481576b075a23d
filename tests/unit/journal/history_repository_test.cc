// SPDX-License-Identifier: MIT
// History against a plain map, with stock git as the judge.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <sstream>

#include "tests/unit/journal/history_support.h"
#include "tests/unit/journal/support.h"

namespace journal::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

HistoryEntry write_of(std::uint64_t number, const std::string& path, const std::string& value) {
  return {.number = number,
          .time_us = 1'763'741'111'123'456,
          .author = {.kind = HistoryAuthor::kDomain, .domid = Domid{3}},
          .what = "WRITE",
          .changes = {{.path = path, .value = value, .perms = {{Domid{3}, store::Access::kRead}}}}};
}

TEST(HistoryRepository, ACommitSaysWhoDidWhatWhen) {
  const TestFolder folder;
  auto history = begin_history({.folder = folder.repository()});
  HistoryEntry entry = write_of(1, "/local", "");
  entry.changes.push_back({.path = "/local/x", .value = "hello", .perms = entry.changes[0].perms});
  expect_done(history->add(std::span(&entry, 1)));
  expect_done(history->flush());
  EXPECT_EQ(git(folder.repository(), "log -1 --format='%an|%ae|%aI|%cn|%s|%(trailers)'"),
            "domain 3|domain-3@xenstore|2025-11-21T16:05:11+00:00|xenstored|WRITE /local/x|"
            "Xenstore-Entry: 1\nXenstore-Time: 1763741111.123456\n\n");
  EXPECT_EQ(git(folder.repository(), "ls-tree -r --name-only main"),
            ".perms\nlocal/.perms\nlocal/x/.perms\nlocal/x/.value\n");
  EXPECT_EQ(git(folder.repository(), "cat-file blob main:local/x/.value"), "hello");
  EXPECT_EQ(git(folder.repository(), "cat-file blob main:local/x/.perms"), "r3\n");
  expect_sound(folder.repository());
}

TEST(HistoryRepository, SeveralRequestsInACommitAreListed) {
  const TestFolder folder;
  auto history = begin_history({.folder = folder.repository()});
  std::vector<HistoryEntry> entries = {write_of(1, "/a", "1"), write_of(2, "/a", "2")};
  entries.push_back({.number = 3,
                     .time_us = 1'763'741'112'000'001,
                     .author = {.kind = HistoryAuthor::kSocket, .pid = 12, .command = "xl"},
                     .what = "RM",
                     .changes = {{.path = "/a", .is_removal = true}}});
  expect_done(history->add(entries, true));
  expect_done(history->flush());
  EXPECT_EQ(git(folder.repository(), "log -1 --format='%an%n%B'"),
            "xl\n3 requests: 2 WRITE, 1 RM\n\n"
            "WRITE /a by domain 3 (domain-3)\nWRITE /a by domain 3 (domain-3)\n"
            "RM /a by xl (pid-12.uid-0)\n\n"
            "Values between the first and the last of a node may be missing: too many changes for "
            "history to keep up with.\n\n"
            "Xenstore-Entry: 3\nXenstore-Entries: 1-3\nXenstore-Time: 1763741112.000001\n\n");
}

// Random requests, in commits of one or several, flushed now and then, with re-opens;
// the tree by our reader and by git's, and each entry in exactly one commit.
TEST(HistoryRepository, EqualsAMapAfterRandomRequestsAndReopenings) {
  const TestFolder folder;
  const HistoryRepository::Options options{.folder = folder.repository()};
  auto history = begin_history(options);
  RandomRequests requests(17);
  std::mt19937_64 random(18);
  constexpr int kRounds = 3000 / kSanitizerFactor;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<HistoryEntry> entries(random() % 6 == 0 ? 1 + random() % 30 : 1);
    for (HistoryEntry& entry : entries) entry = requests.next();
    expect_done(history->add(entries));
    if (random() % 20 == 0) expect_done(history->flush());
    if (random() % 300 == 0) {
      expect_done(history->flush());
      history = open_history(options);
      ASSERT_EQ(history->last_entry(), requests.number());
    }
    if (round % 500 == 0) {
      ASSERT_EQ(tree_at_tip(*history), requests.tree());
    }
  }
  expect_done(history->flush());
  EXPECT_EQ(tree_at_tip(*history), requests.tree());
  EXPECT_EQ(tree_by_git(folder.repository()), requests.tree());
  expect_sound(folder.repository());
}

/// Entries of all commits from the oldest to the tip, as the commits' trailers say.
std::vector<std::uint64_t> entries_by_git(const std::filesystem::path& repository) {
  std::vector<std::uint64_t> entries;
  std::istringstream lines(git(repository,
                               "log --reverse --format='%(trailers:key=Xenstore-Entry,"
                               "valueonly,separator=)%x20%(trailers:key="
                               "Xenstore-Entries,valueonly,separator=)' main"));
  for (std::string line; std::getline(lines, line);) {
    const std::uint64_t last = std::stoull(line);
    std::uint64_t first = last;
    if (const std::size_t at = line.find(' '); at + 1 < line.size())
      first = std::stoull(line.substr(at));
    for (std::uint64_t number = first; number <= last; ++number) entries.push_back(number);
  }
  return entries;
}

/// "" if these are the numbers up to `last` without a gap, each once.
std::string misfit(const std::vector<std::uint64_t>& entries, std::uint64_t last) {
  if (entries.empty() || entries.back() != last) return "ends with another";
  for (std::size_t i = 1; i < entries.size(); ++i) {
    if (entries[i] != entries[i - 1] + 1) return "after " + std::to_string(entries[i - 1]);
  }
  return "";
}

std::uint64_t bytes_on_disk(const std::filesystem::path& folder) {
  std::uint64_t sum = 0;
  for (const auto& file : std::filesystem::recursive_directory_iterator(folder)) {
    if (file.is_regular_file()) sum += (file.file_size() + 4095) / 4096 * 4096;
  }
  return sum;
}

TEST(HistoryRepository, EntriesThatAreThereAreSkippedAndAGapIsRefused) {
  const TestFolder folder;
  auto history = begin_history({.folder = folder.repository()});
  const std::vector<HistoryEntry> entries = {write_of(1, "/a", "1"), write_of(2, "/a", "2")};
  expect_done(history->add(std::span(entries).first(1)));
  expect_done(history->add(entries));
  expect_done(history->add(entries));
  EXPECT_EQ(history->last_entry(), 2U);
  EXPECT_EQ(history->flushed_entry(), 0U);
  expect_done(history->flush());
  EXPECT_EQ(history->flushed_entry(), 2U);
  EXPECT_EQ(misfit(entries_by_git(folder.repository()), 2), "");

  const HistoryEntry late = write_of(4, "/a", "4");
  EXPECT_FALSE(history->add(std::span(&late, 1)).has_value());
  EXPECT_EQ(history->last_entry(), 2U);
}

TEST(HistoryRepository, AChangeBelowNothingIsRefusedAndLeavesNoTrace) {
  const TestFolder folder;
  auto history = begin_history({.folder = folder.repository()});
  const std::vector<HistoryEntry> entries = {write_of(1, "/a", "1"), write_of(2, "/b/c", "2")};
  EXPECT_FALSE(history->add(entries).has_value());
  expect_done(history->add(std::span(entries).first(1)));
  expect_done(history->flush());
  expect_sound(folder.repository());
  EXPECT_EQ(git(folder.repository(), "ls-tree -r --name-only main"),
            ".perms\na/.perms\na/.value\n");
}

TEST(HistoryRepository, AWholeTreeReplacesWhatWas) {
  const TestFolder folder;
  auto history = begin_history({.folder = folder.repository()});
  const HistoryEntry entry = write_of(1, "/gone", "1");
  expect_done(history->add(std::span(&entry, 1)));
  RandomRequests requests(5);
  for (int i = 0; i < 500; ++i) requests.next();
  expect_done(history->add_whole(70, 1'763'741'111'000'000, "a gap", source_of(requests.tree())));
  EXPECT_EQ(history->last_entry(), 70U);
  EXPECT_EQ(tree_at_tip(*history), requests.tree());
  expect_done(history->flush());
  EXPECT_EQ(tree_by_git(folder.repository()), requests.tree());
  EXPECT_THAT(git(folder.repository(), "log -1 --format=%B"), HasSubstr("Xenstore-Whole: a gap\n"));
  EXPECT_EQ(git(folder.repository(), "rev-list --count main"), "3\n");
  expect_sound(folder.repository());
}

TEST(HistoryRepository, ATreeThatIsNotShownDepthFirstIsRefusedAndLeavesNoTrace) {
  const TestFolder folder;
  auto history = begin_history({.folder = folder.repository()});
  const auto show = [&](const std::vector<const char*>& paths) {
    return history->add_whole(9, 0, "", [&](const HistoryNodeSink& sink) {
      const store::Perms perms = {{store::kDom0, store::Access::kNone}};
      Result<void, std::string> shown;
      for (std::size_t i = 0; i < paths.size() && shown.has_value(); ++i) {
        shown = sink({.path = paths[i], .value = "", .perms = perms});
      }
      return shown;
    });
  };
  EXPECT_FALSE(show({}).has_value());
  EXPECT_FALSE(show({"/a"}).has_value());
  EXPECT_FALSE(show({"/", "/"}).has_value());
  EXPECT_FALSE(show({"/", "/a/b"}).has_value());
  EXPECT_FALSE(show({"/", "/a", "/b", "/a"}).has_value());
  EXPECT_FALSE(show({"/", "/a", "/b", "/a/c"}).has_value());
  EXPECT_FALSE(show({"/", "/.value"}).has_value());
  EXPECT_EQ(history->last_entry(), 0U);
  const HistoryEntry entry = write_of(1, "/a", "1");
  expect_done(history->add(std::span(&entry, 1)));
  expect_done(history->flush());
  expect_sound(folder.repository());
}

// The limit is looked at after each flush, on the disk. What is left is the newest
// part of history, without a gap; all of it is in archive and repository joined.
TEST(HistoryRepository, StaysWithinItsLimitAndArchivesTheOldest) {
  const TestFolder folder;
  const HistoryRepository::Options options{.folder = folder.repository(),
                                           .limit_bytes = 1 << 20,
                                           .archive = folder.path() / "archive.git"};
  auto history = begin_history(options);
  RandomRequests requests(7);
  constexpr int kEntries = 12'000 / kSanitizerFactor;
  for (int i = 0; i < kEntries; ++i) {
    const HistoryEntry entry = requests.next();
    expect_done(history->add(std::span(&entry, 1)));
    if (i % 50 != 0) continue;
    expect_done(history->flush());
    ASSERT_LE(bytes_on_disk(folder.repository()), options.limit_bytes * 11 / 10);
    ASSERT_LE(bytes_on_disk(folder.repository()), history->bytes());
    if (i % 2000 == 0) history = open_history(options);
  }
  expect_done(history->flush());
  expect_sound(folder.repository());
  EXPECT_EQ(tree_by_git(folder.repository()), requests.tree());
  const auto left = entries_by_git(folder.repository());
  EXPECT_EQ(misfit(left, requests.number()), "");
  EXPECT_GT(left.front(), 100U);

  expect_sound(*options.archive);
  EXPECT_EQ(std::filesystem::status(*options.archive).permissions(),
            std::filesystem::perms::owner_all);
  const std::filesystem::path joined = folder.path() / "joined.git";
  run("git clone -q --bare --no-local file://" + folder.repository().string() + " " +
      joined.string());
  write_file(joined / "objects/info/alternates", options.archive->string() + "/objects\n");
  std::filesystem::remove(joined / "shallow");
  const auto all = entries_by_git(joined);
  EXPECT_EQ(misfit(all, requests.number()), "");
  EXPECT_EQ(all.front(), 0U);
}

TEST(HistoryRepository, SurvivesGitGcAndServesClonesAndBlame) {
  const TestFolder folder;
  const HistoryRepository::Options options{.folder = folder.repository()};
  auto history = begin_history(options);
  RandomRequests requests(8);
  for (int round = 0; round < 4; ++round) {
    for (int i = 0; i < 200; ++i) {
      const HistoryEntry entry = requests.next();
      expect_done(history->add(std::span(&entry, 1)));
    }
    expect_done(history->flush());
    git(folder.repository(), "gc -q --prune=now --aggressive");
    if (round == 1) history = open_history(options);
    ASSERT_EQ(history->last_entry(), requests.number());
  }
  expect_sound(folder.repository());
  const std::filesystem::path clone = folder.path() / "clone";
  run("git clone -q --no-local " + folder.repository().string() + " " + clone.string());
  EXPECT_EQ(tree_by_git(clone, "HEAD"), requests.tree());
  EXPECT_EQ(misfit(entries_by_git(folder.repository()), requests.number()), "");
  EXPECT_NE(git(folder.repository(), "blame main -- .perms"), "");
}

// 1000 siblings, a path as deep as paths can be, and their removal at a stroke.
TEST(HistoryRepository, HoldsWideDirectoriesAndDeepPaths) {
  const TestFolder folder;
  auto history = begin_history({.folder = folder.repository()});
  TestTree tree = {{"/", {}}};
  std::uint64_t number = 0;
  const auto add = [&](HistoryEntry entry) {
    perform(entry, tree);
    expect_done(history->add(std::span(&entry, 1)));
  };
  HistoryEntry wide{.number = ++number, .what = "TRANSACTION_END"};
  wide.changes.push_back(write_of(0, "/wide", "").changes[0]);
  for (int i = 0; i < 1000; ++i) {
    wide.changes.push_back(write_of(0, "/wide/" + std::to_string(i), "x").changes[0]);
  }
  add(wide);
  std::string path;
  HistoryEntry deep{.number = ++number, .what = "WRITE"};
  while (path.size() < 2046) {
    path += "/d";
    deep.changes.push_back(write_of(0, path, "").changes[0]);
  }
  add(deep);
  add(write_of(++number, path, "bottom"));
  for (int i = 0; i < 300; ++i) {
    add(write_of(++number, "/wide/" + std::to_string(i * 37 % 1000), std::to_string(i)));
  }
  expect_done(history->flush());
  EXPECT_EQ(tree_at_tip(*history), tree);
  EXPECT_EQ(tree_by_git(folder.repository()), tree);
  for (const char* name : {"/wide", "/d"}) {
    add({.number = ++number, .what = "RM", .changes = {{.path = name, .is_removal = true}}});
  }
  expect_done(history->flush());
  EXPECT_EQ(tree_by_git(folder.repository()).size(), 1U);
  expect_sound(folder.repository());
}

TEST(HistoryRepository, AFlushThatTheSystemRefusesCanBeTriedAgain) {
  const TestFolder folder;
  auto history = begin_history({.folder = folder.repository()});
  expect_done(history->flush());
  const HistoryEntry entry = write_of(1, "/a", "1");
  expect_done(history->add(std::span(&entry, 1)));
  // A folder in the way stands for what the system refuses.
  const auto in_the_way = folder.repository() / "objects/pack/tmp_history_pack";
  std::filesystem::create_directory(in_the_way);
  EXPECT_FALSE(history->flush().has_value());
  EXPECT_EQ(history->flushed_entry(), 0U);
  std::filesystem::remove(in_the_way);
  expect_done(history->flush());
  EXPECT_EQ(misfit(entries_by_git(folder.repository()), 1), "");
  expect_sound(folder.repository());
}

}  // namespace
}  // namespace journal::testing
