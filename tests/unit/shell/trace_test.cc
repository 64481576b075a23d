// SPDX-License-Identifier: MIT
#include "xenstored/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "tests/unit/shell/temp_dir.h"
#include "xenstored/wire.h"

namespace xenstored {
namespace {

using namespace std::string_view_literals;
using store::ConnId;
using store::TxId;
using testing::MatchesRegex;

constexpr auto kWrite = static_cast<std::uint32_t>(Op::kWrite);

class TraceTest : public testing::Test {
 protected:
  std::string traced() {
    trace_.flush();
    return contents(file_);
  }

  TempDir dir_;
  const std::string file_ = dir_.path("trace");
  Trace trace_;
};

TEST_F(TraceTest, LinesHaveTheFormOf417) {
  ASSERT_TRUE(trace_.open(file_).has_value());
  trace_.create("connection", 0x1f);
  trace_.in(ConnId{0x1f}, kWrite, TxId{0}, "data/x\0hello"sv);
  trace_.out(ConnId{0x1f}, kWrite, TxId{0}, "OK\0"sv);
  trace_.destroy("watch", 2);
  EXPECT_THAT(traced(),
              MatchesRegex("CREATE connection 0x1f\n"
                           "IN 0x1f [0-9]{8} [0-9]{2}:[0-9]{2}:[0-9]{2} WRITE \\(data/x hello\\)\n"
                           "OUT 0x1f [0-9]{8} [0-9]{2}:[0-9]{2}:[0-9]{2} WRITE \\(OK \\)\n"
                           "DESTROY watch 0x2\n"));
}

TEST_F(TraceTest, ATransactionFollowsThePayload) {
  ASSERT_TRUE(trace_.open(file_).has_value());
  trace_.in(ConnId{1}, kWrite, TxId{7}, "a\0b"sv);
  EXPECT_THAT(traced(), testing::EndsWith(" WRITE (a b) tx 7\n"));
}

TEST_F(TraceTest, AnEventThatWasNotSentIsNoneThatWas) {
  ASSERT_TRUE(trace_.open(file_).has_value());
  trace_.merged(ConnId{1}, static_cast<std::uint32_t>(Op::kWatchEvent), "a\0token\0"sv);
  EXPECT_THAT(traced(), testing::StartsWith("MERGED 0x1 "));
  EXPECT_THAT(traced(), testing::EndsWith(" WATCH_EVENT (a token )\n"));
}

TEST_F(TraceTest, AGuestCannotForgeALine) {
  ASSERT_TRUE(trace_.open(file_).has_value());
  trace_.in(ConnId{1}, kWrite, TxId{0}, "a)\nIN 0x2 \x1b[2J\xff\\"sv);
  EXPECT_THAT(traced(), testing::EndsWith(" WRITE (a)\\nIN 0x2 \\x1b[2J\\xff\\\\)\n"));
}

TEST_F(TraceTest, NothingIsWrittenBeforeTheTurnEndsOrWhileOff) {
  trace_.create("connection", 1);
  trace_.in(ConnId{1}, kWrite, TxId{0}, "x");
  trace_.flush();
  EXPECT_FALSE(std::filesystem::exists(file_));
  ASSERT_TRUE(trace_.open(file_).has_value());
  trace_.create("connection", 2);
  EXPECT_EQ(contents(file_), "");
  trace_.turn_off();
  trace_.create("connection", 3);
  EXPECT_EQ(traced(), "CREATE connection 0x2\n");
  ASSERT_TRUE(trace_.turn_on().has_value());
  trace_.print("by hand");
  EXPECT_EQ(traced(), "CREATE connection 0x2\nby hand\n");
}

TEST_F(TraceTest, ReopenFollowsRotation) {
  ASSERT_TRUE(trace_.open(file_).has_value());
  trace_.create("connection", 1);
  std::filesystem::rename(file_, file_ + ".1");
  ASSERT_TRUE(trace_.reopen().has_value());
  trace_.create("connection", 2);
  EXPECT_EQ(traced(), "CREATE connection 0x2\n");
  EXPECT_EQ(contents(file_ + ".1"), "CREATE connection 0x1\n");
}

TEST_F(TraceTest, AFileThatCannotBeOpenedLeavesTheTraceOff) {
  const auto opened = trace_.open(dir_.path("no/such/dir"));
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error(), ENOENT);
  EXPECT_FALSE(trace_.is_on());
}

TEST_F(TraceTest, LogOnWithoutAFileDoesNothing) {
  ASSERT_TRUE(trace_.turn_on().has_value());
  EXPECT_FALSE(trace_.is_on());
}

TEST_F(TraceTest, StandardOutput) {
  testing::internal::CaptureStdout();
  trace_.open_stdout();
  trace_.create("transaction", 9);
  trace_.flush();
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "CREATE transaction 0x9\n");
}

}  // namespace
}  // namespace xenstored
