#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Bytes that no honest client sends, and clients that do not read what they asked for.

The answer is the protocol's error or the end of that one connection; nobody else notices.
"""

import random
import struct
import threading
import time

import worlds
from script import shown, xs
from worlds import WorldTest, frame, frames, pump, split, stuff

ABSURD_LENGTHS = (4097, 4100, 8192, 65536, 0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff)
BOUND_KB = 16 * 1024


class Traffic:
    """Another client's steady traffic: each answer must be right and come soon."""

    def __init__(self, world):
        self.client, self.wrong, self.slowest, self.rounds = world.daemon.client(), [], 0.0, 0
        self.end = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            while not self.end.is_set():
                value, begin = b"%d" % self.rounds, time.monotonic()
                got = [self.client.call(xs.WRITE, b"/steady/value\0" + value),
                       self.client.call(xs.READ, b"/steady/value\0")]
                self.slowest = max(self.slowest, time.monotonic() - begin)
                self.rounds += 1
                if got != [b"OK\0", value]:
                    self.wrong.append(got)
        except Exception as error:  # pylint: disable=broad-except
            self.wrong.append(repr(error))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.thread.join()
        self.client.close()


class BadInputTest(WorldTest):
    domains = (3, 7)

    def is_unharmed(self, traffic):
        self.assertEqual(traffic.wrong, [])
        self.assertGreater(traffic.rounds, 0)
        self.assertLess(traffic.slowest, 1.0)

    def is_closed_without_a_word(self, client):
        with self.assertRaises(xs.Closed):
            client.recv()
        client.close()


