// SPDX-License-Identifier: MIT
#include "rings/xen_presence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/shell/temp_dir.h"

namespace rings {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

TEST(XenPresence, NamesWhatIsMissing) {
  const xenstored::TempDir dir;
  const XenPaths paths{dir.path("xsd_port"), dir.path("xsd_kva")};
  EXPECT_THAT(missing_for_rings(paths), Contains(HasSubstr(paths.xsd_port)));
  EXPECT_THAT(missing_for_rings(paths), Contains(HasSubstr(paths.xsd_kva)));
  xenstored::put(paths.xsd_port, "3");
  EXPECT_THAT(missing_for_rings(paths), Not(Contains(HasSubstr(paths.xsd_port))));
}

}  // namespace
}  // namespace rings
