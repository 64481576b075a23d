// SPDX-License-Identifier: MIT
/// Advisories about domains that come, die and come back under the same number.
#include "tests/security/world.h"

namespace security {
namespace {

using testing::IsEmpty;

/// How domain 7 came to be another one, as the daemon saw it.
enum class Change { kSeen, kKilledAfter, kWhileAway, kAwayTwice, kNotTold };
constexpr Change kAllChanges[] = {Change::kSeen, Change::kKilledAfter, Change::kWhileAway,
                                  Change::kAwayTwice, Change::kNotTold};

class ReuseTest : public World {
 protected:
  /// Domain 7 dies, and another 7 is made and introduced.
  void change(Change how) {
    if (how == Change::kSeen || how == Change::kKilledAfter) {
      end(7);
      if (how == Change::kKilledAfter) restart();
    } else if (how == Change::kNotTold) {
      // Both in the same turn as the introduction: the daemon is told too late.
      pause_daemon();
      replace_guest(7);
      machine().destroy({7});
      create(7);
      toolstack().send(frame(Op::kIntroduce, introduction(7)));
      resume_daemon();
      EXPECT_EQ(toolstack().receive().payload, "OK\0"s);
      give_home(7);
      return;
    } else {
      kill_daemon();
      replace_guest(7);
      machine().destroy({7});
      if (how == Change::kAwayTwice) {
        start_daemon();
        kill_daemon();
      }
      create(7);
      start_daemon();
      EXPECT_TRUE(eventually([this] { return !is_introduced(7); }));
      EXPECT_EQ(introduce(7), "OK\0"s);
      give_home(7);
      return;
    }
    add(7);
  }
};

class Xsa322 : public ReuseTest {};

TEST_F(Xsa322, ADomainHasNoRightsOfTheOneBeforeIt) {
  add(5);
  ask(Op::kWatch, "@releaseDomain\0token\0"s);
  for (const Change how : kAllChanges) {
    SCOPED_TRACE(static_cast<int>(how));
    if (!is_introduced(7)) add(7);
    ask(Op::kWrite, "/shown\0value"s);
    EXPECT_EQ(ask(Op::kSetPerms, "/shown\0n0\0b7\0"s), "OK\0"s);
    EXPECT_EQ(ask(Op::kSetPerms, "@releaseDomain\0n0\0r7\0"s), "OK\0"s);
    EXPECT_EQ(ask(7, Op::kRead, "/shown\0"s), "value");
    EXPECT_EQ(ask(7, Op::kWrite, "own\0value"s), "OK\0"s);
    change(how);
    EXPECT_EQ(ask(7, Op::kRead, "/shown\0"s), "EACCES");
    EXPECT_EQ(ask(7, Op::kWrite, "/shown\0mine"s), "EACCES");
    EXPECT_EQ(ask(7, Op::kRead, "own\0"s), "ENOENT");
    EXPECT_EQ(ask(7, Op::kWatch, "@releaseDomain\0token\0"s), "OK\0"s);
    end(5);
    add(5);
    EXPECT_EQ(ask(7, Op::kGetDomainPath, "7\0"s), "/local/domain/7\0"s);
    EXPECT_LE(guest(7).take_events().size(), 1U) << "more than the watch's own event";
    restart();
    EXPECT_EQ(ask(7, Op::kRead, "/shown\0"s), "EACCES");
  }
}

class Xsa417 : public World {};

TEST_F(Xsa417, RightsGivenToNobodyAreNobodysLater) {
  add(5);
  ask(Op::kWrite, "/a\0value"s);
  EXPECT_EQ(ask(Op::kSetPerms, "/a\0n0\0b9\0"s), "OK\0"s);
  EXPECT_EQ(ask(Op::kWrite, "/a/child\0value"s), "OK\0"s);
  EXPECT_EQ(ask(Op::kSetPerms, "/a\0n9\0"s), "ENOENT");
  EXPECT_EQ(ask(5, Op::kWrite, "mine\0value"s), "OK\0"s);
  EXPECT_EQ(ask(5, Op::kSetPerms, "mine\0n5\0b9\0"s), "OK\0"s);
  add(9);
  for (const std::string& path : {"/a\0"s, "/a/child\0"s, "/local/domain/5/mine\0"s}) {
    EXPECT_EQ(ask(9, Op::kRead, path), "EACCES");
    EXPECT_EQ(ask(9, Op::kWrite, path + "other"), "EACCES");
  }
  restart();
  EXPECT_EQ(ask(9, Op::kRead, "/a\0"s), "EACCES");
  EXPECT_EQ(ask(Op::kSetPerms, "/a\0n0\0b9\0"s), "OK\0"s);
  EXPECT_EQ(ask(9, Op::kRead, "/a\0"s), "value");
}

class Xsa483 : public ReuseTest {};

TEST_F(Xsa483, ADomainBeginsWithAQuotaOfItsOwn) {
  add(7);
  for (const Change how : kAllChanges) {
    SCOPED_TRACE(static_cast<int>(how));
    for (int i = 0; i < 999; ++i) {
      const std::string name =
          "d" + std::to_string(i % 20) + (i < 20 ? "" : "/" + std::to_string(i));
      ASSERT_EQ(ask(7, Op::kWrite, name + '\0'), "OK\0"s) << i;
    }
    EXPECT_EQ(ask(7, Op::kWrite, "more\0"s), "ENOSPC");
    for (int i = 0; i < 5; ++i) ask(7, Op::kWatch, "n" + std::to_string(i) + "\0t\0"s);
    for (int i = 0; i < 5; ++i) ask(7, Op::kTransactionStart, "\0"s);
    change(how);
    EXPECT_EQ(usage(7, "nodes"), 1U);
    EXPECT_EQ(usage(7, "watches"), 0U);
    EXPECT_EQ(usage(7, "transactions"), 0U);
    EXPECT_EQ(ask(7, Op::kWrite, "a\0"s), "OK\0"s);
    restart();
    EXPECT_EQ(usage(7, "nodes"), 2U);
    EXPECT_EQ(ask(7, Op::kRm, "a\0"s), "OK\0"s);
  }
}

class Xsa419 : public World {};

TEST_F(Xsa419, NodesOfTheDeadAreGoneAHundredTimes) {
  ask(Op::kWrite, "/shared\0"s);
  ask(Op::kSetPerms, "/shared\0b0\0"s);
  ask(Op::kMkdir, "/local/domain\0"s);
  const std::uint64_t before = report("nodes");
  for (int round = 0; round < 100; ++round) {
    add(3);
    add(7);
    for (int i = 0; i < 5; ++i) {
      const std::string name = std::to_string(i) + '\0';
      EXPECT_EQ(ask(3, Op::kWrite, "own/" + name), "OK\0"s);
      EXPECT_EQ(ask(3, Op::kWrite, "/shared/three-" + name), "OK\0"s);
      EXPECT_EQ(ask(7, Op::kWrite, "/shared/seven-" + name), "OK\0"s);
    }
    EXPECT_EQ(report("nodes"), before + 2 + 1 + 15);
    if (round % 2 == 0) {
      end(3);
      end(7);
    } else {
      replace_guest(3);
      replace_guest(7);
      machine().destroy({3, 7});
      EXPECT_TRUE(eventually([this] { return !is_introduced(3) && !is_introduced(7); }));
    }
    EXPECT_EQ(report("nodes"), before);
  }
}

class Xsa233 : public World {};

TEST_F(Xsa233, StubAndTargetDieInAnyOrder) {
  const std::vector<std::vector<std::string>> all_settings{
      {"7\0003\0"s}, {"7\0003\0"s, "7\0003\0"s}, {"3\0003\0"s}, {"7\0003\0"s, "3\0007\0"s}};
  const std::vector<std::vector<std::uint16_t>> orders{{3, 7}, {7, 3}};
  for (const auto& settings : all_settings) {
    for (const auto& order : orders) {
      for (const bool at_once : {false, true}) {
        add(3);
        add(7);
        for (const std::string& setting : settings) {
          EXPECT_EQ(ask(Op::kSetTarget, setting), "OK\0"s);
        }
        EXPECT_EQ(ask(3, Op::kWrite, "a\0"s), "OK\0"s);
        if (at_once) {
          for (const std::uint16_t domid : order) replace_guest(domid);
          machine().destroy(order);
          EXPECT_TRUE(eventually([this] { return !is_introduced(3) && !is_introduced(7); }));
        } else {
          end(order[0]);
          EXPECT_EQ(ask(order[1], Op::kWrite, "b\0"s), "OK\0"s);
          end(order[1]);
        }
      }
    }
  }
}

class Xsa115 : public World {};

TEST_F(Xsa115, DeathsAndIntroductionsAreNotForGuestsToKnow) {
  add(3);
  for (const std::string& name : {"@releaseDomain"s, "@introduceDomain"s, "@releaseDomain/7"s}) {
    ask(3, Op::kWatch, name + "\0token\0"s);
    EXPECT_EQ(ask(Op::kWatch, name + "\0token\0"s), "OK\0"s);
  }
  EXPECT_EQ(ask(3, Op::kGetDomainPath, "3\0"s), "/local/domain/3\0"s);
  guest(3).take_events();
  ask(Op::kRead, "/\0"s);
  toolstack().take_events();
  add(7);
  machine().shut_down(7);
  EXPECT_TRUE(eventually([this] {
    ask(Op::kRead, "/\0"s);
    return !toolstack().take_events().empty();
  }));
  end(7);
  EXPECT_EQ(ask(3, Op::kIsDomainIntroduced, "7\0"s), "EACCES");
  EXPECT_EQ(ask(3, Op::kGetDomainPath, "3\0"s), "/local/domain/3\0"s);
  EXPECT_THAT(guest(3).take_events(), IsEmpty());
}

}  // namespace
}  // namespace security
