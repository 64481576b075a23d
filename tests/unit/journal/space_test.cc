// SPDX-License-Identifier: MIT
// After `reserve` has said yes, a commit never fails, also on a full tmpfs; and
// a full tmpfs refuses what is new, not what removes.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <random>

#include "journal/journal.h"
#include "tests/unit/journal/support.h"

namespace journal::testing {
namespace {

/// Puts and erases of random sizes, each reserved before; counts what is refused.
class Workload {
 public:
  explicit Workload(Journal& journal, unsigned seed) : journal_(journal), random_(seed) {}

  void turn() {
    if (random_() % 10 == 0) {
      for (std::uint64_t puts = random_() % 200; puts > 0; --puts) put(random_id());
    } else {
      for (std::uint64_t changes = 1 + random_() % 6; changes > 0; --changes) change();
    }
    const auto done = journal_.commit();
    ASSERT_TRUE(done.has_value()) << done.error();
  }

  /// Fraction of 100 changes that put; the others erase.
  int puts_of_100 = 60;
  int refused_puts = 0;
  int refused_removals = 0;
  int kept = 0;
  State model;

 private:
  std::uint64_t random_id() { return random_() % 20'000; }

  void change() {
    const std::uint64_t id = random_id();
    if (static_cast<int>(random_() % 100) < puts_of_100) {
      put(id);
    } else if (journal_.reserve(journal_.space_for_removals(1), Purpose::kRemoval)) {
      journal_.erase_node(NodeId{id});
      model.nodes.erase(id);
      ++kept;
    } else {
      ++refused_removals;
    }
  }

  void put(std::uint64_t id) {
    const std::size_t size = random_() % 6 == 0 ? random_() % (kValueMax + 1) : random_() % 60;
    if (!journal_.reserve(journal_.space_for_put(size + 8))) {
      ++refused_puts;
      return;
    }
    const Node node{.generation = id, .value = std::string(size, static_cast<char>('a' + id % 26))};
    journal_.put(node.record(id));
    model.nodes[id] = node;
    ++kept;
  }

  Journal& journal_;
  std::mt19937_64 random_;
};

void expect_same_on_disk(Journal& journal, const State& model) {
  State shown;
  const auto verified = journal.verify(shown);
  ASSERT_TRUE(verified.has_value()) << verified.error();
  EXPECT_TRUE(shown.same(model));
}

TEST(Space, ReservedCommitsNeverFailUnderALimit) {
  for (const unsigned seed : {1U, 2U, 3U}) {
    const TestArea area;
    Options options = area.options();
    options.max_bytes = std::uint64_t{3 + seed} << 20;
    const auto journal = open_loaded(options);
    Workload work(*journal, seed);
    for (int i = 0; i < 1500 && !::testing::Test::HasFatalFailure(); ++i) {
      // Tides: mostly growing, then mostly shrinking.
      work.puts_of_100 = i / 300 % 2 == 0 ? 80 : 20;
      work.turn();
    }
    EXPECT_GT(work.refused_puts, 0);
    EXPECT_EQ(work.refused_removals, 0);
    EXPECT_LE(journal->file_bytes(), options.max_bytes);
    expect_same_on_disk(*journal, work.model);
  }
}

TEST(Space, AHundredThousandNodesTakeFewBytes) {
  const TestArea area;
  const auto journal = open_loaded(area.options());
  const std::uint64_t count = 100'000;
  for (std::uint64_t id = 1; id <= count; ++id) {
    ASSERT_TRUE(journal->reserve(journal->space_for_put(26)));
    journal->put(
        Node{.parent = id / 10, .generation = id, .name = "nodename", .value = "0123456789"}.record(
            id));
    commit(*journal);
  }
  EXPECT_LT(journal->file_bytes() / count, 150U);
}

TEST(Space, AFileOfHolesIsFilledAtOpening) {
  const TestArea area;
  fill(*open_loaded(area.options()), 50);
  const std::string data = read_file(area.data());
  std::filesystem::remove(area.data());
  write_file(area.data(), data.substr(0, std::size_t{40} * 4096));
  std::filesystem::resize_file(area.data(), data.size());  // as a sparse copy makes it
  State state;
  const auto journal = open_loaded(area.options(), state);
  EXPECT_EQ(state.nodes.size(), 50U);
  struct stat status {};
  ASSERT_EQ(::stat(area.data().c_str(), &status), 0);
  EXPECT_EQ(static_cast<std::uint64_t>(status.st_blocks) * 512, journal->file_bytes());
}

/// Runs `body` in a child that has a tmpfs of `size` of its own; its failures
/// are printed there and make the child's status.
void with_tmpfs(const std::string& size, const std::function<void(const std::string&)>& body) {
  const TestArea mount_point;
  std::filesystem::create_directories(mount_point.area());
  const pid_t child = ::fork();
  if (child == 0) {
    const std::string where = mount_point.area().string();
    const bool mounted =
        (::unshare(CLONE_NEWNS) == 0 || ::unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0) &&
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
        ::mount("tmpfs", where.c_str(), "tmpfs", 0, ("size=" + size).c_str()) == 0;
    EXPECT_TRUE(mounted) << errno;
    if (mounted) body(where);
    ::_exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(FullTmpfs, RefusesNewNodesKeepsOldOnesAndLetsRemovalsThrough) {
  with_tmpfs("6m", [](const std::string& where) {
    const TestArea area(where);
    const auto journal = open_loaded(area.options());
    State model;
    std::uint64_t id = 1;
    // A small node a commit until there is no room.
    for (; journal->reserve(journal->space_for_put(20)); ++id) {
      model.nodes[id] = {.generation = id, .value = "small value"};
      journal->put(model.nodes[id].record(id));
      commit(*journal);
    }
    ASSERT_GT(id, 40'000U);
    write_file(area.area() / "filler",
               std::string(std::size_t{8} << 20, 'f'));  // takes what is left

    // Removals by ones and tens go on; they make room for new nodes again.
    for (std::uint64_t at = 1; at < id; at += at % 3 == 0 ? 10 : 1) {
      const std::uint64_t count = at % 3 == 0 ? 10 : 1;
      ASSERT_TRUE(journal->reserve(journal->space_for_removals(count), Purpose::kRemoval)) << at;
      for (std::uint64_t i = at; i < at + count; ++i) {
        journal->erase_node(NodeId{i});
        model.nodes.erase(i);
      }
      commit(*journal);
    }
    ASSERT_TRUE(journal->reserve(journal->space_for_put(20)));
    model.nodes[5] = {.value = "room again"};
    journal->put(model.nodes[5].record(5));
    commit(*journal);
    expect_same_on_disk(*journal, model);
  });
}

TEST(FullTmpfs, EverythingCanBeRemovedAtOnce) {
  with_tmpfs("3m", [](const std::string& where) {
    const TestArea area(where);
    const auto journal = open_loaded(area.options());
    std::uint64_t id = 1;
    for (; journal->reserve(journal->space_for_put(20)); ++id) {
      journal->put(Node{.generation = id, .value = "small value"}.record(id));
      commit(*journal);
    }
    // Every other node, so that every leaf is touched; then all the rest. What a
    // commit gives back can be taken again by the second one after it.
    for (const std::uint64_t first : {1U, 2U}) {
      ASSERT_TRUE(journal->reserve(journal->space_for_removals(id / 2), Purpose::kRemoval));
      for (std::uint64_t at = first; at < id; at += 2) journal->erase_node(NodeId{at});
      commit(*journal);
      ASSERT_TRUE(journal->reserve(journal->space_for_put(0), Purpose::kRemoval));
      journal->put(Node{.generation = first}.record(id + first));
      commit(*journal);
    }
    journal->erase_node(NodeId{id + 1});
    journal->erase_node(NodeId{id + 2});
    commit(*journal);
    expect_same_on_disk(*journal, State{});
  });
}

TEST(FullTmpfs, ReservedCommitsNeverFail) {
  with_tmpfs("5m", [](const std::string& where) {
    const TestArea area(where);
    auto journal = open_loaded(area.options());
    Workload work(*journal, 9);
    for (int i = 0; i < 1200 && !::testing::Test::HasFatalFailure(); ++i) {
      work.puts_of_100 = i / 300 % 2 == 0 ? 85 : 20;
      work.turn();
      if (i == 200) write_file(area.area() / "filler", std::string(std::size_t{8} << 20, 'f'));
    }
    EXPECT_GT(work.refused_puts, 0);
    EXPECT_EQ(work.refused_removals, 0);
    expect_same_on_disk(*journal, work.model);
    journal.reset();
    State state;  // a full tmpfs does not keep us from starting
    journal = open_loaded(area.options(), state);
    EXPECT_TRUE(state.same(work.model));
  });
}

TEST(FullTmpfs, TooSmallForAStateIsAnErrorNotACrash) {
  with_tmpfs("64k", [](const std::string& where) {
    const TestArea area(where);
    std::vector<std::string> notes;
    const auto opened = Journal::open(area.options(), notes);
    ASSERT_FALSE(opened.has_value());
    EXPECT_EQ(opened.error().kind, OpenError::Kind::kSystem);
  });
}

}  // namespace
}  // namespace journal::testing
