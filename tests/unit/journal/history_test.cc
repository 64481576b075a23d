// SPDX-License-Identifier: MIT
// Entries and what they are made of: bytes, net effects, texts; and git's trees,
// deltas and streams, with damaged ones.
#include "journal/history.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "journal/git_deflate.h"
#include "journal/git_delta.h"
#include "journal/git_object.h"
#include "journal/git_tree.h"
#include "journal/history_text.h"
#include "tests/unit/journal/history_support.h"
#include "tests/unit/journal/support.h"

namespace journal::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

std::string bytes_of(const HistoryEntry& entry) {
  std::string bytes;
  append_entry(entry, bytes);
  return bytes;
}

TEST(HistoryEntry, BytesAreReadBackAndAreTheOnlyOnes) {
  RandomRequests requests(1);
  for (int i = 0; i < 300; ++i) {
    const HistoryEntry entry = requests.next();
    const auto read = decode_entry(bytes_of(entry));
    ASSERT_TRUE(read.has_value()) << read.error().what;
    EXPECT_EQ(read.value(), entry);
  }
}

TEST(HistoryEntry, EveryTruncationAndEveryFlippedBitIsReadSafely) {
  RandomRequests requests(2);
  for (int i = 0; i < 40 / kSanitizerFactor; ++i) {
    std::string bytes = bytes_of(requests.next());
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      const auto read = decode_entry(std::string_view(bytes).substr(0, size));
      if (read.has_value()) {
        EXPECT_EQ(bytes_of(read.value()), bytes.substr(0, size));
      }
    }
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
      const char flip = static_cast<char>(1 << bit % 8);
      bytes[bit / 8] ^= flip;
      const auto read = decode_entry(bytes);
      if (read.has_value()) {
        EXPECT_EQ(bytes_of(read.value()), bytes);
      }
      bytes[bit / 8] ^= flip;
    }
  }
}

TEST(HistoryEntry, PathsThatAreNoneAreRefused) {
  for (const char* path : {"", "a", "/a/", "//a", "/.value", "/a/../b", "/a b", "/\n"}) {
    HistoryEntry entry{.number = 1, .changes = {{.path = path, .is_removal = true}}};
    EXPECT_FALSE(decode_entry(bytes_of(entry)).has_value()) << path;
  }
}

HistoryChange set(const std::string& path, const std::string& value) {
  return {.path = path, .value = value, .perms = {{store::kDom0, store::Access::kNone}}};
}

TEST(NetEffect, KeepsTheLastStateOfEachPath) {
  NetEffect effect;
  for (const HistoryChange& change :
       {set("/a", "1"), set("/a/b", "2"), set("/a-b", "3"), set("/a/b", "4")}) {
    effect.add(change);
  }
  std::vector<std::pair<std::string, std::string>> found;
  for (const auto& [key, state] : effect.states()) found.emplace_back(key, state.value);
  EXPECT_THAT(found, ElementsAre(Pair("/a-b/", "3"), Pair("/a/", "1"), Pair("/a/b/", "4")));
}

TEST(NetEffect, ARemovalDropsWhatIsBelowAndIsNotForgotten) {
  NetEffect effect;
  for (const HistoryChange& change :
       {set("/a", "1"), set("/a/b", "2"), HistoryChange{.path = "/a", .is_removal = true},
        set("/a", "5")}) {
    effect.add(change);
  }
  ASSERT_EQ(effect.states().size(), 1U);
  const NetEffect::State& state = effect.states().at("/a/");
  EXPECT_TRUE(state.is_cleared);
  EXPECT_TRUE(state.is_set);
  EXPECT_EQ(state.value, "5");
}

TEST(NetEffect, CountsItsMemoryBackToNothing) {
  NetEffect effect;
  effect.add(set("/a", "1"));
  effect.add(set("/a/b", std::string(1000, 'x')));
  EXPECT_GT(effect.bytes(), 1000U);
  effect.add({.path = "/a", .is_removal = true});
  EXPECT_LT(effect.bytes(), 500U);
  effect.clear();
  EXPECT_EQ(effect.bytes(), 0U);
}

TEST(HistoryText, NamesAreCleaned) {
  EXPECT_EQ(cleaned(" x<l>\n\x7f\xc3\xa4 "), "xl");
  EXPECT_EQ(author_line({.kind = HistoryAuthor::kSocket, .pid = 5, .uid = 6, .command = "<>"}),
            "unknown <pid-5.uid-6@xenstore>");
  EXPECT_EQ(author_line({}), "xenstored <xenstored@xenstore>");
}

TEST(HistoryText, OfManyPathsTheFirstAreNamed) {
  HistoryEntry entry{.author = {.kind = HistoryAuthor::kDomain}, .what = "TRANSACTION_END"};
  for (const char* path : {"/a", "/a/b", "/c", "/d", "/e", "/f", "/g"}) {
    entry.changes.push_back(set(path, ""));
  }
  EXPECT_EQ(request_line(entry), "TRANSACTION_END /a/b /c /d /e and 2 more");
}

TEST(HistoryText, AnEntrysNumberIsThatOfTheLastTrailer) {
  std::string message = "WRITE /a\n\nXenstore-Entry: 5\n\n";
  EXPECT_EQ(entry_of_message(message), 5U);
  append_trailers({.first = 7, .last = 9, .time_us = 1}, message);
  EXPECT_EQ(entry_of_message(message), 9U);
  EXPECT_EQ(entry_of_message("Xenstore-Entry: 5"), std::nullopt);
  EXPECT_EQ(entry_of_message("\nXenstore-Entry: 5x\n"), std::nullopt);
}

