// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "model.h"

namespace {

using store::Access;
using store::Caller;
using store::Domid;
using store::TreeOp;
using Kind = TreeOp::Kind;

constexpr Domid kGuests[] = {Domid{1}, Domid{2}, Domid{3}};

class Random {
 public:
  /// Every third seed makes few levels of wide directories, which are indexed.
  explicit Random(std::uint64_t seed)
      : engine_(seed), levels_(seed % 3 == 0 ? 3 : 5), names_(seed % 3 == 0 ? 60 : 3) {}
  std::size_t below(std::size_t limit) { return engine_() % limit; }
  bool one_in(std::size_t n) { return below(n) == 0; }

  std::string path() {
    std::string path;
    for (std::size_t level = 0, levels = below(levels_); level < levels; ++level) {
      path += "/" + std::to_string(below(level == 0 ? 3 : names_));
    }
    return path.empty() ? "/" : path;
  }
  store::Perms perms() {
    store::Perms perms;
    do {
      perms.push_back({Domid{static_cast<std::uint16_t>(below(4))}, static_cast<Access>(below(4))});
    } while (perms.size() < 4 && one_in(2));
    return perms;
  }
  Caller caller() {
    if (one_in(2)) return {};
    Caller guest{.domid = kGuests[below(3)], .target = std::nullopt, .privileged = false};
    if (one_in(4)) guest.target = kGuests[below(3)];
    return guest;
  }
  model::Op op() {
    static constexpr Kind kKinds[] = {Kind::kRead,  Kind::kDirectory, Kind::kGetPerms,
                                      Kind::kWrite, Kind::kWrite,     Kind::kMkdir,
                                      Kind::kRm,    Kind::kSetPerms};
    const Kind kind = kKinds[below(8)];
    return {kind, path(), std::string(below(20), static_cast<char>('a' + below(26))), perms()};
  }

