// SPDX-License-Identifier: MIT
#include "journal/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#define XXH_INLINE_ALL
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "journal/pieces.h"
#include "journal/reader.h"
#include "journal/seal.h"
#include "tests/unit/journal/support.h"

namespace journal::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(Journal, CommitsComeBackInTheOrderOfTheTables) {
  const TestArea area;
  fill(*open_loaded(area.options()), 20);
  State state;
  const auto journal = open_loaded(area.options(), state);
  EXPECT_EQ(state.order, "h" + std::string(20, 'n') + "dcwwwooops");
  EXPECT_EQ(state.nodes.at(7).value, "value7");
  EXPECT_EQ(state.connections.at(ConnId{5}).in_off, 4294967295U);
  EXPECT_EQ(state.outputs.at({ConnId{5}, 300}).bytes.size(), 300U);
}

TEST(Journal, WhatIsNotCommittedNeverWas) {
  const TestArea area;
  {
    const auto journal = open_loaded(area.options());
    journal->put(Node{}.record(1));
    EXPECT_TRUE(journal->dirty());
  }
  State state;
  const auto journal = open_loaded(area.options(), state);
  EXPECT_TRUE(state.nodes.empty());
  EXPECT_FALSE(journal->dirty());
}

TEST(Journal, ErasedRecordsOfEveryTableAreGone) {
  const TestArea area;
  const auto journal = open_loaded(area.options());
  fill(*journal, 3);
  for (const std::uint64_t id : {1U, 2U, 3U, 4U}) journal->erase_node(NodeId{id});
  journal->erase_domain(Domid{3});
  journal->erase_connection(ConnId{5});
  for (const std::uint64_t seq : {1U, 2U, 300U}) {
    journal->erase_watch(ConnId{5}, seq);
    journal->erase_output(ConnId{5}, seq);
  }
  journal->erase_special("@releaseDomain");
  journal->erase_setting("quota/nodes");
  commit(*journal);
  State rest;
  EXPECT_TRUE(journal->verify(rest).has_value());
  EXPECT_EQ(rest.order, "h");
  journal->drop_history(rest.last_mark);
  State state;
  EXPECT_TRUE(journal->verify(state).has_value());
  EXPECT_EQ(state.order, "");
}

TEST(Journal, WhatCannotBeTheEntriesIsPutOutOfTheWay) {
  const TestArea area;
  State before;
  {
    const auto journal = open_loaded(area.options());
    fill(*journal, 3);
    EXPECT_TRUE(journal->verify(before).has_value());
  }
  const auto entries = area.area() / "state" / "entries";
  std::filesystem::remove(entries);
  std::filesystem::create_directories(entries / "folder");
  State state;
  const auto journal = open_loaded(area.options(), state);
  ASSERT_TRUE(journal);
  EXPECT_THAT(state.entries, ::testing::IsEmpty());
  EXPECT_EQ(state.nodes, before.nodes);
  EXPECT_TRUE(std::filesystem::exists(entries.string() + ".damaged/folder"));
}

TEST(Journal, LaterChangesOfOneCommitWin) {
  const TestArea area;
  const auto journal = open_loaded(area.options());
  Node node;
  for (const char* value : {"a", "longer", ""}) {
    node.value = value;
    journal->put(node.record(1));
  }
  journal->put(node.record(2));
  journal->erase_node(NodeId{2});
  commit(*journal);
  State state;
  EXPECT_TRUE(journal->verify(state).has_value());
  ASSERT_EQ(state.nodes.size(), 1U);
  EXPECT_EQ(state.nodes.at(1).value, "");
}

