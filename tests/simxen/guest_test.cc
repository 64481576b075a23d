// SPDX-License-Identifier: MIT
/// A guest's side of the ring.
#include <gmock/gmock.h>

#include <thread>

#include "tests/simxen/test_machine.h"

namespace simxen {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class GuestSide : public MachineTest {
 protected:
  GuestSide()
      : events_(machine_), made_(machine_.create(5, uuid_of(5))), guest_(machine_, events_, 5) {
    local_ = daemon_.bind(5, made_.port);
    daemon_.take_and_unmask();
  }

  GuestEvents events_;
  NewDomain made_;
  Guest guest_;
  Channels daemon_;
  int local_;
};

TEST_F(GuestSide, WritesAroundTheEndOfTheRing) {
  rings::RingPage& page = guest_.page();
  page.req_cons = page.req_prod = 0xffffffff - 2;
  EXPECT_EQ(guest_.write("abcdef"), 6U);
  EXPECT_EQ(page.req_prod, 3U);
  EXPECT_EQ(std::string(page.req + 1021, 3) + std::string(page.req, 3), "abcdef");
}

TEST_F(GuestSide, WritesNoMoreThanThereIsSpaceFor) {
  EXPECT_EQ(guest_.write(std::string(1000, 'a')), 1000U);
  EXPECT_EQ(guest_.write(std::string(1000, 'b')), 24U);
  EXPECT_EQ(guest_.write("c"), 0U);
  guest_.page().req_cons = 10;
  EXPECT_EQ(guest_.write(std::string(1000, 'd')), 10U);
}

TEST_F(GuestSide, ReadsAroundTheEndOfTheRing) {
  rings::RingPage& page = guest_.page();
  page.rsp_cons = 1020;
  page.rsp_prod = 1028;
  std::copy_n("abcd", 4, page.rsp + 1020);
  std::copy_n("efgh", 4, page.rsp);
  std::string out = "-";
  EXPECT_EQ(guest_.read(out), 8U);
  EXPECT_EQ(out, "-abcdefgh");
  EXPECT_EQ(guest_.read(out), 0U);
}

TEST_F(GuestSide, SendsAnEventOnlyIfTheDaemonMayHaveStopped) {
  EXPECT_EQ(guest_.send("abc"), 3U);
  EXPECT_THAT(daemon_.take_and_unmask(), ElementsAre(local_));
  EXPECT_EQ(guest_.send("def"), 3U);
  EXPECT_THAT(daemon_.take(), IsEmpty());
  guest_.page().req_cons = 6;
  EXPECT_EQ(guest_.send("g"), 1U);
  EXPECT_THAT(daemon_.take(), ElementsAre(local_));
}

TEST_F(GuestSide, SendsAnEventForSpaceOnlyIfThereWasNone) {
  std::string out;
  guest_.page().rsp_prod = 1023;
  EXPECT_EQ(guest_.receive(out), 1023U);
  EXPECT_THAT(daemon_.take(), IsEmpty());
  guest_.page().rsp_prod += 1024;
  EXPECT_EQ(guest_.receive(out), 1024U);
  EXPECT_THAT(daemon_.take(), ElementsAre(local_));
}

/// A daemon that answers every request with an event before the reply, both with
/// the request's payload, as many as it is told to.
void echo(Guest& ring, Channels& daemon, int local, int requests) {
  rings::RingPage& page = ring.page();
  std::atomic_ref<std::uint32_t> produced(page.req_prod);
  std::string in;
  std::string out;
  while (requests > 0 || !out.empty()) {
    for (; page.req_cons != produced.load(); ++page.req_cons) {
      in += page.req[page.req_cons % rings::kRingBytes];
    }
    std::array<std::uint32_t, 4> header{};
    std::copy_n(in.data(), std::min(in.size(), sizeof header),
                reinterpret_cast<char*>(header.data()));
    if (requests > 0 && in.size() >= 16 && in.size() == 16 + header[3]) {
      std::string event = in;
      event[0] = 15;
      out += event + in;
      in.clear();
      --requests;
    }
    const std::uint32_t space =
        rings::kRingBytes - (page.rsp_prod - std::atomic_ref<std::uint32_t>(page.rsp_cons).load());
    const std::size_t count = std::min<std::size_t>(space, out.size());
    for (std::size_t i = 0; i < count; ++i) {
      page.rsp[(page.rsp_prod + i) % rings::kRingBytes] = out[i];
    }
    std::atomic_ref<std::uint32_t>(page.rsp_prod).fetch_add(static_cast<std::uint32_t>(count));
    out.erase(0, count);
    xenevtchn_notify(daemon.get(), static_cast<evtchn_port_t>(local));
    daemon.take_and_unmask();
  }
}

TEST_F(GuestSide, ASimpleClientSendsAndReceivesMoreThanARingHolds) {
  SimpleClient client(machine_, 5);
  std::thread daemon([&] { echo(guest_, daemon_, local_, 2); });
  const std::string payload(4096, 'x');
  const Message reply = client.call(2, payload, 77);
  EXPECT_EQ(reply.type, 2U);
  EXPECT_EQ(reply.tx_id, 77U);
  EXPECT_EQ(reply.payload, payload);
  EXPECT_EQ(client.call(3, "").req_id, reply.req_id + 1);
  daemon.join();
  const std::vector<Message> events = client.take_events();
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[0].payload, payload);
  EXPECT_EQ(events[1].payload, "");
  EXPECT_THAT(client.take_events(), IsEmpty());
}

}  // namespace
}  // namespace simxen
