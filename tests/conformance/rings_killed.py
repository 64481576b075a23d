#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Rings whose daemon is killed at awkward moments, and guests that go on meanwhile, for good or
ill. What a page holds is looked at byte by byte; that nothing is lost or doubled at any moment at
all is asked by `tests/crash`."""

import struct

import ring_page
import worlds
from ring_page import CONNECTION, ERROR, REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD
from rings import INDEX, PROTOCOL, READ_HOME, RingTest
from script import xs
from worlds import frame


class KilledTest(RingTest):
    def restart(self, meanwhile=lambda: None):
        """kill -9; `meanwhile` happens; another daemon."""
        self.world.daemon.kill()
        self.world.close_all()
        meanwhile()
        self.world.daemon.start()

    def all_is_well(self):
        self.others_are_served()
        self.is_served()


class Messages(KilledTest):
    def test_a_request_cut_at_many_places(self):
        request = frame("WRITE", b"a\0" + bytes(range(200)), req=5)
        for cut in range(1, len(request), 13):
            self.ring.put(request[:cut])
            self.others_are_served()
            self.restart()
            self.ring.put(request[cut:])
            self.assertEqual(self.ring.frames(1), [(xs.WRITE, 5, 0, b"OK\0")])
        self.assertEqual(self.ring.call(xs.READ, b"a\0"), bytes(range(200)))

    def test_a_request_longer_than_the_ring(self):
        value = bytes(range(256)) * 7
        data = frame("WRITE", b"a\0" + value, req=6)
        while data:
            room = ring_page.SIZE - (self.ring.get(REQ_PROD) - self.ring.get(REQ_CONS)) % 2**32
            self.ring.put(data[:min(300, room)])
            data = data[min(300, room):]
            self.restart()
        self.assertEqual(self.ring.frames(1), [(xs.WRITE, 6, 0, b"OK\0")])
        self.assertEqual(self.ring.call(xs.READ, b"a\0"), value)

    def test_requests_made_while_nobody_is_there(self):
        requests = b"".join(frame("WRITE", b"n%d\0v" % i, req=i) for i in range(30))
        self.restart(lambda: self.ring.put(requests))
        self.assertEqual(self.ring.frames(30), [(xs.WRITE, i, 0, b"OK\0") for i in range(30)])
        self.all_is_well()

    def test_replies_and_events_that_wait(self):
        self.ring.call(xs.WATCH, b"w\0t\0")
        self.ring.frames(1)  # the first event
        self.world.ok("s", "WRITE /local/domain/3/big|" + "v" * 1000)
        self.ring.put(frame("READ", b"big\0", req=8) * 10)
        self.ring.wait(REQ_CONS, self.ring.get(REQ_PROD))
        for i in range(50):
            self.world.ok("s", f"WRITE /local/domain/3/w/{i}|")
        for _ in range(3):
            self.restart()
        self.assertEqual(self.ring.frames(10), [(xs.READ, 8, 0, b"v" * 1000)] * 10)
        self.assertEqual([event[3] for event in self.ring.frames(50)],
                         [b"w/%d\0t\0" % i for i in range(50)])
        self.all_is_well()

    def test_replies_taken_while_nobody_is_there(self):
        self.world.ok("s", "WRITE /local/domain/3/big|" + "v" * 1000)
        self.ring.put(frame("READ", b"big\0", req=9) * 5)
        self.ring.wait(RSP_PROD, (self.ring.get(RSP_CONS) + ring_page.SIZE) % 2**32)
        self.restart(self.ring.take)
        self.assertEqual(self.ring.frames(5), [(xs.READ, 9, 0, b"v" * 1000)] * 5)
        self.all_is_well()


class Guests(KilledTest):
    def lives_again(self):
        self.world.ok("s", "INTRODUCE $3|")
        self.ring.stream = b""
        self.assertEqual(self.ring.get(ERROR), 0)
        self.all_is_well()

    def test_an_error_of_before_stays(self):
        self.ring.put(frame("READ")[:12] + struct.pack("=I", 5000) + b"x" * 50)
        self.ring.wait(ERROR, PROTOCOL)
        self.restart()
        self.ring.put(READ_HOME)
        self.others_are_served()
        self.assertEqual(self.ring.get(ERROR), PROTOCOL)
        self.assertEqual(self.ring.get(RSP_PROD), self.ring.get(RSP_CONS))
        self.lives_again()

    def test_a_ring_broken_meanwhile(self):
        self.restart(lambda: self.ring.set(REQ_PROD, self.ring.get(REQ_CONS) + 5000))
        self.ring.wait(ERROR, INDEX)
        self.others_are_served()
        self.lives_again()

    def test_our_own_indices_overwritten_meanwhile(self):
        for field in (REQ_CONS, RSP_PROD, RSP_CONS):
            for by in (1, 16, 1024, 1025, 2**31, 2**32 - 1):
                with self.subTest(field=field, by=by):
                    self.restart(lambda: self.ring.set(field, self.ring.get(field) + by))
                    if self.has_room():
                        self.ring.put(READ_HOME, notify=False)
                    self.ring.notify()
                    self.others_are_served()
                    self.lives_again()

    def has_room(self):
        used = (self.ring.get(REQ_PROD) - self.ring.get(REQ_CONS)) % 2**32
        return used + len(READ_HOME) <= ring_page.SIZE

    def test_noise_in_the_whole_page(self):
        for seed in range(20):
            noise = bytes((seed * 131 + at * at * 7) % 256 for at in range(2080))
            self.restart(lambda: self.ring.page.__setitem__(slice(0, 2080), noise))
            self.ring.notify()
            self.others_are_served()
            self.lives_again()

    def test_connected_anew_meanwhile(self):
        self.ring.call(xs.WATCH, b"a\0t\0")

        def reconnect():
            self.ring.put(READ_HOME[:20], notify=False)
            self.ring.set(CONNECTION, 1)
        self.restart(reconnect)
        self.ring.wait(CONNECTION, 0)
        self.assertEqual(self.ring.indices(), (0, 0, 0, 0))
        self.assertEqual(self.ring.call(xs.UNWATCH, b"a\0t\0"), "ENOENT")
        self.all_is_well()


class Domains(KilledTest):
    def setUp(self):
        super().setUp()
        self.world.ok("s", "SET_PERMS @releaseDomain|n0|r7|")
        self.watcher = self.world.ring(7)
        self.watcher.call(xs.WATCH, b"@releaseDomain\0t\0")
        self.watcher.frames(1)

    def is_announced_once(self):
        self.assertEqual(self.watcher.frames(1)[0][3], b"@releaseDomain\0t\0")
        self.assertEqual(self.watcher.call(xs.GET_DOMAIN_PATH, b"7\0"), b"/local/domain/7\0")
        self.restart()
        self.watcher.put(frame("GET_DOMAIN_PATH", b"7\0"))
        self.assertEqual(self.watcher.frames(1)[0][0], xs.GET_DOMAIN_PATH)

    def is_gone(self):
        self.assertEqual(self.world.ok("s", "IS_INTRODUCED 3|"), b"F\0")
        self.is_answered("s", "READ /local/domain/3|", "ENOENT")

    def test_one_that_died_meanwhile(self):
        self.restart(lambda: self.world.machine.destroy(3))
        self.is_announced_once()
        self.is_gone()

    def test_one_that_was_shut_down_meanwhile(self):
        self.restart(lambda: self.world.machine.shut_down(3))
        self.is_announced_once()
        self.assertEqual(self.world.ok("s", "IS_INTRODUCED 3|"), b"T\0")

    def test_another_with_its_number_meanwhile(self):
        def replace():
            self.world.machine.destroy(3)
            self.world.machine.create(3)
        self.restart(replace)
        self.is_announced_once()
        self.is_gone()
        self.world.introduce(3)
        self.ring = self.world.ring(3)
        self.is_served()

    def test_one_whose_ring_cannot_be_mapped_any_more(self):
        self.restart(lambda: self.world.machine.fail_map(3, True))
        self.assertEqual(self.watcher.call(xs.GET_DOMAIN_PATH, b"7\0"), b"/local/domain/7\0")
        self.world.machine.fail_map(3, False)
        self.world.ok("s", "INTRODUCE $3|")
        self.is_served()

    def test_one_whose_ring_cannot_be_mapped_for_a_while(self):
        for request in ("WRITE /shown|", "SET_PERMS /shown|r0|"):
            self.world.ok("s", request)
        self.ring.call(xs.WATCH, b"/shown\0t\0")
        self.ring.frames(1)
        self.restart(lambda: self.world.machine.fail_map(3, True))
        self.world.ok("s", "WRITE /shown/a|")
        self.restart()
        self.world.ok("s", "WRITE /shown/b|")
        self.ring.put(READ_HOME)
        self.world.machine.fail_map(3, False)
        self.assertEqual([frame[3] for frame in self.ring.frames(3)],
                         [b"/shown/a\0t\0", b"/shown/b\0t\0", b""])
        self.is_served()


if __name__ == "__main__":
    worlds.main()