class Framing(BadInputTest):
    def test_frames_byte_by_byte(self):
        for who in ("s", "g3"):
            client = self.world.client(who)
            for request, answer in ((frame("WRITE", b"a\0value", req=7), (11, 7, 0, b"OK\0")),
                                    (frame("READ", b"a\0", req=8), (2, 8, 0, b"value")),
                                    (frame("READ", b"", req=9), (16, 9, 0, b"EINVAL\0")),
                                    (frame(99, b"xx", req=10), (16, 10, 0, b"ENOSYS\0"))):
                for at in range(len(request)):
                    self.assertTrue(client.quiet())
                    client.send_raw(request[at:at + 1])
                self.assertEqual(client.recv(), answer)

    def test_a_stream_cut_at_every_place(self):
        stream = frame("WRITE", b"b\0val") + frame("READ", b"b\0") + frame("READ", b"none\0")
        for cut in range(1, len(stream)):
            client = self.world.client("s")
            client.send_raw(stream[:cut])
            self.world.ok("s2", "READ /|")
            client.send_raw(stream[cut:])
            self.assertEqual([client.recv()[3] for _ in range(3)], [b"OK\0", b"val", b"ENOENT\0"])

    def test_absurd_lengths_end_the_connection_without_an_answer(self):
        for length in ABSURD_LENGTHS:
            for op in (0, xs.READ, xs.WRITE, 99, 0xffffffff):
                for tail in (b"", b"x" * 5000):
                    with self.subTest(length=length, op=op, tail=len(tail)):
                        client = self.world.daemon.client()
                        try:
                            client.send_raw(struct.pack("=IIII", op, 1, 0, length) + tail)
                        except OSError:
                            pass  # it may be closed before all was sent
                        self.is_closed_without_a_word(client)

    def test_what_came_before_an_absurd_length_is_still_done(self):
        client = self.world.daemon.client()
        client.send_raw(frame("WRITE", b"/before\0v") + frame("READ")[:12] + b"\xff" * 4)
        got = []
        try:
            while True:
                got.append(client.recv()[3])
        except xs.Closed:
            client.close()
        self.assertIn(got, ([], [b"OK\0"]))
        self.is_answered("s", "READ /before|", "v")

    def test_a_guest_with_an_absurd_length_is_not_answered_until_it_is_introduced_again(self):
        for length in ABSURD_LENGTHS:
            with self.subTest(length=length):
                guest = self.world.client("g3")
                guest.call(xs.WATCH, b"a\0t\0")
                guest.call(xs.WRITE, b"kept\0v")
                guest.send_raw(frame("READ")[:12] + struct.pack("=I", length) + b"y" * 40)
                self.world.ok("s", "READ /|")
                try:
                    while True:
                        guest.sock.settimeout(0.05)
                        self.assertEqual(guest.recv()[0], xs.WATCH_EVENT)
                except (xs.Closed, TimeoutError):
                    self.world.close("g3")
                self.is_answered("g7", "GET_DOMAIN_PATH 7|", "/local/domain/7|")
                self.world.ok("s", "INTRODUCE $3|")
                self.is_answered("g3", "READ kept|", "v")
                self.is_answered("g3", "UNWATCH a|t|", "ENOENT")

    def test_payload_of_4096_bytes_both_ways(self):
        for who, room in (("s", 4096), ("g3", 2015)):
            value = bytes(random.Random(4).randrange(256) for _ in range(min(room, 4094)))
            self.assertEqual(self.world.call(who, ("WRITE", b"v\0" + value)), b"OK\0")
            self.assertEqual(self.world.call(who, "READ v|"), value)
        for who in ("s", "g3"):
            for op in list(range(27)) + [99]:
                if op != xs.CONTROL or who == "g3":
                    self.assertIsNotNone(self.world.client(who).call(op, b"x" * 4096))

    def test_a_thousand_requests_in_one_send(self):
        for who in ("s", "g3"):
            requests = [item for i in range(500) for item in (f"WRITE p|{i}", "READ p|")]
            replies, _ = pump(self.world.client(who), frames(requests), len(requests))
            self.assertEqual(replies, [item for i in range(500)
                                       for item in (b"OK\0", b"%d" % i)])

    def test_pipelined_request_ids_come_back_in_order(self):
        client = self.world.client("s")
        client.send_raw(b"".join(frame("READ", b"/\0", req=i * 2654435761 % 2**32)
                                 for i in range(1000)))
        for i in range(1000):
            self.assertEqual(client.recv()[1], i * 2654435761 % 2**32)

    def test_clients_that_close_in_the_middle_of_a_frame(self):
        request = frame("WRITE", b"/half\0" + b"v" * 50)
        with Traffic(self.world) as traffic:
            for cut in range(len(request)):
                for who in (None, 3):
                    client = self.world.daemon.client(who)
                    client.send_raw(request[:cut])
                    client.close()
        self.is_unharmed(traffic)
        self.is_answered("s", "READ /half|", "ENOENT")

    def test_clients_that_close_before_their_answer(self):
        with Traffic(self.world) as traffic:
            for i in range(200):
                client = self.world.daemon.client()
                client.send_raw(frame("WRITE", b"/last\0%d" % i) + frame("READ", b"/last\0") * 50)
                client.close()
        self.is_unharmed(traffic)
        self.assertIsInstance(self.world.call("s", "READ /last|"), bytes)

    def test_unknown_guests_are_turned_away(self):
        for domid in (99, 0xffff, 32752):
            client = self.world.daemon.client(domid)
            try:
                client.send(xs.READ, b"/\0")
            except OSError:
                pass
            self.is_closed_without_a_word(client)


