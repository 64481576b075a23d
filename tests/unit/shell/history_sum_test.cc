// SPDX-License-Identifier: MIT
// What was summed up leads a repository to the very tree that the requests led to.
#include "xenstored/history_sum.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <utility>

#include "journal/history_repository.h"
#include "store/path.h"
#include "store/store.h"
#include "tests/unit/shell/temp_dir.h"

namespace xenstored {
namespace {

using Tree = std::map<std::string, std::pair<std::string, store::Perms>>;
const store::Caller kTool;

void add_all(const store::Node& node, const std::string& path, Tree& tree) {
  const store::PermsView perms = node.perms()->view();
  tree[path] = {std::string(node.value()), {perms.begin(), perms.end()}};
  const store::Children* children = node.children();
  for (std::uint32_t slot = 0; children != nullptr && slot < children->slot_count(); ++slot) {
    const store::Node* child = children->at(slot);
    if (child != nullptr) add_all(*child, store::child_path(path, child->name()), tree);
  }
}

Tree tree_of(const store::Node& root) {
  Tree tree;
  add_all(root, "/", tree);
  return tree;
}

class HistorySumTest : public ::testing::Test {
 protected:
  HistorySumTest() {
    journal::HistoryRepository::Options options;
    options.folder = folder_.path() + "/history.git";
    auto opened = journal::HistoryRepository::open(std::move(options));
    EXPECT_TRUE(opened.has_value());
    repository_ = std::move(opened.value());
    const auto show_root = [&](const journal::HistoryNodeSink& sink) {
      return sink({"/", store_.root().value(), store_.root().perms()->view()});
    };
    EXPECT_TRUE(repository_->add_whole(++number_, 1, "the beginning", show_root).has_value());
  }

  std::uint64_t below(std::uint64_t end) { return random_() % end; }

  std::string some_path() {
    std::string path;
    for (std::uint64_t depth = below(4) + 1; depth > 0; --depth) {
      path += "/" + std::string(1, static_cast<char>('a' + below(3)));
    }
    return path;
  }

  /// Something that may change the tree.
  void ask() {
    const std::string path = some_path();
    const std::string value = std::to_string(random_());
    const auto owner = store::Domid{static_cast<std::uint16_t>(below(3))};
    const store::Perms perms{{owner, store::Access::kRead}};
    std::string reply;
    switch (below(8)) {
      case 0:
        (void)store_.execute({store::TreeOp::Kind::kRm, path}, kTool, nullptr, reply);
        break;
      case 1:
        (void)store_.execute({store::TreeOp::Kind::kMkdir, path}, kTool, nullptr, reply);
        break;
      case 2:
        (void)store_.execute({store::TreeOp::Kind::kSetPerms, path, {}, perms}, kTool, nullptr,
                             reply);
        break;
      case 3:
        if (below(20) == 0) store_.domain_died(store::Domid{2}, false);
        break;
      default:
        (void)store_.execute({store::TreeOp::Kind::kWrite, path, value}, kTool, nullptr, reply);
    }
  }

  void sum_up(HistorySum& sum) {
    journal::HistoryEntry entry{.number = number_ + 1, .time_us = 1, .what = "WRITE"};
    entry.author.kind = journal::HistoryAuthor::kDomain;
    for (const store::Change& change : store_.effects().changes) {
      if (change.path.empty()) continue;
      sum.touch(change.path, !change.node);
      entry.changes.push_back({change.path, !change.node, {}, {}});
    }
    store_.effects().clear();
    if (entry.changes.empty()) return;
    ++number_;
    sum.add_request(entry);
  }

  Tree tree_of_repository() {
    Tree tree;
    const auto add = [&](const journal::HistoryNode& node) -> journal::Result<void, std::string> {
      tree[std::string(node.path)] = {std::string(node.value),
                                      {node.perms.begin(), node.perms.end()}};
      return {};
    };
    EXPECT_TRUE(repository_->read_tip(add).has_value());
    return tree;
  }

  TempDir folder_;
  std::unique_ptr<journal::HistoryRepository> repository_;
  store::Store store_;
  std::mt19937_64 random_{1};
  std::uint64_t number_ = 0;
};

TEST_F(HistorySumTest, LeadsToTheTreeOfTheLastRequest) {
  HistorySum next;
  for (int round = 0; round < 300; ++round) {
    for (std::uint64_t requests = below(60); requests > 0; --requests) {
      ask();
      sum_up(next);
    }
    HistorySum sum = std::exchange(next, {});
    const store::NodeRef root = store_.snapshot();
    const Tree wanted = tree_of(*root);
    // Serving goes on while it is told, and belongs to the next.
    while (!sum.look_up(*root, below(5))) {
      ask();
      sum_up(next);
    }
    const std::uint64_t last = repository_->last_entry();
    const bool is_empty = sum.empty();
    const auto added = repository_->add(sum.take_commit());
    ASSERT_TRUE(added.has_value()) << added.error();
    ASSERT_EQ(repository_->last_entry() == last, is_empty);
    ASSERT_EQ(tree_of_repository(), wanted) << "round " << round;
  }
}

TEST_F(HistorySumTest, MemoryIsThatOfTheNodesTouched) {
  HistorySum sum;
  std::string reply;
  for (int i = 0; i < 10'000; ++i) {
    const std::string path = "/a/" + std::to_string(i % 7);
    ASSERT_TRUE(store_
                    .execute({store::TreeOp::Kind::kWrite, path, std::string(4000, 'v')}, kTool,
                             nullptr, reply)
                    .has_value());
    sum_up(sum);
  }
  EXPECT_LT(sum.bytes(), 32U << 10);  // of which the list of requests is half
  ASSERT_TRUE(sum.look_up(store_.root(), 100));
  const journal::HistoryCommit commit = sum.take_commit();
  EXPECT_EQ(commit.last_number() - commit.first_number(), 9'999U);
  EXPECT_NE(commit.message().find("10000 requests: 10000 WRITE"), std::string::npos);
  EXPECT_NE(commit.message().find("may be missing"), std::string::npos);
}

}  // namespace
}  // namespace xenstored
