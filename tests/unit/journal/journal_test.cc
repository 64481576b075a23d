// SPDX-License-Identifier: MIT
#include "journal/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#define XXH_INLINE_ALL
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cstring>
#include <random>

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
  EXPECT_EQ(state.order, std::string(20, 'n') + "dcwwwooops");
  EXPECT_EQ(state.nodes.at(7).value, "value7");
  EXPECT_EQ(state.connections.at(ConnId{5}).in_off, 4294967295U);
  EXPECT_EQ(state.outputs.at({ConnId{5}, 300}).frame.size(), 300U);
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
  State state;
  EXPECT_TRUE(journal->verify(state).has_value());
  EXPECT_EQ(state.order, "");
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
      const std::size_t size = random() % 8 == 0 ? random() % kValueMax : random() % 40;
      const std::pair key{ConnId{id % 7}, id};
      switch (random() % 6) {
        case 0:
        case 1: {
          const Node node{
              .parent = id, .generation = random(), .name = "n", .value = std::string(size, 'v')};
          model.nodes[id] = node;
          journal->put(node.record(id));
          break;
        }
        case 2:
          model.nodes.erase(id);
          journal->erase_node(NodeId{id});
          break;
        case 3:
          model.outputs[key] = {key.first, id, std::string(size, 'o')};
          journal->put(model.outputs[key]);
          break;
        case 4:
          model.outputs.erase(key);
          journal->erase_output(key.first, id);
          break;
        case 5:
          model.connections[key.first] = {.conn = key.first,
                                          .in_off = static_cast<std::uint32_t>(id),
                                          .partial = std::string(size, 'p')};
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

TEST(JournalFormat, ANewerFormatIsRefusedAndNotTouched) {
  const TestArea area;
  fill(*open_loaded(area.options()), 3);
  // The seal of a later version: its format number, and the hash that goes with it.
  std::string seal = read_file(area.seal());
  seal[8] = 2;
  const std::uint64_t hash = XXH3_64bits(seal.data(), 56);
  std::memcpy(seal.data() + 56, &hash, sizeof hash);
  write_file(area.seal(), seal);
  const std::string data = read_file(area.data());
  area.set_boot("even-after-a-reboot");

  std::vector<std::string> notes;
  const auto opened = Journal::open(area.options(), notes);
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().kind, OpenError::Kind::kNewerFormat);
  EXPECT_THAT(opened.error().message, HasSubstr("format 2"));
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