// Random changes of random sizes in every table, against plain maps; verified
// live and reopened now and then.
TEST(Journal, KeepsWhatAPlainMapKeeps) {
  const TestArea area;
  std::mt19937_64 random(7);
  State model;
  auto journal = open_loaded(area.options());
  for (int turn = 0; turn < 1500; ++turn) {
    for (std::uint64_t changes = random() % 20; changes > 0; --changes) {
      const std::uint64_t id = random() % 300;
      const std::size_t size = random() % 8 == 0 ? random() % (kFrameMax + 1) : random() % 40;
      const std::pair key{ConnId{id % 7}, id};
      switch (random() % 6) {
        case 0:
        case 1: {
          const Node node{.parent = id,
                          .generation = random(),
                          .name = "n",
                          .value = std::string(std::min(size, kValueMax), 'v')};
          model.nodes[id] = node;
          journal->put(node.record(id));
          break;
        }
        case 2:
          model.nodes.erase(id);
          journal->erase_node(NodeId{id});
          break;
        case 3:
          model.outputs[key] = {key.first, id, std::string(2 * size, 'o')};
          journal->put(model.outputs[key]);
          break;
        case 4:
          model.outputs.erase(key);
          journal->erase_output(key.first, id);
          break;
        case 5:
          model.connections[key.first] = {.conn = key.first,
                                          .in_off = static_cast<std::uint32_t>(id),
                                          .partial = std::string(size, 'p'),
                                          .out = std::string(random() % (size + 1), 'o')};
          journal->put(model.connections[key.first]);
          break;
      }
    }
    commit(*journal);
    if (turn % 50 != 0) continue;
    State shown;
    if (turn % 100 == 0) {
      ASSERT_TRUE(journal->verify(shown).has_value());
    } else {
      journal.reset();
      journal = open_loaded(area.options(), shown);
      ASSERT_NE(journal, nullptr);
    }
    ASSERT_TRUE(shown.same(model)) << "turn " << turn;
  }
}

// Lengths around those of one piece and two, each in the place of each other.
TEST(Journal, LongValuesTakeTheirPiecesAlong) {
  const TestArea area;
  const auto journal = open_loaded(area.options());
  const std::vector<std::size_t> lengths = {0,
                                            2000,
                                            kPieceMax - 1,
                                            kPieceMax,
                                            kPieceMax + 1,
                                            2 * kPieceMax - 1,
                                            2 * kPieceMax,
                                            8,
                                            2 * kPieceMax + 1,
                                            kOutputMax};
  std::uint64_t number = 0;
  for (const std::size_t former : lengths) {
    for (const std::size_t length : lengths) {
      State model;
      for (const std::size_t size : {former, length}) {
        // Neighbours show whether a piece too many is taken away.
        for (const std::uint64_t seq : {1U, 2U, 3U}) {
          const std::size_t bytes = seq == 2 ? size : 2 * kPieceMax;
          const char fill = static_cast<char>('a' + ++number % 26);
          model.outputs[{ConnId{1}, seq}] = {ConnId{1}, seq, std::string(bytes, fill)};
          journal->put(model.outputs[{ConnId{1}, seq}]);
        }
        commit(*journal);
      }
      State shown;
      ASSERT_TRUE(journal->verify(shown).has_value());
      ASSERT_TRUE(shown.same(model)) << former << " to " << length;
    }
    journal->erase_output(ConnId{1}, 2);
    commit(*journal);
    State shown;
    ASSERT_TRUE(journal->verify(shown).has_value());
    ASSERT_EQ(shown.outputs.size(), 2U);
  }
}

TEST(Pieces, MustFollowEachOther) {
  const std::string full(kPieceMax, 'f');
  const std::string key("\x04\x01\x05\x01\x09", 5);
  PieceJoiner joiner;
  ASSERT_FALSE(joiner.add(key, full).value().has_value());
  EXPECT_TRUE(joiner.is_waiting());
  ASSERT_FALSE(joiner.add(key + '\1', full).value().has_value());
  const auto whole = joiner.add(key + '\2', "end");
  ASSERT_TRUE(whole.value().has_value());
  EXPECT_EQ(whole.value()->key, key);
  EXPECT_EQ(whole.value()->value, full + full + "end");
  EXPECT_FALSE(joiner.is_waiting());

  ASSERT_TRUE(joiner.add(key, full).has_value());
  EXPECT_FALSE(joiner.add(key + '\2', "end").has_value());
}

TEST(Pieces, HaveAnEnd) {
  const std::string full(kPieceMax, 'f');
  PieceJoiner joiner;
  std::size_t shown = 0;
  std::string key = "k";
  while (shown <= kPiecesMax && joiner.add(key, full).has_value()) {
    ++shown;
    key = "k" + std::string(1, static_cast<char>(shown));
  }
  EXPECT_EQ(shown, kPiecesMax);
}

