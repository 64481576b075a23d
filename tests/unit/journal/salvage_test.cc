// SPDX-License-Identifier: MIT
// Entries in a damaged state: those that are sound are found, nothing else is.
#include "journal/salvage.h"

#include <gmock/gmock.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <random>

#include "tests/unit/journal/support.h"

namespace journal::testing {
namespace {

using ::testing::IsEmpty;

constexpr std::uint64_t kTurns = 60;

HistoryEntry entry_of(std::uint64_t number) {
  const std::size_t bytes = number % 7 == 0 ? 4050 : number;
  return {number,
          1000 * number,
          {},
          "WRITE",
          {{"/n" + std::to_string(number),
            false,
            std::string(bytes, 'v'),
            {{store::kDom0, store::Access::kNone}}}}};
}

void append_to_stream(const HistoryEntry& entry, std::string& stream) {
  std::string bytes;
  append_entry(entry, bytes);
  const auto length = static_cast<std::uint32_t>(bytes.size());
  stream.append(reinterpret_cast<const char*>(&length), sizeof length);
  stream += bytes;
}

class Salvage : public ::testing::Test {
 protected:
  /// Turns of one entry, but for every fourth, which has two.
  Salvage() {
    std::vector<std::string> notes;
    auto opened = Journal::open(area_.options(), notes);
    Journal& journal = *opened.value();
    State nothing;
    EXPECT_TRUE(journal.load(nothing).has_value());
    for (std::uint64_t number = 1; number <= kTurns; ++number) {
      const std::uint64_t first = number;
      std::string stream;
      append_to_stream(entry_of(number), stream);
      if (number % 4 == 0) append_to_stream(entry_of(++number), stream);
      journal.put(SettingRecord{"quota/nodes", std::to_string(first)});
      EXPECT_TRUE(journal.put_history(stream).has_value());
      last_ = number;
      EXPECT_TRUE(journal.commit().has_value());
    }
    std::ifstream file(file_, std::ios::binary);
    data_.assign(std::istreambuf_iterator<char>(file), {});
  }

  SalvagedHistory salvage(std::uint64_t after) const {
    auto found = salvage_history(area_.area() / "state", after);
    EXPECT_TRUE(found.has_value());
    return std::move(found.value());
  }
  void write(const std::string& data) const {
    std::ofstream(file_, std::ios::binary | std::ios::trunc) << data;
  }
  /// Whatever was found is what was committed, in order and without a gap.
  static void expect_true(const SalvagedHistory& found, std::uint64_t after) {
    for (const HistoryEntry& entry : found.entries) ASSERT_EQ(entry, entry_of(++after));
  }

  const TestArea area_;
  const std::filesystem::path file_ = area_.area() / "state" / "entries";
  std::uint64_t last_ = 0;
  std::string data_;
};

TEST_F(Salvage, AllIsFoundWithoutLmdb) {
  std::filesystem::remove(area_.data());
  for (const std::uint64_t after : {std::uint64_t{0}, std::uint64_t{4}, last_ - 1, last_}) {
    const SalvagedHistory found = salvage(after);
    EXPECT_EQ(found.entries.size(), last_ - after);
    EXPECT_EQ(found.last_seen, 0U);
    expect_true(found, after);
  }
}

TEST_F(Salvage, ThereIsAnErrorIfThereIsNoFile) {
  std::filesystem::remove(file_);
  EXPECT_FALSE(salvage_history(area_.area() / "state", 0).has_value());
}

TEST_F(Salvage, OfADamagedFileOnlyWhatIsSoundIsFound) {
  std::mt19937_64 random(7);
  std::size_t with_gap = 0;
  for (int round = 0; round < 400 / kSanitizerFactor; ++round) {
    std::string data = data_;
    for (int flips = 0; flips < 20; ++flips) {
      data[random() % data.size()] ^= static_cast<char>(1U << random() % 8);
    }
    if (round % 3 == 0) data.resize(random() % data.size());
    write(data);
    const SalvagedHistory found = salvage(0);
    expect_true(found, 0);
    if (found.last_seen == 0) continue;
    ++with_gap;
    EXPECT_GT(found.last_seen, found.entries.size());
  }
  EXPECT_GT(with_gap, 0U);
}

/// A client cannot make a record of a value: it does not know the file's random number.
TEST_F(Salvage, WhatAnEntryHoldsIsNoRecord) {
  std::string data = data_;
  data[8] = static_cast<char>(data[8] + 1);
  write(data);
  EXPECT_THAT(salvage(0).entries, IsEmpty());
}

TEST_F(Salvage, TwoOfOneNumberAreAGap) {
  {
    std::vector<std::string> notes;
    auto opened = Journal::open(area_.options(), notes);
    State state;
    ASSERT_TRUE(opened.value()->load(state).has_value());
    HistoryEntry other = entry_of(3);
    other.changes.front().value = "x";
    std::string stream;
    append_to_stream(other, stream);
    opened.value()->put(SettingRecord{"quota/nodes", "x"});
    ASSERT_TRUE(opened.value()->put_history(stream).has_value());
    ASSERT_TRUE(opened.value()->commit().has_value());
  }
  const SalvagedHistory found = salvage(0);
  EXPECT_EQ(found.entries.size(), 2U);
  EXPECT_EQ(found.last_seen, last_);
}

}  // namespace
}  // namespace journal::testing
