#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What is seen in the page of a ring itself (rules 6-8, 11-14, 66, 68, 76, 77 and A.4): guests
with raw access to it, good and bad ones."""

import struct
import time

import ring_page
import script
import worlds
from ring_page import CONNECTION, ERROR, FEATURES, REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD
from script import Differs, known, xs
from worlds import WorldTest, frame

INDEX, PROTOCOL = 2, 3  # values of `error`
READ_HOME = frame("READ", b"/local/domain/3\0")


class RingTest(WorldTest):
    domains = (3, 7)

    def setUp(self):
        super().setUp()
        self.ring = self.world.ring(3)

    def is_served(self):
        self.assertEqual(self.ring.call(xs.GET_DOMAIN_PATH, b"3\0"), b"/local/domain/3\0")

    def others_are_served(self):
        self.is_answered("g7", "GET_DOMAIN_PATH 7|", "/local/domain/7|")

    def events_of_s(self):
        events = []
        for _ in range(2):
            self.world.client("s").call(xs.READ, b"/\0", events=events)
        return events

    def consumed_until_quiet(self, requests):
        """Offers the requests, never reading the ring; how many were taken when no more are."""
        offered, taken, before = 0, 0, self.ring.get(REQ_CONS)
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            room = ring_page.SIZE - (self.ring.get(REQ_PROD) - self.ring.get(REQ_CONS)) % 2**32
            if offered < len(requests) and len(requests[offered]) <= room:
                self.ring.put(requests[offered])
                offered += 1
            if self.ring.get(REQ_CONS) != before:
                before, deadline = self.ring.get(REQ_CONS), time.monotonic() + 0.3
        ends = [sum(map(len, requests[:count])) for count in range(offered + 1)]
        taken = max(count for count, end in enumerate(ends) if end <= before)
        return taken, offered


class Errors(RingTest):
    def breaks(self, error):
        self.ring.notify()
        self.ring.wait(ERROR, error)
        self.others_are_served()

    def is_ignored(self):
        before = self.ring.get(REQ_CONS)
        self.ring.notify()
        for _ in range(3):
            self.others_are_served()
        self.assertEqual(self.ring.get(REQ_CONS), before)

    def lives_again(self, error):
        """A toolstack introduces it again."""
        self.world.ok("s", "INTRODUCE $3|")
        self.assertEqual(self.ring.indices(), (0, 0, 0, 0))
        self.assertEqual(self.ring.get(ERROR), known(Differs(0, error, "error-cleared")))
        if script.PEER == "c":
            self.world.ok("s", "RELEASE 3|")
            self.ring.set(ERROR, 0)
            self.world.introduce(3)
        self.is_served()
        self.assertEqual(self.ring.call(xs.UNWATCH, b"a\0t\0"), "ENOENT")

    def test_6_a_length_above_4096(self):
        self.ring.call(xs.WATCH, b"a\0t\0")
        self.ring.put(frame("READ")[:12] + struct.pack("=I", 4097) + b"x" * 100)
        self.breaks(PROTOCOL)
        self.is_ignored()
        self.lives_again(PROTOCOL)

    def test_7_requests_further_than_the_ring_is_long(self):
        self.ring.call(xs.WATCH, b"a\0t\0")
        self.ring.set(REQ_PROD, self.ring.get(REQ_CONS) + ring_page.SIZE + 1)
        self.breaks(INDEX)
        self.is_ignored()
        self.lives_again(INDEX)

    def test_7_replies_taken_that_were_never_there(self):
        self.ring.call(xs.WATCH, b"a\0t\0")
        self.ring.set(RSP_CONS, self.ring.get(RSP_PROD) + 1)
        self.ring.put(READ_HOME)
        self.breaks(INDEX)
        self.lives_again(INDEX)

    def test_6_its_death_is_announced_all_the_same(self):
        self.world.ok("s", "WATCH @releaseDomain|r|")
        self.ring.set(REQ_PROD, 5000)
        self.breaks(INDEX)
        self.events_of_s()
        self.world.machine.destroy(3)
        self.assertEqual(self.events_of_s(), [b"@releaseDomain\0r\0"])

    def test_8_and_it_may_be_released(self):
        self.ring.set(REQ_PROD, 5000)
        self.breaks(INDEX)
        self.world.ok("s", "RELEASE 3|")
        self.assertEqual(self.world.ok("s", "IS_INTRODUCED 3|"), b"F\0")


class Streams(RingTest):
    def test_11_messages_across_the_end_of_the_ring(self):
        for length in range(1, 200):
            name = b"n" * (length % 40 + 1)
            value = bytes([length]) * length
            self.assertEqual(self.ring.call(xs.WRITE, name + b"\0" + value), b"OK\0")
            self.assertEqual(self.ring.call(xs.READ, name + b"\0"), value)
        self.assertGreater(self.ring.get(REQ_PROD), 20 * ring_page.SIZE)

    def put_in_pieces(self, data):
        while data:
            used = (self.ring.get(REQ_PROD) - self.ring.get(REQ_CONS)) % 2**32
            piece, data = data[:ring_page.SIZE - used], data[ring_page.SIZE - used:]
            self.ring.put(piece)

    def test_6_messages_longer_than_the_ring(self):
        value = bytes(range(256)) * 7
        self.put_in_pieces(frame("WRITE", b"long\0" + value))
        self.assertEqual(self.ring.frames(1), [(xs.WRITE, 0, 0, b"OK\0")])
        self.assertEqual(self.ring.call(xs.READ, b"long\0"), value)
        self.put_in_pieces(frame("WRITE", b"long\0" + b"x" * 4091))
        self.assertEqual(self.ring.frames(1), [(xs.ERROR, 0, 0, b"ENOSPC\0")])
        self.is_served()

    def test_a_message_byte_by_byte(self):
        for byte in READ_HOME:
            self.ring.put(bytes([byte]))
        self.assertEqual(self.ring.frames(1), [(xs.READ, 0, 0, b"")])


class Outstanding(RingTest):
    """Rules 13 and 14: whoever does not read, or is not read, is not served any more."""

    options = ("-w", "watch-event=1")
    REPLY = 16 + len("/local/domain/3|")

    def test_13_of_a_guest_that_does_not_read(self):
        request = frame("GET_DOMAIN_PATH", b"3\0")
        requests = [request] * 300
        taken, offered = self.consumed_until_quiet(requests)
        fits = ring_page.SIZE // self.REPLY
        self.assertLessEqual(abs(taken - (fits + 20)), 2, f"{taken} taken, {fits} replies fit")
        self.others_are_served()
        for reply in self.ring.frames(offered):
            self.assertEqual(reply, (xs.GET_DOMAIN_PATH, 0, 0, b"/local/domain/3\0"))

    def reply(self):
        """The next reply. 4.17 may forget to wake up for an event's time."""
        for _ in range(5 if known(Differs(False, True, "sleeps")) else 0):
            try:
                return self.ring.frames(1, seconds=0.6)[0]
            except AssertionError:
                self.world.ok("s", "READ /|")
        return self.ring.frames(1)[0]

    def test_14_of_a_writer_whose_watcher_does_not_read_until_the_events_time_out(self):
        watcher = self.world.ring(7)
        self.world.ok("s", "SET_PERMS /local/domain/3|n3|r7|")
        self.assertEqual(watcher.call(xs.WATCH, b"/local/domain/3\0t\0"), b"OK\0")
        requests = [frame("WRITE", b"n%d\0v" % i) for i in range(75)]
        event = 16 + len("/local/domain/3/n10|t|")
        answered, stopped_at = 0, None
        for request in requests:
            self.ring.put(request)
            before = time.monotonic()
            self.assertEqual(self.reply()[3], b"OK\0")
            if time.monotonic() - before > 0.3:
                stopped_at = stopped_at or answered
            answered += 1
        fits = ring_page.SIZE // event
        self.assertIsNotNone(stopped_at, "never")
        self.assertLessEqual(abs(stopped_at - (fits + 20)), 3, f"{stopped_at}; {fits} events fit")
        self.assertEqual({f[0] for f in watcher.frames(fits)}, {xs.WATCH_EVENT})
        self.assertEqual(watcher.call(xs.GET_DOMAIN_PATH, b"7\0"), b"/local/domain/7\0")

    def fill(self):
        """Replies until the ring is full and some wait."""
        self.world.ok("s", "WRITE /local/domain/3/big|" + "v" * 1000)
        self.ring.put(frame("READ", b"big\0") * 3)
        self.ring.wait(REQ_CONS, self.ring.get(REQ_PROD))

    def test_66_equal_events_that_wait_are_one_but_special_ones_are_not(self):
        for request in ("WRITE /shown|", "SET_PERMS /shown|r0|",
                        "SET_PERMS @introduceDomain|n0|r3|"):
            self.world.ok("s", request)
        self.ring.call(xs.WATCH, b"/shown\0t\0")
        self.ring.call(xs.WATCH, b"@introduceDomain\0t\0")
        self.ring.frames(1)  # the first event of the second watch
        self.fill()
        for i in range(5):
            self.world.ok("s", f"WRITE /shown|{i}")
            self.world.ok("s", "INTRODUCE $9|")
            self.world.ok("s", "RELEASE 9|")
        self.ring.put(frame("GET_DOMAIN_PATH", b"3\0"))
        found = []
        while not found or found[-1][0] != xs.GET_DOMAIN_PATH:
            found += self.ring.frames(1)
        self.assertEqual([f[3] for f in found if f[0] == xs.WATCH_EVENT],
                         [b"/shown\0t\0", *[b"@introduceDomain\0t\0"] * 5])

    def test_68_events_that_wait_too_long_are_dropped_and_nothing_else(self):
        for request in ("WRITE /shown|", "SET_PERMS /shown|r0|"):
            self.world.ok("s", request)
        self.ring.call(xs.WATCH, b"/shown\0t\0")
        self.ring.frames(1)  # the first event
        self.fill()
        self.world.ok("s", "WRITE /shown/a|")
        self.world.ok("s", "WRITE /shown/b|")
        time.sleep(3)  # what is to be seen is that time passes; one second and a check's period
        self.world.ok("s", "WRITE /shown/c|")
        self.ring.put(frame("GET_DOMAIN_PATH", b"3\0"))
        found = []
        while not found or found[-1][0] != xs.GET_DOMAIN_PATH:
            found += self.ring.frames(1)
        self.assertEqual([f[3] for f in found if f[0] == xs.WATCH_EVENT], [b"/shown/c\0t\0"])