TEST(Journal, ARecordBeyondTheLimitsFailsTheCommit) {
  const TestArea area;
  const auto journal = open_loaded(area.options());
  journal->put(SettingRecord{"", "nameless"});
  EXPECT_TRUE(journal->dirty());
  EXPECT_FALSE(journal->commit().has_value());
  EXPECT_FALSE(journal->commit().has_value());
}

TEST(Journal, CommitsOnlyAfterLoading) {
  const TestArea area;
  std::vector<std::string> notes;
  const auto journal = Journal::open(area.options(), notes);
  ASSERT_TRUE(journal.has_value());
  journal.value()->put(Node{}.record(1));
  EXPECT_FALSE(journal.value()->commit().has_value());
}

TEST(Journal, ACommitOfNothingNewChangesNothing) {
  const TestArea area;
  const auto journal = open_loaded(area.options());
  fill(*journal, 3);
  const std::string before = read_file(area.data());
  commit(*journal);
  journal->erase_node(NodeId{99});
  commit(*journal);
  EXPECT_EQ(read_file(area.data()), before);
  State state;
  EXPECT_TRUE(journal->verify(state).has_value());
}

TEST(Journal, TheSinksErrorEndsLoading) {
  struct Refuser : State {
    Shown node(const NodeRecord&) override { return tl::unexpected(std::string("no parent")); }
  };
  const TestArea area;
  fill(*open_loaded(area.options()), 3);
  Refuser sink;
  EXPECT_EQ(try_load(area.options(), sink), "no parent");
}