 private:
  std::mt19937_64 engine_;
  std::size_t levels_;
  std::size_t names_;
};

const store::Limits& tight_limits() {
  static const store::Limits limits = [] {
    store::Limits tight;
    tight[store::Quota::kNodes] = 12;
    return tight;
  }();
  return limits;
}

const store::Limits* limits_for(const Caller& caller) {
  return caller.privileged ? nullptr : &tight_limits();
}

model::Answer answer_of(const store::Answer<void>& answer, const std::string& reply) {
  if (answer.has_value()) return {std::nullopt, reply};
  return {answer.error(), ""};
}

/// Everything that the model holds is in the store, and nothing else.
void expect_same(const store::Store& store, const model::Tree& tree) {
  EXPECT_THAT(store.check(), testing::IsEmpty());
  ASSERT_EQ(store.subtree_nodes("/"), tree.nodes.size());
  for (const auto& [path, expected] : tree.nodes) {
    const store::Node* node = store.find(path);
    ASSERT_NE(node, nullptr) << path;
    EXPECT_EQ(node->value(), expected.value) << path;
    EXPECT_TRUE(std::equal(expected.perms.begin(), expected.perms.end(),
                           node->perms()->view().begin(), node->perms()->view().end()))
        << path;
    std::vector<std::string> names;
    for (std::uint32_t i = 0; node->children() != nullptr && i < node->children()->slot_count();
         ++i) {
      if (const store::Node* child = node->children()->at(i)) names.emplace_back(child->name());
    }
    EXPECT_EQ(names, tree.children(path)) << path;
  }
}

/// A store built again from the records that the changes put, as recovery does.
void expect_recoverable(const store::Store& store, const std::map<std::uint64_t, std::string>& keys,
                        const std::map<std::uint64_t, store::Change>& records) {
  store::Loader loader;
  for (const auto& [id, change] : records) {
    const store::Node& node = *change.node;
    ASSERT_TRUE(loader.add(node.id(), change.parent, node.generation(), node.perms()->view(),
                           node.name(), node.value()));
  }
  store::Store again;
  ASSERT_TRUE(loader.finish(again));
  EXPECT_THAT(again.check(), testing::IsEmpty());
  EXPECT_EQ(again.subtree_nodes("/"), store.subtree_nodes("/"));
  EXPECT_EQ(again.generation(), store.generation());
  for (const auto& [id, path] : keys) {
    const store::Node* node = again.find(path);
    ASSERT_NE(node, nullptr) << path;
    EXPECT_EQ(node->generation(), store.find(path)->generation()) << path;
  }
}

void collect_paths(const store::Node& node, const std::string& path,
                   std::map<std::uint64_t, std::string>& out) {
  out[raw(node.id())] = path.empty() ? "/" : path;
  for (std::uint32_t i = 0; node.children() != nullptr && i < node.children()->slot_count(); ++i) {
    if (const store::Node* child = node.children()->at(i)) {
      collect_paths(*child, path + "/" + std::string(child->name()), out);
    }
  }
}

class StoreProperty : public testing::TestWithParam<std::uint64_t> {};

// Random requests of domain 0 and three guests, one of them sometimes with a
// target, and dying domains; each answer and the whole tree against the model,
// and the records that the changes put against the tree.
TEST_P(StoreProperty, AnswersAsThePlainModelDoes) {
  Random random(GetParam());
  store::Store store;
  model::Tree tree;
  std::map<std::uint64_t, store::Change> records;
  for (int step = 0; step < 3000; ++step) {
    if (random.one_in(60)) {
      const Domid dead = kGuests[random.below(3)];
      store.domain_died(dead, false);
      tree.die(dead);
    } else {
      const model::Op op = random.op();
      const Caller caller = random.caller();
      std::string reply;
      const auto answer = store.execute(op.view(), caller, limits_for(caller), reply);
      ASSERT_EQ(answer_of(answer, reply), tree.run(op, caller, limits_for(caller)))
          << "step " << step << " kind " << static_cast<int>(op.kind) << " " << op.path;
    }
    for (const store::Change& change : store.effects().changes) {
      if (change.node) {
        records[raw(change.id)] = change;
      } else {
        records.erase(raw(change.id));
      }
    }
    store.effects().clear();
    if (step % 20 == 0) expect_same(store, tree);
    // Held records keep old versions of nodes alive, which must not change them.
    if (HasFatalFailure()) return;
  }
  std::map<std::uint64_t, std::string> paths;
  collect_paths(store.root(), "", paths);
  expect_recoverable(store, paths, records);
}

struct OpenTransaction {
  store::Transaction transaction;
  model::Tree snapshot;
  Caller caller;
  std::vector<std::pair<model::Op, model::Answer>> asked;
};

// Up to four transactions at once beside direct requests. In each one answers are
// those of a private copy of the tree; a commit succeeds if and only if the same
// requests would be answered the same now, and then has that effect.
TEST_P(StoreProperty, TransactionsCommitIfAndOnlyIfEachAnswerStillHolds) {
  Random random(GetParam());
  store::Store store;
  model::Tree tree;
  std::vector<OpenTransaction> open;
  int committed = 0;
  int refused = 0;
  for (int step = 0; step < 4000; ++step) {
    const Caller caller = random.caller();
    if (open.size() < 4 && random.one_in(4)) {
      open.push_back({store.begin(), tree, caller, {}});
    } else if (!open.empty() && random.one_in(5)) {
      const std::size_t chosen = random.below(open.size());
      OpenTransaction ending = std::move(open[chosen]);
      open.erase(open.begin() + static_cast<std::ptrdiff_t>(chosen));
      model::Tree next = tree;
      bool holds = true;
      for (const auto& [op, answer] : ending.asked) {
        holds = holds && next.run(op, ending.caller, nullptr) == answer;
      }
      std::string conflict;
      const auto done = store.commit(ending.transaction, ending.caller, nullptr, conflict);
      ASSERT_EQ(done.has_value(), holds) << "step " << step;
      if (holds) tree = next;
      ++(holds ? committed : refused);
      EXPECT_EQ(conflict.empty(), holds);
    } else if (!open.empty() && random.one_in(2)) {
      OpenTransaction& inside = open[random.below(open.size())];
      const model::Op op = random.op();
      std::string reply;
      const auto answer =
          store.execute_in(inside.transaction, op.view(), inside.caller, nullptr, reply);
      const model::Answer expected = inside.snapshot.run(op, inside.caller, nullptr);
      ASSERT_EQ(answer_of(answer, reply), expected) << "step " << step;
      // Asking the same again tells nothing; the store does not even log it.
      inside.asked.emplace_back(op, expected);
    } else if (random.one_in(3)) {
      const model::Op op = random.op();
      std::string reply;
      const auto answer = store.execute(op.view(), caller, nullptr, reply);
      ASSERT_EQ(answer_of(answer, reply), tree.run(op, caller, nullptr)) << "step " << step;
    }
    store.effects().clear();
    if (step % 20 == 0) expect_same(store, tree);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(committed + refused, 0);
}

INSTANTIATE_TEST_SUITE_P(Seeds, StoreProperty, testing::Range<std::uint64_t>(1, 31));

}  // namespace