class Payloads(BadInputTest):
    """Each operation with each kind of malformed payload, made by rule and by chance."""

    def payloads(self):
        yield from (b"", b"\0", b"\0\0", b"\0" * 4096, b"x" * 4096, b"\xff" * 4096, b"/", b"a")
        words = (b"", b"/", b"/a", b"a", b"//", b"/a/", b"@", b"@x", b".", b"/a b", b"\xff\xfe",
                 b"3", b"-1", b"0", b"99999999999999999999", b"0x10", b"T", b"F", b"n0", b"n3",
                 b"r32757", b"n-1", b"n99999999999", b"zz", b"/" + b"n" * 3000, b"t" * 4000,
                 b"quota", b"set", b"nodes", b"check", b" 3", b"+3", b"3 ")
        for first in words:
            yield from (first, first + b"\0", first + b"\0\0", b"\0" + first)
            for second in words:
                both = first + b"\0" + second
                if len(both) <= 4094:
                    yield from (both, both + b"\0", both + b"\0\0")
        chance = random.Random(23)
        for _ in range(300):
            yield bytes(chance.choice((0, 47, 97, 110, 48, 51, 64, 255, chance.randrange(256)))
                        for _ in range(chance.randrange(60)))

    def test_every_operation_answers_once_and_goes_on(self):
        payloads = list(self.payloads())
        for who in ("s", "g3"):
            with Traffic(self.world) as traffic:
                for op in list(range(27)) + [27, 99, 0xffff]:
                    if op == xs.CONTROL and who == "s":
                        continue  # it names files; CONTROL has its own below
                    with self.subTest(who=who, op=op):
                        # A ring takes a while: a guest sends a quarter, of each operation another.
                        some = payloads if who == "s" else payloads[op % 4::4]
                        self.answers(who, op, [p for p in some if not self.is_release(op, p)])
            self.is_unharmed(traffic)

    @staticmethod
    def is_release(op, payload):
        """What would end or restart the guest that is asking."""
        return op in (xs.RELEASE, xs.INTRODUCE) and b"3" in payload

    def answers(self, who, op, payloads):
        client = self.world.daemon.client(None if who == "s" else 3)
        data = b"".join(frame(op, payload) for payload in payloads)
        replies, _ = pump(client, data, len(payloads))
        self.assertEqual(len(replies), len(payloads))
        for payload, reply in zip(payloads, replies):
            if isinstance(reply, str):
                self.assertIn(reply, worlds.script.ERRORS, shown(payload))
            self.assertLessEqual(len(reply), 4096)
        self.assertIsInstance(client.call(xs.GET_DOMAIN_PATH, b"1\0"), bytes)
        client.close()

    def test_control_with_malformed_arguments(self):
        commands = (b"check", b"log", b"logfile", b"memreport", b"print", b"quota", b"quota-soft",
                    b"help", b"", b"nonsense", b"\xff")
        tails = (b"", b"\0", b"\0\0", b"\0set", b"\0set\0", b"\0set\0nodes\0", b"\0set\0\0\0",
                 b"\0set\0nodes\0-1\0", b"\0set\0nodes\0x\0", b"\0x\0y\0z\0", b"\0\xff\0",
                 b"\0" + b"x" * 4000 + b"\0")
        bad = [command + tail for command in commands for tail in tails
               if not (command in (b"logfile", b"memreport") and tail)]
        self.answers("s", xs.CONTROL, bad)


class RandomBytes(BadInputTest):
    SEED, CONNECTIONS = 2718, 2000

    def test_random_bytes_on_two_thousand_connections(self):
        chance = random.Random(self.SEED)
        with Traffic(self.world) as traffic:
            for i in range(self.CONNECTIONS):
                client = self.world.daemon.client(3 if i % 4 == 3 else None)
                try:
                    client.send_raw(self.noise(chance))
                except OSError:
                    pass  # refused in the middle: that is an answer too
                client.close()
        self.is_unharmed(traffic)
        self.world.daemon.stop_bridge()
        self.world.ok("s", "INTRODUCE $3|")
        self.is_answered("g3", "GET_DOMAIN_PATH 3|", "/local/domain/3|")

    @staticmethod
    def noise(chance):
        """Pure noise, or frames that look right for a while."""
        if chance.random() < 0.3:
            return chance.randbytes(chance.randrange(1, 300))
        data = b""
        for _ in range(chance.randrange(1, 6)):
            op = chance.choice([1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 21, 22,
                                chance.randrange(2**32)])
            payload = chance.choice([b"/x", b"/x\0", b"\0", b"/x\0y\0", chance.randbytes(20)])
            length = len(payload) if chance.random() < 0.8 else chance.randrange(6000)
            data += struct.pack("=IIII", op, chance.randrange(2**32), chance.choice([0, 0, 0, 1]),
                                length) + payload
        return data