TEST(Journal, IsPrivate) {
  const TestArea area;
  open_loaded(area.options());
  struct stat status {};
  ASSERT_EQ(::stat(area.area().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700U);
  ASSERT_EQ(::stat(area.data().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
}

TEST(JournalLock, ASecondOpenerIsToldWhoTheFirstIs) {
  const TestArea area;
  const auto journal = open_loaded(area.options());
  std::vector<std::string> notes;
  const auto second = Journal::open(area.options(), notes);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().kind, OpenError::Kind::kLocked);
  EXPECT_THAT(second.error().message, HasSubstr("process " + std::to_string(::getpid())));
  const auto aside = Journal::set_aside(area.options(), notes);
  ASSERT_FALSE(aside.has_value());
  EXPECT_EQ(aside.error().kind, OpenError::Kind::kLocked);
}

TEST(JournalReader, ShowsAStateThatNobodyServesAndLeavesItAlone) {
  const TestArea area;
  State expected;
  State refused;
  std::string data;
  {
    const auto journal = open_loaded(area.options());
    fill(*journal, 20);
    ASSERT_TRUE(journal->verify(expected).has_value());
    const auto locked = read_state(area.area(), "state", refused);
    ASSERT_FALSE(locked.has_value());
    EXPECT_EQ(locked.error().kind, OpenError::Kind::kLocked);
    EXPECT_EQ(refused.order, "");
  }
  data = read_file(area.data());
  const std::string seal = read_file(area.seal());
  State shown;
  const auto facts = read_state(area.area(), "state", shown);
  ASSERT_TRUE(facts.has_value()) << facts.error().message;
  EXPECT_TRUE(shown.same(expected));
  EXPECT_EQ(facts.value().bytes, data.size());
  EXPECT_EQ(facts.value().boot_id.size(), 36U);
  EXPECT_EQ(read_file(area.data()), data);
  EXPECT_EQ(read_file(area.seal()), seal);

  std::filesystem::remove(area.area() / "lock");  // as in a copy
  State again;
  EXPECT_TRUE(read_state(area.area(), "state", again).has_value());
  EXPECT_FALSE(std::filesystem::exists(area.area() / "lock"));
}

TEST(JournalReader, BelievesNothingUnchecked) {
  const TestArea area;
  fill(*open_loaded(area.options()), 20);
  const auto kind = [&] {
    State state;
    const auto facts = read_state(area.area(), "state", state);
    return facts.has_value() ? OpenError::Kind::kSystem : facts.error().kind;
  };
  const std::string data = read_file(area.data());
  std::string changed = data;
  changed[data.rfind("value7")] = 'V';
  write_file(area.data(), changed);
  EXPECT_EQ(kind(), OpenError::Kind::kDamaged);
  write_file(area.data(), data.substr(0, 5000));
  EXPECT_EQ(kind(), OpenError::Kind::kDamaged);
  std::filesystem::remove(area.data());
  EXPECT_EQ(kind(), OpenError::Kind::kDamaged);
  std::filesystem::remove_all(area.area() / "state");
  EXPECT_EQ(kind(), OpenError::Kind::kDamaged);
}

TEST(JournalBoot, StateOfAnEarlierBootIsSetAsideAndNotServed) {
  const TestArea area;
  fill(*open_loaded(area.options()), 3);
  area.set_boot("another");
  std::vector<std::string> notes;
  State state;
  {
    const auto journal = Journal::open(area.options(), notes);
    ASSERT_TRUE(journal.has_value());
    ASSERT_TRUE(journal.value()->load(state).has_value());
  }
  EXPECT_EQ(state.order, "");
  EXPECT_THAT(notes.at(0), HasSubstr("earlier boot"));
  EXPECT_THAT(area.names("state."), ElementsAre("state.boot-1"));
}

TEST(JournalBoot, OnlyThreeFormerStatesAreKept) {
  const TestArea area;
  for (int boot = 0; boot < 13; ++boot) {
    area.set_boot("boot-" + std::to_string(boot));
    open_loaded(area.options());
  }
  EXPECT_THAT(area.names("state."), ElementsAre("state.boot-10", "state.boot-11", "state.boot-12"));
}

/// Makes the hash of a seal's header fit.
void seal_header(std::string& seal) {
  const std::uint64_t hash = XXH3_64bits(seal.data(), 56);
  std::memcpy(seal.data() + 56, &hash, sizeof hash);
}

// It can be served on by the version that wrote it; nobody else may lose it.
TEST(JournalFormat, AnOlderFormatOfThisBootIsRefusedAndNotTouched) {
  const TestArea area;
  fill(*open_loaded(area.options()), 3);
  std::string seal = read_file(area.seal());
  seal[8] = static_cast<char>(kFormat - 1);
  seal_header(seal);
  write_file(area.seal(), seal);
  const std::string data = read_file(area.data());

  std::vector<std::string> notes;
  const auto opened = Journal::open(area.options(), notes);
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().kind, OpenError::Kind::kOlderFormat);
  EXPECT_THAT(opened.error().message, HasSubstr("format " + std::to_string(kFormat - 1)));
  EXPECT_THAT(notes, IsEmpty());
  EXPECT_EQ(read_file(area.seal()), seal);
  EXPECT_EQ(read_file(area.data()), data);
}

TEST(JournalFormat, AnOlderFormatOfAnEarlierBootIsSetAside) {
  const TestArea area;
  fill(*open_loaded(area.options()), 3);
  std::string seal = read_file(area.seal());
  seal[8] = static_cast<char>(kFormat - 1);
  seal_header(seal);
  write_file(area.seal(), seal);
  area.set_boot("another");
  State state;
  open_loaded(area.options(), state);
  EXPECT_EQ(state.order, "");
  EXPECT_THAT(area.names("state."), ElementsAre("state.boot-1"));
}

TEST(JournalFormat, ANewerFormatIsRefusedAndNotTouched) {
  const TestArea area;
  fill(*open_loaded(area.options()), 3);
  std::string seal = read_file(area.seal());
  seal[8] = static_cast<char>(kFormat + 1);
  seal_header(seal);
  write_file(area.seal(), seal);
  const std::string data = read_file(area.data());
  area.set_boot("even-after-a-reboot");

  std::vector<std::string> notes;
  const auto opened = Journal::open(area.options(), notes);
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().kind, OpenError::Kind::kNewerFormat);
  EXPECT_THAT(opened.error().message, HasSubstr("format " + std::to_string(kFormat + 1)));
  EXPECT_THAT(notes, IsEmpty());
  EXPECT_EQ(read_file(area.seal()), seal);
  EXPECT_EQ(read_file(area.data()), data);
}

TEST(JournalStart, AnUnfinishedBeginningIsBegunAgain) {
  const TestArea area;
  std::filesystem::create_directories(area.area() / "state.new");
  write_file(area.area() / "state.new" / "data.mdb", "half");
  open_loaded(area.options());
  EXPECT_THAT(area.names("state"), ElementsAre("state"));
}

}  // namespace
}  // namespace journal::testing
