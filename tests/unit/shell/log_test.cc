// SPDX-License-Identifier: MIT
#include "xenstored/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/unit/shell/temp_dir.h"

namespace xenstored {
namespace {

using namespace std::string_view_literals;
using testing::HasSubstr;
using testing::Not;

TEST(LogEscaped, LeavesOnlyPrintableText) {
  EXPECT_EQ(log::escaped("plain /text {}%s"), "plain /text {}%s");
  EXPECT_EQ(log::escaped("a\nb\\c\0\x7f\xc3"sv), "a\\nb\\\\c\\x00\\x7f\\xc3");
}

// The log is one for the process, so its life is told in one test.
TEST(Log, GoesToStderrAsWellUntilReadyAndFollowsRotation) {
  const TempDir dir;
  const std::string file = dir.path("log");

  testing::internal::CaptureStderr();
  log::open(file);
  log::error("why {it} fails");
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("error: why {it} fails\n"));
  EXPECT_THAT(contents(file), HasSubstr("error: why {it} fails\n"));

  testing::internal::CaptureStderr();
  log::ready();
  log::warn("serving");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_THAT(contents(file), HasSubstr("warning: serving\n"));

  std::filesystem::rename(file, file + ".1");
  log::reopen();
  log::info("after rotation");
  EXPECT_THAT(contents(file), HasSubstr("info: after rotation\n"));
  EXPECT_THAT(contents(file + ".1"), Not(HasSubstr("after rotation")));

  testing::internal::CaptureStderr();
  log::open("/proc/nowhere/log");
  log::error("not lost");
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("error: not lost\n"));
  log::open("stderr");
}

}  // namespace
}  // namespace xenstored