class Introduction(RingTest):
    def test_76_makes_the_ring_anew(self):
        self.world.ok("s", "RELEASE 3|")
        for field in (REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD):
            self.ring.set(field, 12345678)
        self.ring.set(ERROR, INDEX)
        self.ring.set(CONNECTION, 1)
        self.world.introduce(3)
        self.assertEqual(self.ring.indices(), (0, 0, 0, 0))
        self.assertEqual(self.ring.get(CONNECTION), 0)
        self.assertEqual(self.ring.get(ERROR), known(Differs(0, INDEX, "error-cleared")))
        self.assertEqual(self.ring.get(FEATURES), known(Differs(15, 0, "features")))
        self.is_served()

    def test_77_again_in_the_middle_of_a_message(self):
        self.ring.call(xs.WRITE, b"a\0v")
        self.ring.put(READ_HOME[:20])
        self.others_are_served()
        self.world.ok("s", "INTRODUCE $3|")
        self.assertEqual(self.ring.indices(), (0, 0, 0, 0))
        self.assertEqual(self.ring.call(xs.READ, b"a\0"),
                         known(Differs(b"v", "ENOENT", "half-message")))

    def test_77_again_with_replies_that_wait(self):
        self.world.ok("s", "WRITE /local/domain/3/big|" + "v" * 1000)
        self.ring.put(frame("READ", b"big\0") * 3)
        self.others_are_served()
        self.world.ok("s", "INTRODUCE $3|")
        self.assertEqual(self.ring.indices(), (0, 0, 0, 0))
        self.ring.stream = b""
        self.is_served()


