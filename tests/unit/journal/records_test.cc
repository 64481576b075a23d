// SPDX-License-Identifier: MIT
#include "journal/records.h"

#include <gtest/gtest.h>

#include <limits>

#include "journal/bytes.h"
#include "tests/unit/journal/support.h"

namespace journal::testing {
namespace {

using store::Access;

template <class Record>
std::string key_of(const Record& record) {
  std::string key;
  append_key(record, key);
  return key;
}

template <class Record>
std::string value_of(const Record& record) {
  std::string value;
  EXPECT_TRUE(append_value(record, value));
  return value;
}

/// Encodes, shows to a State, and returns that.
template <class Record>
State through(const Record& record) {
  State state;
  store::Perms scratch;
  const auto shown = show_record(key_of(record), value_of(record), state, scratch);
  EXPECT_TRUE(shown.has_value());
  return state;
}

TEST(Records, NodeComesBackAsItWas) {
  for (const std::uint64_t id : {std::uint64_t{1}, std::uint64_t{255}, std::uint64_t{256},
                                 std::uint64_t{1} << 40, UINT64_MAX}) {
    const Node node{.parent = id - 1,
                    .generation = id,
                    .perms = {{Domid{0}, Access::kBoth}, {Domid{0xFFFF}, Access::kNone, true}},
                    .name = std::string(kNameMax, 'n'),
                    .value = std::string("\0\xff v", 4)};
    EXPECT_EQ(through(node.record(id)).nodes.at(id), node);
  }
}

TEST(Records, OthersComeBackAsTheyWere) {
  const DomainRecord domain{.domid = Domid{0x7FEF},
                            .conn = ConnId{UINT64_MAX},
                            .gfn = UINT64_MAX,
                            .remote_port = UINT32_MAX,
                            .target = std::nullopt,
                            .features = UINT32_MAX,
                            .shutdown = true,
                            .handle = {0xFF, 0, 0xFF},
                            .quotas = {{"a", 0}, {std::string(kLabelMax, 'b'), UINT32_MAX}}};
  EXPECT_EQ(through(domain).domains.at(domain.domid), domain);

  const WatchRecord watch{.conn = ConnId{0},
                          .seq = 0,
                          .path = "@x",
                          .token = std::string("\0", 1),
                          .relative = false,
                          .depth = std::numeric_limits<std::int32_t>::max()};
  EXPECT_EQ(through(watch).watches.at({ConnId{0}, 0}), watch);

  const ConnectionRecord connection{.conn = ConnId{9},
                                    .domid = Domid{0x7FEF},
                                    .next_tx = UINT32_MAX,
                                    .open_tx = std::vector<TxId>(kOpenTxMax, TxId{UINT32_MAX}),
                                    .in_off = UINT32_MAX,
                                    .partial = std::string(kFrameMax, 'p'),
                                    .out_off = 1,
                                    .out = std::string(kInlineOutMax, 'o'),
                                    .is_resetting = true,
                                    .error = UINT8_MAX};
  EXPECT_EQ(through(connection).connections.at(connection.conn), connection);

  const OutputRecord output{ConnId{1}, 2, std::string(kOutputMax, 'x')};
  EXPECT_EQ(through(output).outputs.at({ConnId{1}, 2}), output);
}

// The worked example of journal/FORMAT.md.
TEST(Records, BytesAreThoseOfTheDocument) {
  const Node node{.parent = 300,
                  .generation = 1234,
                  .perms = {{Domid{5}, Access::kNone}, {Domid{0}, Access::kRead}},
                  .name = "state",
                  .value = "4"};
  EXPECT_EQ(key_of(node.record(1000)), std::string("\x07\x02\x03\xe8", 4));
  EXPECT_EQ(value_of(node.record(1000)), std::string("\xac\x02\xd2\x09\x02\x28\x01\x05state4", 14));
}

TEST(Records, KeysSortAsTheirNumbers) {
  const std::vector<std::uint64_t> rising = {0,     1,     9,          255,       256,
                                             65535, 65536, 1ULL << 32, UINT64_MAX};
  for (std::size_t i = 1; i < rising.size(); ++i) {
    std::string low;
    std::string high;
    append_node_key(NodeId{rising[i - 1]}, low);
    append_node_key(NodeId{rising[i]}, high);
    EXPECT_LT(low, high);
    std::string other_table;
    append_output_key(ConnId{rising[i]}, UINT64_MAX, other_table);
    EXPECT_LT(other_table, low);
  }
}

TEST(Records, BeyondALimitIsRefused) {
  std::string out;
  Node node;
  node.name.assign(kNameMax + 1, 'n');
  EXPECT_FALSE(append_value(node.record(1), out));
  node.name.clear();
  node.perms.clear();
  EXPECT_FALSE(append_value(node.record(1), out));
  EXPECT_FALSE(append_value(OutputRecord{ConnId{1}, 1, std::string(kOutputMax + 1, 'f')}, out));
  ConnectionRecord connection{.partial = std::string(kFrameMax + 1, 'p')};
  EXPECT_FALSE(append_value(connection, out));
  connection.partial.clear();
  connection.out.assign(kInlineOutMax + 1, 'o');
  EXPECT_FALSE(append_value(connection, out));
  EXPECT_FALSE(append_value(SettingRecord{"", "v"}, out));
  EXPECT_FALSE(append_value(SettingRecord{"a piece\1", "v"}, out));
  EXPECT_FALSE(append_value(WatchRecord{.conn = ConnId{1}, .depth = -2}, out));
}

TEST(Records, EveryShortenedRecordIsRefusedOrAnother) {
  const Node node{.parent = 300, .generation = 1234, .name = "state", .value = ""};
  const std::string key = key_of(node.record(1000));
  const std::string value = value_of(node.record(1000));
  store::Perms perms;
  for (std::size_t size = 0; size < value.size(); ++size) {
    EXPECT_FALSE(decode_node(key, value.substr(0, size), perms).has_value()) << size;
  }
  for (std::size_t size = 0; size < key.size(); ++size) {
    EXPECT_FALSE(decode_node(key.substr(0, size), value, perms).has_value()) << size;
  }
}

TEST(Records, UnknownFlagsOfAConnectionAreRefused) {
  const ConnectionRecord record{.conn = ConnId{1}, .is_resetting = true};
  std::string value = value_of(record);
  ASSERT_EQ(value[8], 1);
  for (const char flags : {'\2', '\3', '\x81'}) {
    value[8] = flags;
    EXPECT_FALSE(decode_connection(key_of(record), value).has_value());
  }
}

TEST(Records, ALongerSpellingOfANumberIsRefused) {
  const std::string padded("\x81\x00", 2);
  ByteReader reader(padded);
  EXPECT_EQ(reader.varint(), 0U);
  EXPECT_FALSE(reader.ok());
  const std::string ordered("\x02\x00\x07", 3);
  ByteReader keys(ordered);
  keys.ordered();
  EXPECT_FALSE(keys.ok());
}

TEST(Records, NumbersTooLargeForTheirTypeAreRefused) {
  std::string value;
  append_varint(1ULL << 32, value);
  ByteReader reader(value);
  reader.varint(UINT32_MAX);
  EXPECT_FALSE(reader.ok());
  ByteReader endless(std::string_view("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11));
  endless.varint();
  EXPECT_FALSE(endless.ok());
}

TEST(Records, UnknownTablesAreRefused) {
  State state;
  store::Perms perms;
  for (const std::string_view key : {std::string_view(), std::string_view("\0", 1),
                                     std::string_view("\x08\x01\x01"), std::string_view("\xff")}) {
    EXPECT_FALSE(show_record(key, "value", state, perms).has_value());
  }
}

}  // namespace
}  // namespace journal::testing
