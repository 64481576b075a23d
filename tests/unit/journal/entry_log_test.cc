// SPDX-License-Identifier: MIT
// The ring of stored entries against a plain queue, with commits that do not happen,
// restarts, and damage.
#include "journal/entry_log.h"

#include <gmock/gmock.h>

#include <deque>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/journal/support.h"

namespace journal::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class Entries : public ::testing::Test {
 protected:
  struct Stored {
    std::uint64_t txn;
    std::uint32_t end;
    std::string entries;
  };

  Entries() { std::filesystem::create_directories(area_.area()); }

  void open() {
    log_.reset();
    auto opened = EntryLog::open(file_);
    ASSERT_TRUE(opened.has_value()) << opened.error();
    log_ = std::make_unique<EntryLog>(std::move(opened.value()));
  }
  std::vector<std::string> load(std::uint64_t confirmed) {
    open();
    std::vector<std::string> shown;
    log_->load(confirmed, [&](const EntryLog::Record& record) {
      shown.emplace_back(record.entries);
      return true;
    });
    return shown;
  }

  const TestArea area_;
  const std::filesystem::path file_ = area_.area() / "entries";
  std::unique_ptr<EntryLog> log_;
};

TEST_F(Entries, OnlyThoseOfCommitsThatHappenedCount) {
  EXPECT_THAT(load(0), IsEmpty());
  EXPECT_TRUE(log_->put(1, "one").has_value());
  EXPECT_TRUE(log_->put(2, "two").has_value());
  EXPECT_TRUE(log_->put(3, "three").has_value());
  EXPECT_THAT(load(2), ElementsAre("one", "two"));
  // Commit 3 is another one now, without entries.
  EXPECT_THAT(load(3), ElementsAre("one", "two"));
  EXPECT_TRUE(log_->put(4, "four").has_value());
  EXPECT_THAT(load(4), ElementsAre("one", "two", "four"));
}

TEST_F(Entries, WhatIsDroppedIsForgotten) {
  load(0);
  const auto one = log_->put(1, "one");
  const auto two = log_->put(2, "two");
  log_->drop(1, *one);
  EXPECT_THAT(load(2), ElementsAre("two"));
  log_->drop(2, *two);
  EXPECT_THAT(load(2), IsEmpty());
  EXPECT_TRUE(log_->put(3, "three").has_value());
  EXPECT_THAT(load(3), ElementsAre("three"));
}

/// Of all that a daemon does, at random; with memory of what must be there.
TEST_F(Entries, LiveAsAPlainQueue) {
  std::mt19937_64 random(11);
  std::deque<Stored> model;
  std::uint64_t confirmed = 0;
  std::size_t refused = 0;
  std::size_t wrapped = 0;
  std::uint32_t last_end = 0;
  load(0);
  for (int step = 0; step < 8'000 / kSanitizerFactor; ++step) {
    const std::uint64_t dice = random() % 100;
    if (dice < 60) {
      // Sometimes little is dropped for long, so that the ring becomes full.
      const std::size_t bytes = random() % (step % 1600 < 800 ? 200'000 : 200);
      std::string entries(bytes, static_cast<char>(random()));
      const auto end = log_->put(confirmed + 1, entries);
      if (!end) {
        ++refused;
        continue;
      }
      if (*end < last_end) ++wrapped;
      last_end = *end;
      if (random() % 20 == 0) {  // killed before the commit
        load(confirmed);
        continue;
      }
      model.push_back({++confirmed, *end, std::move(entries)});
    } else if (dice < 62) {
      ++confirmed;  // a commit without entries
    } else if (dice < 98 || step % 1600 < 400) {
      for (std::uint64_t i = random() % (step % 1600 < 800 ? 2 : 8); i > 0 && !model.empty(); --i) {
        log_->drop(model.front().txn, model.front().end);
        model.pop_front();
      }
    } else {
      const std::vector<std::string> shown = load(confirmed);
      ASSERT_EQ(shown.size(), model.size()) << step;
      for (std::size_t i = 0; i < shown.size(); ++i) ASSERT_EQ(shown[i], model[i].entries) << step;
    }
  }
  EXPECT_GT(refused, 0U);
  EXPECT_GT(wrapped, 0U);
}

/// As a process leaves it that is killed while it makes it.
TEST_F(Entries, AFileWithoutItsRandomNumberGetsOne) {
  std::ofstream(file_, std::ios::binary) << std::string(256 << 10, '\0');
  load(0);
  std::ifstream in(file_, std::ios::binary);
  const std::string data{std::istreambuf_iterator<char>(in), {}};
  EXPECT_NE(data.substr(8, 8), std::string(8, '\0'));
}

/// Damage must not lead a store beyond the end of the file.
TEST_F(Entries, ABeginningBeyondTheFileIsNone) {
  for (const std::uint64_t place : {260U << 10, 20U << 20, 31U << 20}) {
    load(0);
    log_.reset();
    const std::uint64_t word = std::uint64_t{1} << 22 | place / 8;
    std::fstream(file_, std::ios::binary | std::ios::in | std::ios::out)
        .write(reinterpret_cast<const char*>(&word), sizeof word);
    EXPECT_THAT(load(7), IsEmpty());
    const std::string large(1 << 20, 'l');
    EXPECT_TRUE(log_->put(8, large).has_value());
    EXPECT_THAT(load(8), ElementsAre(large));
    log_.reset();
    std::filesystem::remove(file_);
  }
}

/// A commit that came to nothing has no number, and the next one takes it.
TEST_F(Entries, TwoOfOneCommitAreDroppedOneByOne) {
  load(0);
  const auto one = log_->put(1, "one");
  EXPECT_TRUE(log_->put(1, "two").has_value());
  log_->drop(1, *one);
  EXPECT_THAT(load(1), ElementsAre("two"));
}

TEST_F(Entries, ADamagedFileHasABeginningOrNothing) {
  load(0);
  std::vector<std::string> stored;
  for (std::uint64_t txn = 1; txn <= 300; ++txn) {
    stored.emplace_back(txn, 'e');
    ASSERT_TRUE(log_->put(txn, stored.back()).has_value());
  }
  log_.reset();
  std::ifstream in(file_, std::ios::binary);
  const std::string data{std::istreambuf_iterator<char>(in), {}};
  std::mt19937_64 random(12);
  for (int round = 0; round < 400 / kSanitizerFactor; ++round) {
    std::string damaged = data;
    for (int i = 0; i < 8; ++i) {
      const std::size_t place = random() % (round % 4 == 0 ? 64 : 60'000);
      damaged[place] = static_cast<char>(damaged[place] ^ (1 << random() % 8));
    }
    if (round % 5 == 0) damaged.resize(random() % damaged.size());
    std::ofstream(file_, std::ios::binary | std::ios::trunc) << damaged;
    const std::vector<std::string> shown = load(300);
    // A beginning that lies further on is possible: then it is a part without the first.
    ASSERT_LE(shown.size(), stored.size());
    if (shown.empty()) continue;
    const std::size_t first = shown.front().size() - 1;
    for (std::size_t i = 0; i < shown.size(); ++i) ASSERT_EQ(shown[i], stored[first + i]);
    ASSERT_TRUE(log_->put(301, "more").has_value());
  }
}

}  // namespace
}  // namespace journal::testing