TEST(HistoryText, PermissionsAreReadBack) {
  const store::Perms perms = {{Domid{3}, store::Access::kNone},
                              {Domid{65535}, store::Access::kBoth, true}};
  EXPECT_EQ(perms_text(perms), "n3\nb65535 stale\n");
  EXPECT_EQ(perms_of_text("n3\nb65535 stale\n"), perms);
  for (const char* text :
       {"", "\n", "n\n", "n3", "x3\n", "n3 \n", "n65536\n", "n3\n\n", " stale\n"}) {
    EXPECT_EQ(perms_of_text(text), std::nullopt) << text;
  }
}

TEST(GitObject, IdsAreGits) {
  EXPECT_EQ(git::id_of(git::Kind::kBlob, "").hex(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
  EXPECT_EQ(git::id_of(git::Kind::kTree, "").hex(), "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
  const auto id = git::id_of(git::Kind::kBlob, "x");
  EXPECT_EQ(git::ObjectId::of_hex(id.hex()), id);
  EXPECT_EQ(git::ObjectId::of_hex(id.hex() + "0"), std::nullopt);
  EXPECT_EQ(git::ObjectId::of_hex(std::string(40, 'G')), std::nullopt);
}

TEST(GitDeflate, ContentIsReadBackAtAnySize) {
  std::mt19937_64 random(3);
  git::Deflater deflater;
  git::Inflater inflater;
  for (const std::size_t size : {0U, 1U, 48U, 49U, 300U, 4096U, 65536U, 1000000U}) {
    std::string content(size, '\0');
    for (char& c : content) c = static_cast<char>(random() % 40 + 40);
    std::string stream;
    deflater.append(content, stream);
    std::string read;
    ASSERT_TRUE(inflater.inflate(stream, size, read));
    EXPECT_EQ(read, content);
    EXPECT_FALSE(inflater.inflate(stream, size + 1, read));
    EXPECT_FALSE(
        inflater.inflate(std::string_view(stream).substr(0, stream.size() - 5), size, read));
    if (size > 0) {
      EXPECT_FALSE(inflater.inflate(stream, size - 1, read));
    }
  }
  std::string read;
  EXPECT_FALSE(inflater.inflate("x", std::size_t{1} << 40, read));
}

std::string random_tree(std::mt19937_64& random, unsigned entries) {
  std::map<std::string, git::ObjectId> names;
  for (unsigned i = 0; i < entries; ++i) {
    names["d" + std::to_string(random() % (2 * entries))] =
        git::id_of(git::Kind::kBlob, std::to_string(random()));
  }
  std::vector<git::TreeEdit> edits;
  for (const auto& [name, id] : names) edits.push_back({.name = name, .is_tree = true, .id = id});
  std::sort(edits.begin(), edits.end(), [](const auto& a, const auto& b) {
    return git::compare_names(a.name, true, b.name, true) < 0;
  });
  return git::edited_tree("", edits);
}

TEST(GitDelta, MakesAnyTreeOfAnyOther) {
  std::mt19937_64 random(4);
  for (int i = 0; i < 300; ++i) {
    const std::string from = random_tree(random, static_cast<unsigned>(random() % 100));
    const std::string to = random_tree(random, static_cast<unsigned>(random() % 100));
    ASSERT_TRUE(git::is_tree(from));
    std::string delta;
    git::append_tree_delta(from, to, delta);
    std::string made;
    ASSERT_TRUE(git::apply_delta(from, delta, SIZE_MAX, made));
    EXPECT_EQ(made, to);
  }
}

TEST(GitDelta, OfOneChangedEntryInAThousandTakesTensOfBytes) {
  std::mt19937_64 random(5);
  const std::string from = random_tree(random, 3000);
  std::string to = from;
  to[to.size() / 2 / 27 * 27 + 20] ^= 1;
  std::string delta;
  git::append_tree_delta(from, to, delta);
  EXPECT_LT(delta.size(), 45U);
}

TEST(GitDelta, DamagedOnesAreAppliedSafely) {
  std::mt19937_64 random(6);
  const std::string from = random_tree(random, 50);
  std::string delta;
  git::append_tree_delta(from, random_tree(random, 50), delta);
  std::string made;
  for (std::size_t bit = 0; bit < delta.size() * 8; ++bit) {
    std::string flipped = delta;
    flipped[bit / 8] ^= static_cast<char>(1 << bit % 8);
    (void)git::apply_delta(from, flipped, 1 << 20, made);
    EXPECT_LE(made.size(), 1U << 20);
  }
  for (std::size_t size = 0; size < delta.size(); ++size) {
    EXPECT_FALSE(git::apply_delta(from, std::string_view(delta).substr(0, size), 1 << 20, made));
  }
}

TEST(GitTree, EntriesOutOfOrderOrCutOffAreNone) {
  const git::ObjectId id = git::id_of(git::Kind::kBlob, "");
  std::string tree;
  git::append_tree_entry("a", true, id, tree);
  EXPECT_TRUE(git::is_tree(tree));
  EXPECT_FALSE(git::is_tree(std::string_view(tree).substr(0, tree.size() - 1)));
  EXPECT_FALSE(git::is_tree(tree + tree));
  git::append_tree_entry("a-b", true, id, tree);
  EXPECT_FALSE(git::is_tree(tree)) << "a directory sorts as if it ended in '/'";
  EXPECT_FALSE(git::is_tree("100755 x"));
}

}  // namespace
}  // namespace journal::testing
