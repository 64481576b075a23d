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
#include <utility>

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
    } else if (journal_.reserve(Journal::space_for_removals(1), Purpose::kRemoval)) {
      erase(id);
      ++kept;
    } else {
      ++refused_removals;
    }
  }

  /// One number in eight is that of an output, the others are nodes.
  static bool is_output(std::uint64_t id) { return id % 8 == 0; }

  void erase(std::uint64_t id) {
    if (is_output(id)) {
      journal_.erase_output(ConnId{1}, id);
      model.outputs.erase({ConnId{1}, id});
    } else {
      journal_.erase_node(NodeId{id});
      model.nodes.erase(id);
    }
  }

  void put(std::uint64_t id) {
    if (is_output(id)) {
      put_output(id);
    } else {
      put_node(id);
    }
  }

  void put_output(std::uint64_t id) {
    const std::size_t size = random_() % 4 == 0 ? random_() % (kOutputMax + 1) : random_() % 300;
    if (!journal_.reserve(Journal::space_for_put(size))) {
      ++refused_puts;
      return;
    }
    const OutputRecord output{ConnId{1}, id, std::string(size, static_cast<char>('a' + size % 26))};
    journal_.put(output);
    model.outputs[{output.conn, id}] = output;
    ++kept;
  }

  void put_node(std::uint64_t id) {
    const std::size_t size = random_() % 6 == 0 ? random_() % (kValueMax + 1) : random_() % 60;
    if (!journal_.reserve(Journal::space_for_put(size + 8))) {
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
    ASSERT_TRUE(journal->reserve(Journal::space_for_put(26)));
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
    for (; journal->reserve(Journal::space_for_put(20)); ++id) {
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
      ASSERT_TRUE(journal->reserve(Journal::space_for_removals(count), Purpose::kRemoval)) << at;
      for (std::uint64_t i = at; i < at + count; ++i) {
        journal->erase_node(NodeId{i});
        model.nodes.erase(i);
      }
      commit(*journal);
    }
    ASSERT_TRUE(journal->reserve(Journal::space_for_put(20)));
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
    for (; journal->reserve(Journal::space_for_put(20)); ++id) {
      journal->put(Node{.generation = id, .value = "small value"}.record(id));
      commit(*journal);
    }
    // Every other node, so that every leaf is touched; then all the rest. What a
    // commit gives back can be taken again by the second one after it.
    for (const std::uint64_t first : {1U, 2U}) {
      ASSERT_TRUE(journal->reserve(Journal::space_for_removals(id / 2), Purpose::kRemoval));
      for (std::uint64_t at = first; at < id; at += 2) journal->erase_node(NodeId{at});
      commit(*journal);
      ASSERT_TRUE(journal->reserve(Journal::space_for_put(0), Purpose::kRemoval));
      journal->put(Node{.generation = first}.record(id + first));
      commit(*journal);
    }
    journal->erase_node(NodeId{id + 1});
    journal->erase_node(NodeId{id + 2});
    commit(*journal);
    expect_same_on_disk(*journal, State{});
  });
}

/// Fills the state until nothing new may come, and the tmpfs with something else.
void fill_up(Journal& journal, const TestArea& area, State& model) {
  for (std::uint64_t id = 1; journal.reserve(Journal::space_for_put(20)); ++id) {
    model.nodes[id] = {.generation = id, .value = "small value"};
    journal.put(model.nodes[id].record(id));
    commit(journal);
  }
  write_file(area.area() / "filler", std::string(std::size_t{8} << 20, 'f'));
  ASSERT_FALSE(journal.reserve(Journal::space_for_put(20)));
}

/// Guests on rings: their output grows, a message at a time, and is read.
class Rings {
 public:
  Rings(Journal& journal, State& model) : journal_(journal), model_(model), random_(11) {
    for (std::uint64_t id = 1; id <= kGuests; ++id) {
      model_.connections[ConnId{id}] = {.conn = ConnId{id}};
    }
  }

  /// One turn, in which each guest but a few asks something.
  void ask(std::size_t message_max) {
    for (std::uint64_t id = 1; id <= kGuests; ++id) {
      if (random_() % 8 != 0) ask_one(id, 16 + random_() % (message_max - 15));
    }
    commit(journal_);
  }