class Reconnection(RingTest):
    def test_a_guest_may_ask_to_be_connected_anew(self):
        self.ring.call(xs.WATCH, b"a\0t\0")
        tx = int(self.ring.call(xs.TRANSACTION_START, b"\0")[:-1])
        self.ring.call(xs.WRITE, b"lost\0v", tx)
        self.ring.call(xs.WRITE, b"kept\0v")
        if script.PEER == "ours":  # see half-message
            self.ring.put(READ_HOME[:20], notify=False)
        self.ring.set(CONNECTION, 1)
        self.ring.notify()
        if known(Differs(False, True, "reconnection")):
            self.others_are_served()
            self.assertEqual(self.ring.get(CONNECTION), 1)
            self.world.ok("s", "INTRODUCE $3|")
        self.ring.wait(CONNECTION, 0)
        self.assertEqual(self.ring.indices(), (0, 0, 0, 0))
        self.ring.stream = b""
        self.assertEqual(self.ring.call(xs.UNWATCH, b"a\0t\0"), "ENOENT")
        self.assertEqual(self.ring.call(xs.TRANSACTION_END, b"T\0", tx), "ENOENT")
        self.assertEqual(self.ring.call(xs.READ, b"kept\0"), b"v")
        self.assertEqual(self.ring.call(xs.READ, b"lost\0"), "ENOENT")


if __name__ == "__main__":
    worlds.main()
