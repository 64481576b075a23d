// SPDX-License-Identifier: MIT
/// What a daemon makes of an area that another process has left.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "journal/journal.h"
#include "temp_dir.h"
#include "xenstored/daemon.h"
#include "xenstored/held_clients.h"
#include "xenstored/history.h"
#include "xenstored/poison.h"
#include "xenstored/trace.h"

namespace xenstored {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr store::ConnId kClient{5};

class RecoverTest : public ::testing::Test {
 protected:
  RecoverTest() : holder_(std::move(ClientHolder::make().value())) {
    options_.area = dir_.path() + "/area";
  }
  HeldClients inherited() {
    holder_.listen();
    return HeldClients::open(::dup(holder_.server_channel_fd()), ::dup(holder_.table_fd())).value();
  }
  /// A process of its own, as far as the area is concerned.
  struct Process {
    Process(const Options& options, HeldClients* clients)
        : journal(open(options)),
          poison(options.area),
          history(options, *journal, poison, {}),
          daemon(options, *journal, history, poison, trace, nullptr, clients) {}
    static std::unique_ptr<journal::Journal> open(const Options& options) {
      journal::Options area;
      area.area = options.area;
      std::vector<std::string> notes;
      return std::move(journal::Journal::open(area, notes).value());
    }

    std::unique_ptr<journal::Journal> journal;
    PoisonGuard poison;
    History history;
    Trace trace;
    Daemon daemon;
  };

  TempDir dir_;
  Options options_;
  ClientHolder holder_;
};

TEST_F(RecoverTest, AStateThatIsRefusedHasTakenNobodyUp) {
  {
    Process first(options_, nullptr);
    ASSERT_TRUE(first.daemon.recover().has_value());
    for (const std::uint64_t seq : {1U, 2U}) {
      first.journal->put(
          journal::WatchRecord{.conn = kClient, .seq = seq, .path = "/a", .token = "t"});
    }
    ASSERT_TRUE(first.journal->commit().has_value());
    const UniqueFd null(::open("/dev/null", O_RDWR));
    ASSERT_TRUE(inherited().hold(kClient, null.get()));
  }
  HeldClients clients = inherited();
  Process second(options_, &clients);
  const auto recovered = second.daemon.recover();
  ASSERT_FALSE(recovered.has_value());
  EXPECT_THAT(recovered.error(), HasSubstr("doubled watch"));

  auto left = clients.take();
  EXPECT_THAT(left, SizeIs(1)) << "who begins an empty state could not close it";
  for (HeldClients::Client& client : left) (void)client.fd.release();  // the holder's number
}

}  // namespace
}  // namespace xenstored
