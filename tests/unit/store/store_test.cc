// SPDX-License-Identifier: MIT
#include "store/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "store/path.h"

namespace {

using store::Caller;
using store::Domid;
using store::TreeOp;
using store::WireError;
using testing::ElementsAre;
using Kind = TreeOp::Kind;

Caller guest(std::uint16_t domid) {
  return {.domid = Domid{domid}, .target = std::nullopt, .privileged = false};
}

store::Answer<void> run(store::Store& store, const TreeOp& op, const Caller& caller = {},
                        const store::Limits* limits = nullptr) {
  std::string reply;
  return store.execute(op, caller, limits, reply);
}

TEST(NodePath, KnowsLegalPaths) {
  EXPECT_TRUE(store::is_node_path("/"));
  EXPECT_TRUE(store::is_node_path("/local/domain/0/a-b_c@d"));
  for (const char* bad : {"", "a", "//", "/a/", "/a//b", "/a.b", "/a b", "/\xff", "@x"}) {
    EXPECT_FALSE(store::is_node_path(bad)) << bad;
  }
}

TEST(NodePath, CountsLengthBehindTheDomainsPrefix) {
  const std::string longest(2048, 'a');
  EXPECT_TRUE(store::is_node_path("/local/domain/65535/" + longest));
  EXPECT_FALSE(store::is_node_path("/local/domain/65535/" + longest + "a"));
  EXPECT_TRUE(store::is_node_path("/" + std::string(2047, 'a')));
  EXPECT_FALSE(store::is_node_path("/" + longest));
  EXPECT_FALSE(store::is_node_path("/local/domain/123456/" + longest));
}

TEST(Perms, FirstMatchDecidesEvenIfItGrantsNothing) {
  const store::Perms perms{{Domid{1}, store::Access::kRead},
                           {Domid{2}, store::Access::kNone},
                           {Domid{2}, store::Access::kBoth}};
  EXPECT_EQ(access_of(guest(2), perms), store::Access::kNone);
  EXPECT_EQ(access_of(guest(3), perms), store::Access::kRead);
  EXPECT_EQ(access_of(guest(1), perms), store::Access::kBoth);
}

TEST(Store, CreationChargesEveryLevelOrNothing) {
  store::Store store;
  store::Limits limits;
  limits[store::Quota::kNodes] = 3;
  const store::Perms open{{store::kDom0, store::Access::kBoth}};
  ASSERT_TRUE(run(store, {.kind = Kind::kMkdir, .path = "/d"}).has_value());
  ASSERT_TRUE(run(store, {.kind = Kind::kSetPerms, .path = "/d", .perms = open}).has_value());
  const auto refused = run(store, {.kind = Kind::kWrite, .path = "/d/1/2/3/4"}, guest(7), &limits);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error(), WireError::kNospc);
  EXPECT_EQ(store.find("/d/1"), nullptr);
  EXPECT_TRUE(run(store, {.kind = Kind::kWrite, .path = "/d/1/2/3"}, guest(7), &limits));
  EXPECT_EQ(store.usage().of(Domid{7}).nodes, 3U);
}

// XSA-418: nothing in the store recurses, whatever the depth of the tree.
TEST(Store, VeryDeepTreesAreMadeCopiedAndRemovedWithoutRecursion) {
  store::Store store;
  std::string path;
  for (int level = 0; level < 1000; ++level) path += "/a";
  ASSERT_TRUE(run(store, {.kind = Kind::kWrite, .path = path, .value = "x"}).has_value());
  auto transaction = store.begin();
  ASSERT_TRUE(run(store, {.kind = Kind::kWrite, .path = path, .value = "y"}).has_value());
  EXPECT_EQ(store.subtree_nodes("/"), 1001U);
  store.effects().clear();
  ASSERT_TRUE(run(store, {.kind = Kind::kRm, .path = "/a"}).has_value());
  EXPECT_EQ(store.effects().fired.size(), 1000U);
  EXPECT_EQ(store.effects().fired.back().path, "/a");
  EXPECT_EQ(store.subtree_nodes("/"), 1U);
}

TEST(Store, CommitFiresEachNodeOnceInOrderOfFirstAccess) {
  store::Store store;
  ASSERT_TRUE(run(store, {.kind = Kind::kMkdir, .path = "/b"}).has_value());
  store.effects().clear();
  auto transaction = store.begin();
  std::string reply;
  for (const TreeOp& op : std::vector<TreeOp>{{.kind = Kind::kRead, .path = "/b"},
                                              {.kind = Kind::kWrite, .path = "/a", .value = "1"},
                                              {.kind = Kind::kWrite, .path = "/b", .value = "1"},
                                              {.kind = Kind::kWrite, .path = "/a", .value = "2"}}) {
    ASSERT_TRUE(store.execute_in(transaction, op, {}, nullptr, reply).has_value());
  }
  std::string conflict;
  ASSERT_TRUE(store.commit(transaction, {}, nullptr, conflict).has_value());
  std::vector<std::string> fired;
  for (const store::Fired& event : store.effects().fired) fired.push_back(event.path);
  EXPECT_THAT(fired, ElementsAre("/b", "/a"));
}

TEST(Store, CommitOfWhatWasForbiddenInsideAndWouldExceedAQuotaNowIsTriedAgain) {
  store::Store store;
  store::Limits none;
  none[store::Quota::kNodes] = 0;
  ASSERT_TRUE(run(store, {.kind = Kind::kMkdir, .path = "/d"}).has_value());
  auto transaction = store.begin();
  std::string reply;
  const auto inside =
      store.execute_in(transaction, {.kind = Kind::kMkdir, .path = "/d/x"}, guest(7), &none, reply);
  ASSERT_FALSE(inside.has_value());
  EXPECT_EQ(inside.error(), WireError::kAcces);
  const store::Perms open{{store::kDom0, store::Access::kBoth}};
  ASSERT_TRUE(run(store, {.kind = Kind::kSetPerms, .path = "/d", .perms = open}).has_value());
  std::string conflict;
  const auto answer = store.commit(transaction, guest(7), &none, conflict);
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error(), WireError::kAgain);
  EXPECT_EQ(conflict, "/d/x");
}

TEST(Store, AWideDirectoryStaysFindableThroughRemovals) {
  store::Store store;
  const auto path = [](int i) { return "/d/" + std::to_string(i); };
  for (int i = 0; i < 5000; ++i) {
    ASSERT_TRUE(run(store, {.kind = Kind::kMkdir, .path = path(i)}).has_value());
  }
  for (int i = 0; i < 5000; i += 3) {
    ASSERT_TRUE(run(store, {.kind = Kind::kRm, .path = path(i)}).has_value());
  }
  for (int i = 0; i < 5000; ++i) {
    EXPECT_EQ(store.find(path(i)) != nullptr, i % 3 != 0) << i;
  }
  EXPECT_TRUE(store.check().empty());
}

}  // namespace