  /// A guest has read so many of its output records, and all that is inline.
  void read(std::uint64_t id, std::size_t records) {
    ConnectionRecord& conn = model_.connections[ConnId{id}];
    ASSERT_TRUE(journal_.reserve(Journal::space_for_put(0) + Journal::space_for_removals(records),
                                 Purpose::kRemoval));
    for (; records > 0; --records) {
      const auto first = model_.outputs.lower_bound({ConnId{id}, 0});
      if (first == model_.outputs.end() || first->first.first != ConnId{id}) break;
      journal_.erase_output(ConnId{id}, first->first.second);
      conn.out_off += static_cast<std::uint32_t>(first->second.bytes.size());
      model_.outputs.erase(first);
    }
    conn.out.clear();
    journal_.put(conn);
    commit(journal_);
  }

  static constexpr std::uint64_t kGuests = 16;
  int refused = 0;  ///< requests for which there was no room

 private:
  void ask_one(std::uint64_t id, std::size_t message) {
    ConnectionRecord& conn = model_.connections[ConnId{id}];
    const bool overflows = conn.out.size() + message > kInlineOutMax;
    const Space space = Journal::space_for_put(kInlineOutMax) +
                        (overflows ? Journal::space_for_put(kOutputMax) : Space{});
    if (!journal_.reserve(space, Purpose::kReply)) {
      commit(journal_);
      if (!journal_.reserve(space, Purpose::kReply)) {
        ++refused;
        return;
      }
    }
    if (overflows) {
      const OutputRecord output{ConnId{id}, ++seq_, std::exchange(conn.out, {})};
      journal_.put(output);
      model_.outputs[{output.conn, output.seq}] = output;
    }
    conn.out.append(message, static_cast<char>('a' + random_() % 26));
    conn.in_off += 40;
    journal_.put(conn);
  }

  Journal& journal_;
  State& model_;
  std::mt19937_64 random_;
  std::uint64_t seq_ = 0;
};

// Readers that are slow by less than the headroom are never refused, however
// long it goes on.
TEST(FullTmpfs, RingsWithinTheHeadroomGoOnForEver) {
  with_tmpfs("6m", [](const std::string& where) {
    const TestArea area(where);
    const auto journal = open_loaded(area.options());
    State model;
    fill_up(*journal, area, model);
    Rings rings(*journal, model);
    for (int turn = 0; turn < 3000 && !::testing::Test::HasFailure(); ++turn) {
      rings.ask(turn % 500 < 50 ? kFrameMax : 200);
      // Tides: up to 600 KB altogether, then nearly nothing.
      const std::size_t keep = turn % 500 < 250 ? 150 : 10;
      for (std::uint64_t id = 1; model.outputs.size() > keep; id = id % Rings::kGuests + 1) {
        rings.read(id, 2);
      }
    }
    EXPECT_EQ(rings.refused, 0);
    expect_same_on_disk(*journal, model);
  });
}

TEST(FullTmpfs, RingsBeyondTheHeadroomWaitUntilTheirOutputIsRead) {
  with_tmpfs("6m", [](const std::string& where) {
    const TestArea area(where);
    const auto journal = open_loaded(area.options());
    State model;
    fill_up(*journal, area, model);
    Rings rings(*journal, model);
    for (unsigned round = 0; round < 40 && !::testing::Test::HasFailure(); ++round) {
      for (rings.refused = 0; rings.refused < 100;) rings.ask(kFrameMax);
      std::size_t bytes = 0;
      for (const auto& [key, output] : model.outputs) bytes += output.bytes.size();
      EXPECT_GE(bytes, kReplyHeadroomBytes / 2);
      ASSERT_TRUE(journal->reserve(Journal::space_for_removals(1), Purpose::kRemoval));
      journal->erase_node(NodeId{round + 1});
      model.nodes.erase(round + 1);
      commit(*journal);
      while (!model.outputs.empty()) {
        rings.read(raw(model.outputs.begin()->first.first), 1 + round % 9);
      }
      for (std::uint64_t id = 1; id <= Rings::kGuests; ++id) rings.read(id, 0);
      rings.refused = 0;
      rings.ask(200);
      EXPECT_EQ(rings.refused, 0);
    }
    expect_same_on_disk(*journal, model);
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