class NeverRead(BadInputTest):
    """Clients that never read: memory stays bounded, others are served as ever."""

    def setUp(self):
        super().setUp()
        for request in ("WRITE /big|" + "v" * 4000, "SET_PERMS /big|r0|"):
            self.world.ok("s", request)
        self.before = self.world.anonymous_kb()

    def is_bounded(self, bound=BOUND_KB):
        grown = self.world.anonymous_kb() - self.before
        self.assertLess(grown, bound, f"{grown} KiB more")

    def test_replies_never_read_by_socket_clients(self):
        with Traffic(self.world) as traffic:
            clients = [self.world.daemon.client() for _ in range(4)]
            for client in clients:
                stuff(client, frame("READ", b"/big\0") * 2000, 4_000_000)
            self.is_bounded()
            for client in clients:
                client.close()
        self.is_unharmed(traffic)

    def test_events_never_read_by_a_socket_client(self):
        deaf = self.world.daemon.client()
        for i in range(20):
            deaf.call(xs.WATCH, b"/\0" + b"t" * 2000 + b"%d\0" % i)
        with Traffic(self.world) as traffic:
            for _ in range(20):
                self.burst("s", [f"WRITE /n{i}|v" for i in range(200)])
            self.is_bounded()
        self.is_unharmed(traffic)
        deaf.close()

    def test_events_and_replies_never_read_by_guests(self):
        self.world.ok("s", "SET_PERMS /|r0|")
        self.burst("g3", ["WATCH /|" + "t" * 2000 + f"{i}|" for i in range(60)])
        with Traffic(self.world) as traffic:
            for _ in range(10):
                self.burst("s", [f"WRITE /big/{i}|v" for i in range(200)])
            stuff(self.world.client("g3"), frame("READ", b"/big\0") * 2000, 4_000_000)
            self.is_bounded()
            self.is_answered("g7", "WRITE a|v", worlds.script.OK)
        self.is_unharmed(traffic)

    def test_who_asks_a_lot_before_it_reads_gets_everything(self):
        """More than the daemon takes at once, and answers of more than it lets wait."""
        self.world.ok("s", "WRITE /large|" + "v" * 4000)
        client = self.world.client("s")
        for count in (800, 1200, 1600):
            client.send_raw(frame("READ", b"/large\0") * count)
            time.sleep(0.2)  # what is to be seen is that it waits
            for _ in range(count):
                self.assertEqual(len(client.recv()[3]), 4000)

    def test_a_slow_reader_gets_everything_in_order(self):
        client = self.world.daemon.client()
        self.world.ok("s", "WRITE /slow|" + "v" * 3000)
        client.send_raw(frame("READ", b"/slow\0") * 200)
        self.world.ok("s", "READ /|")
        got, rest = [], b""
        while len(got) < 200:
            more = client.sock.recv(1000)
            self.assertTrue(more, "closed")
            found, rest = split(rest + more)
            got += found
        self.assertEqual({reply[3] for reply in got}, {b"v" * 3000})
        client.close()


class LateEvents(WorldTest):
    """Sixty thousand events that a guest does not read in time, dropped at once."""

    domains = (3,)
    options = ("-w", "watch-event=1")

    def test_do_not_hold_up_others(self):
        for request in ("WRITE /shown|", "SET_PERMS /shown|r0|"):
            self.world.ok("s", request)
        ring = self.world.ring(3)
        for i in range(120):
            self.assertEqual(ring.call(xs.WATCH, b"/shown\0%d\0" % i), b"OK\0")
        requests = b"".join(frame("WRITE", b"/shown/%d\0v" % i) for i in range(500))
        pump(self.world.client("s"), requests, 500)
        other, worst, end = self.world.client("other"), 0, time.monotonic() + 3
        while time.monotonic() < end:
            begin = time.monotonic()
            other.call(xs.READ, b"/\0")
            worst = max(worst, time.monotonic() - begin)
            time.sleep(0.001)
        self.assertLess(worst, 0.5)


if __name__ == "__main__":
    worlds.main()
