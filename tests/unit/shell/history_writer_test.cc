// SPDX-License-Identifier: MIT
// How the second thread gives way: it makes a commit of each change while few come, and rests
// while many do.
#include "xenstored/history_writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "tests/unit/shell/temp_dir.h"

namespace xenstored {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kLong{20'000};
/// Of the writer's looks at how fast changes come.
constexpr milliseconds kLook{100};

class HistoryWriterTest : public ::testing::Test {
 protected:
  HistoryWriterTest() : writer_(std::make_unique<HistoryWriter>([this] { return open(); }, 0)) {
    HistoryWriter::Whole whole;
    whole.entry = entry();
    works_.emplace_back(std::move(whole));
    give();
    await([this] { return writer_->flushed() == number_; });
  }

  std::unique_ptr<journal::HistoryRepository> open() const {
    journal::HistoryRepository::Options options;
    options.folder = folder_.path("history.git");
    auto opened = journal::HistoryRepository::open(std::move(options));
    return opened.has_value() ? std::move(opened.value()) : nullptr;
  }

  journal::HistoryEntry entry() {
    const store::Perms perms{{store::kDom0, store::Access::kNone}};
    ++number_;
    return {number_, number_, {}, "a change", {{"/", false, std::to_string(number_), perms}}};
  }

  void add_changes(int count) {
    std::string entries;
    for (int i = 0; i < count; ++i) {
      std::string bytes;
      journal::append_entry(entry(), bytes);
      const auto length = static_cast<std::uint32_t>(bytes.size());
      char head[sizeof length];
      std::memcpy(head, &length, sizeof length);
      entries.append(head, sizeof head).append(bytes);
    }
    works_.emplace_back(std::move(entries));
  }

  /// As the serving thread does: only to one who is ready for it.
  void give() {
    await([this] { return writer_->is_hungry(); });
    await([this] {
      writer_->try_give(works_);
      return works_.empty();
    });
  }

  static void await(const std::function<bool()>& is_so) {
    const auto deadline = Clock::now() + kLong;
    while (!is_so()) {
      ASSERT_LT(Clock::now(), deadline);
      std::this_thread::sleep_for(milliseconds(1));
    }
  }

  /// Lets changes pour in for so long, or until the writer takes some; says whether it would.
  bool pour(milliseconds time) {
    const auto deadline = Clock::now() + time;
    last_poured_ = Clock::now();
    while (Clock::now() < deadline && !writer_->is_hungry()) {
      longest_gap_ = std::max(longest_gap_, Clock::now() - last_poured_);
      last_poured_ = Clock::now();
      writer_->note_last(poured_ += 1'000'000);
      std::this_thread::sleep_for(milliseconds(1));
    }
    return writer_->is_hungry();
  }

  int commits() {
    writer_.reset();
    const std::string told = folder_.path("told");
    const std::string command = "git -c safe.directory='*' -C " + folder_.path("history.git") +
                                " rev-list --count main >" + told;
    EXPECT_EQ(std::system(command.c_str()), 0);  // NOLINT(cert-env33-c,concurrency-mt-unsafe)
    return std::stoi(contents(told));
  }

  const TempDir folder_;
  std::uint64_t number_ = 0;
  std::uint64_t poured_ = 0;
  Clock::time_point last_poured_{};
  Clock::duration longest_gap_{};  ///< on a busy machine nothing may have come for a while
  std::deque<HistoryWriter::Work> works_;
  std::unique_ptr<HistoryWriter> writer_;
};

TEST_F(HistoryWriterTest, AFewChangesHaveCommitsOfTheirOwn) {
  for (int round = 0; round < 3; ++round) {
    add_changes(50);
    writer_->note_last(number_);
    give();
  }
  await([this] { return writer_->flushed() == number_; });
  EXPECT_EQ(commits(), 1 + 150);
}

TEST_F(HistoryWriterTest, ItRestsWhileManyComeAndGoesOnWhenFewDo) {
  bool is_resting = false;
  for (int attempt = 0; attempt < 10 && !is_resting; ++attempt) {
    add_changes(1);
    give();
    longest_gap_ = {};
    is_resting = !pour(5 * kLook);
    ASSERT_TRUE(is_resting || longest_gap_ > kLook / 2);
  }
  ASSERT_TRUE(is_resting);
  await([this] { return writer_->is_hungry(); });
}

TEST_F(HistoryWriterTest, AfterALongRestAllIsOneCommit) {
  bool has_rested = false;
  int all = 1;
  for (int attempt = 0; attempt < 10 && !has_rested; ++attempt) {
    add_changes(1);
    give();
    ++all;
    longest_gap_ = {};
    ASSERT_TRUE(pour(kLong));
    has_rested = longest_gap_ < kLook / 2;
  }
  ASSERT_TRUE(has_rested);
  add_changes(1000);
  give();
  await([this] { return writer_->flushed() == number_; });
  EXPECT_EQ(commits(), all + 1);
}

}  // namespace
}  // namespace xenstored
