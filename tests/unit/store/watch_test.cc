// SPDX-License-Identifier: MIT
#include "store/watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "store/contention.h"

namespace {

using store::ConnId;
using store::Contention;
using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::string> tokens(store::WatchIndex& index, std::string_view path,
                                bool exact = false) {
  std::vector<std::string> found;
  for (const store::Watch* watch : index.matching(path, exact)) found.push_back(watch->token);
  return found;
}

TEST(WatchIndex, FindsAncestorsInOrderOfConnectionAndRegistration) {
  store::WatchIndex index;
  ASSERT_TRUE(index.add({ConnId{2}, 1, "/", "root2", false, store::kAnyDepth}));
  ASSERT_TRUE(index.add({ConnId{1}, 2, "/a/b", "b1", false, store::kAnyDepth}));
  ASSERT_TRUE(index.add({ConnId{1}, 3, "/a", "a1", false, store::kAnyDepth}));
  ASSERT_TRUE(index.add({ConnId{1}, 4, "/ab", "other", false, store::kAnyDepth}));
  EXPECT_THAT(tokens(index, "/a/b"), ElementsAre("b1", "a1", "root2"));
  EXPECT_THAT(tokens(index, "/a/b", true), ElementsAre("b1"));
  EXPECT_THAT(tokens(index, "/"), ElementsAre("root2"));
}

TEST(WatchIndex, DepthLimitsHowFarBelowIsHeard) {
  store::WatchIndex index;
  ASSERT_TRUE(index.add({ConnId{1}, 1, "/a", "self", false, 0}));
  ASSERT_TRUE(index.add({ConnId{1}, 2, "/a", "one", false, 1}));
  ASSERT_TRUE(index.add({ConnId{1}, 3, "/", "root1", false, 1}));
  EXPECT_THAT(tokens(index, "/a"), ElementsAre("self", "one", "root1"));
  EXPECT_THAT(tokens(index, "/a/b"), ElementsAre("one"));
  EXPECT_THAT(tokens(index, "/a/b/c"), IsEmpty());
}

TEST(WatchIndex, SamePathAndTokenTwiceIsRefusedAndRemovalForgetsAll) {
  store::WatchIndex index;
  ASSERT_TRUE(index.add({ConnId{1}, 1, "/a", "t", false, store::kAnyDepth}));
  EXPECT_FALSE(index.add({ConnId{1}, 2, "/a", "t", false, store::kAnyDepth}).has_value());
  ASSERT_TRUE(index.add({ConnId{2}, 3, "/a", "t", false, store::kAnyDepth}));
  EXPECT_EQ(index.remove_all(ConnId{1}).size(), 1U);
  EXPECT_FALSE(index.remove(ConnId{1}, "/a", "t").has_value());
  EXPECT_TRUE(index.remove(ConnId{2}, "/a", "t").has_value());
  EXPECT_TRUE(index.empty());
}

TEST(ShownPath, IsRelativeForARelativeWatchAndEmptyForItsBase) {
  const store::Watch watch{ConnId{1}, 1, "/local/domain/5/x", "t", true, store::kAnyDepth};
  EXPECT_EQ(shown_path(watch, store::Domid{5}, "/local/domain/5/x/y"), "x/y");
  EXPECT_EQ(shown_path(watch, store::Domid{5}, "/local/domain/5"), "");
}

// Three losers over one node get their turns in the order in which they came.
TEST(Contention, LosersTakeTurns) {
  Contention contention;
  std::vector<ConnId> wake;
  for (std::uint64_t conn = 1; conn <= 3; ++conn) contention.lost(ConnId{conn}, "/n", 0);
  EXPECT_TRUE(contention.may_start(ConnId{2}, 1));
  EXPECT_FALSE(contention.may_start(ConnId{3}, 1));
  EXPECT_FALSE(contention.may_start(ConnId{1}, 1));
  EXPECT_TRUE(contention.may_start(ConnId{9}, 1)) << "who never lost is not held up";
  contention.finished(ConnId{2}, wake);
  EXPECT_THAT(wake, ElementsAre(ConnId{3}, ConnId{1}));
  contention.lost(ConnId{2}, "/n", 2);
  EXPECT_FALSE(contention.may_start(ConnId{2}, 2)) << "not before those that wait already";
  EXPECT_TRUE(contention.may_start(ConnId{3}, 2));
  EXPECT_FALSE(contention.may_start(ConnId{1}, 2));
}

// The first of the queue is called, and does not come: its answers are not read.
TEST(Contention, WhoDoesNotComeHoldsNobodyUp) {
  Contention contention;
  std::vector<ConnId> wake;
  for (std::uint64_t conn = 1; conn <= 4; ++conn) contention.lost(ConnId{conn}, "/n", 0);
  ASSERT_TRUE(contention.may_start(ConnId{1}, 1));
  ASSERT_FALSE(contention.may_start(ConnId{2}, 1));
  contention.finished(ConnId{1}, wake);
  wake.clear();
  ASSERT_FALSE(contention.may_start(ConnId{3}, 2)) << "one was called before it";
  ASSERT_FALSE(contention.may_start(ConnId{4}, 2));
  EXPECT_NE(contention.expire(2 + Contention::kTurnMax, wake), 0U);
  EXPECT_THAT(wake, ElementsAre(ConnId{2}, ConnId{3}, ConnId{4}));
  EXPECT_TRUE(contention.may_start(ConnId{3}, 30'000));
  EXPECT_FALSE(contention.may_start(ConnId{2}, 30'000));
}

TEST(Contention, ATurnThatIsNotUsedEndsByItself) {
  Contention contention;
  std::vector<ConnId> wake;
  contention.lost(ConnId{1}, "/n", 0);
  contention.lost(ConnId{2}, "/n", 0);
  ASSERT_TRUE(contention.may_start(ConnId{1}, 1));
  ASSERT_FALSE(contention.may_start(ConnId{2}, 1));
  contention.wait_for(ConnId{7}, ConnId{1});
  EXPECT_NE(contention.expire(2, wake), 0U);
  EXPECT_THAT(wake, IsEmpty());
  EXPECT_NE(contention.expire(1 + Contention::kTurnMax, wake), 0U) << "one was called";
  EXPECT_THAT(wake, ElementsAre(ConnId{7}, ConnId{2}));
  EXPECT_FALSE(contention.has_turn(ConnId{1}));
  EXPECT_TRUE(contention.may_start(ConnId{1}, 30'000)) << "but without a turn of its own";
  EXPECT_FALSE(contention.has_turn(ConnId{1}));
}

TEST(Contention, WhoIsGoneHoldsNobodyUp) {
  Contention contention;
  std::vector<ConnId> wake;
  for (std::uint64_t conn = 1; conn <= 3; ++conn) contention.lost(ConnId{conn}, "/n", 0);
  ASSERT_TRUE(contention.may_start(ConnId{1}, 1));
  ASSERT_FALSE(contention.may_start(ConnId{2}, 1));
  ASSERT_FALSE(contention.may_start(ConnId{3}, 1));
  contention.gone(ConnId{1}, wake);
  EXPECT_THAT(wake, ElementsAre(ConnId{2}, ConnId{3}));
  contention.gone(ConnId{2}, wake);
  EXPECT_TRUE(contention.may_start(ConnId{3}, 2));
}

}  // namespace
