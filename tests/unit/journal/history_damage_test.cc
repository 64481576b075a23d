// SPDX-License-Identifier: MIT
// A history whose files are anything: opening says what is wrong, or the tree that
// it shows is one that there was.
#include <gtest/gtest.h>

#include <random>

#include "tests/unit/journal/history_support.h"
#include "tests/unit/journal/support.h"

namespace journal::testing {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kEntries = 1500;

/// A repository of several segments and parts, and the trees after each entry.
class HistoryDamage : public ::testing::Test {
 protected:
  void SetUp() override {
    auto history = begin_history(options());
    RandomRequests requests(21);
    trees_.push_back(requests.tree());
    for (std::uint64_t i = 0; i < kEntries; ++i) {
      const HistoryEntry entry = requests.next();
      expect_done(history->add(std::span(&entry, 1)));
      if (i % 100 == 0) expect_done(history->flush());
      trees_.push_back(requests.tree());
    }
    expect_done(history->flush());
    history.reset();
    fs::copy(folder_.repository(), kept(), fs::copy_options::recursive);
    for (const auto& file : fs::recursive_directory_iterator(kept())) {
      if (file.is_regular_file()) files_.push_back(fs::relative(file.path(), kept()));
    }
    std::sort(files_.begin(), files_.end());
  }

  HistoryRepository::Options options() const {
    return {.folder = folder_.repository(), .limit_bytes = 1 << 20};
  }
  fs::path kept() const { return folder_.path() / "kept"; }

  void restore() const {
    fs::remove_all(folder_.repository());
    fs::copy(kept(), folder_.repository(), fs::copy_options::recursive);
  }

  /// Opens what is there now. True if it opened; then all must be well.
  bool try_open(const std::string& what) {
    auto opened = HistoryRepository::open(options());
    if (!opened.has_value()) {
      EXPECT_FALSE(opened.error().message.empty());
      return false;
    }
    HistoryRepository& history = *opened.value();
    EXPECT_LT(history.last_entry(), trees_.size()) << what;
    if (!history.is_fresh()) {
      EXPECT_EQ(tree_at_tip(history), trees_[history.last_entry()]) << what;
    }
    return true;
  }

  const TestFolder folder_;
  std::vector<TestTree> trees_;
  std::vector<fs::path> files_;
};

TEST_F(HistoryDamage, FlippedBitsNeverShowAWrongTree) {
  std::mt19937_64 random(22);
  int opened = 0;
  constexpr int kRounds = 400 / kSanitizerFactor;
  for (int round = 0; round < kRounds; ++round) {
    restore();
    const fs::path& name = files_[random() % files_.size()];
    std::string bytes = read_file(folder_.repository() / name);
    if (bytes.empty()) continue;
    const std::size_t at = random() % 3 == 0 ? random() % std::min<std::size_t>(bytes.size(), 64)
                                             : random() % bytes.size();
    bytes[at] ^= static_cast<char>(1 << random() % 8);
    fs::remove(folder_.repository() / name);
    write_file(folder_.repository() / name, bytes);
    const std::string what = name.string() + " at " + std::to_string(at);
    if (!try_open(what)) continue;
    ++opened;
    if (round % 10 == 0) expect_readable(folder_.repository());
  }
  EXPECT_GT(opened, 0);
}

TEST_F(HistoryDamage, TruncatedAndMissingFilesNeverShowAWrongTree) {
  std::mt19937_64 random(23);
  for (const fs::path& name : files_) {
    for (int round = 0; round < 4; ++round) {
      restore();
      std::string bytes = read_file(folder_.repository() / name);
      fs::remove(folder_.repository() / name);
      if (round > 0)
        write_file(folder_.repository() / name, bytes.substr(0, random() % (bytes.size() + 1)));
      if (try_open(name.string()) && round == 0) expect_readable(folder_.repository());
    }
  }
}

TEST_F(HistoryDamage, ForeignFilesAndFoldersAreNoHistory) {
  std::mt19937_64 random(24);
  for (const fs::path& name : files_) {
    restore();
    fs::remove(folder_.repository() / name);
    switch (random() % 3) {
      case 0:
        fs::create_directory(folder_.repository() / name);
        break;
      case 1:
        fs::create_symlink("/dev/zero", folder_.repository() / name);
        break;
      default:
        std::string noise(random() % 100'000, '\0');
        for (char& c : noise) c = static_cast<char>(random());
        write_file(folder_.repository() / name, noise);
    }
    try_open(name.string());
  }
  fs::remove_all(folder_.repository());
  write_file(folder_.repository(), "x");
  EXPECT_FALSE(HistoryRepository::open(options()).has_value());
}

TEST_F(HistoryDamage, OldHistoryIsGivenUpAndTheRestGoesOn) {
  // The pack with the first commit of all that is left.
  const std::string first = git(kept(), "rev-list --max-parents=0 main").substr(0, 40);
  fs::path oldest;
  for (const fs::path& name : files_) {
    if (name.extension() == ".keep" && read_file(kept() / name).find(first) != std::string::npos) {
      oldest = name;
      break;
    }
  }
  ASSERT_FALSE(oldest.empty());
  restore();
  const fs::path pack = (folder_.repository() / oldest).replace_extension(".pack");
  std::string bytes = read_file(pack);
  bytes[bytes.size() / 2] ^= 1;
  fs::remove(pack);
  write_file(pack, bytes);

  std::vector<std::string> notes;
  auto history = open_history(options(), &notes);
  ASSERT_NE(history, nullptr);
  EXPECT_FALSE(notes.empty());
  EXPECT_EQ(history->last_entry(), kEntries);
  EXPECT_EQ(tree_at_tip(*history), trees_.back());
  expect_readable(folder_.repository());
  EXPECT_EQ(tree_by_git(folder_.repository()), trees_.back());
}

}  // namespace
}  // namespace journal::testing
