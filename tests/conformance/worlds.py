# SPDX-License-Identifier: MIT
"""What the procedural tests share: a test case with a world, bursts of requests, memory."""

import select
import struct
import time
import unittest

import ring_page
import script
from script import parse, xs


def frame(op, payload=b"", tx=0, req=0):
    """The bytes of one request; `op` a number or a name."""
    payload = script.wire(payload)
    return struct.pack("=IIII", script.op_number(op), req, tx, len(payload)) + payload


def frames(requests, tx=0):
    """The bytes of requests written as in rows."""
    return b"".join(frame(*parse(request), tx) for request in requests)


class World(script.World):
    """A world with raw rings in it."""

    notifier = None

    def ring(self, domid):
        """A domain's page as it is now; with empty hands, whoever held it before."""
        self.notifier = self.notifier or ring_page.Notifier(self.machine)
        return ring_page.Ring(self.machine, self.notifier, domid)

    def __exit__(self, *_):
        if self.notifier:
            self.notifier.stop()
        super().__exit__()


class WorldTest(unittest.TestCase):
    """Each test has a fresh daemon, which must be alive and consistent at the end."""

    options, domains = (), ()

    def setUp(self):
        self.world = World(self.options, self.domains)
        self.world.__enter__()
        self.addCleanup(self.world.__exit__)
        self.addCleanup(self.check_world)

    def check_world(self):
        self.assertTrue(self.world.alive(), "the daemon died")
        self.assertEqual(self.world.call("checker", "CONTROL check|"), b"OK\0")

    def is_answered(self, who, request, expected, tx=0):
        got = self.world.call(who, request, tx)
        self.assertTrue(script.matches(expected, got, self.world),
                        f"{who} {request[:80]!r}: expected {script.show_expected(expected)}, "
                        f"got {script.shown(got)!r}")

    def burst(self, who, requests, tx=0):
        """Sends all requests while reading; the replies (payload or error) in order."""
        data = frames(map(self.world.with_domains, requests), tx)
        return pump(self.world.client(who), data, len(requests))[0]


def split(data):
    """(complete frames, rest) of received bytes."""
    found, at = [], 0
    while len(data) - at >= 16:
        kind, req, tx, length = struct.unpack_from("=IIII", data, at)
        if len(data) - at - 16 < length:
            break
        found.append((kind, req, tx, data[at + 16:at + 16 + length]))
        at += 16 + length
    return found, data[at:]


def pump(client, data, replies, seconds=30):
    """Writes `data` and reads at the same time until `replies` replies are there.

    Gives (replies in order: payload, or error name as str; events)."""
    sock, answers, events = client.sock, [], []
    rest, client.pending = client.pending, b""
    deadline = time.monotonic() + seconds
    sock.setblocking(False)
    try:
        while len(answers) < replies or data:
            left = deadline - time.monotonic()
            assert left > 0, f"{len(answers)} of {replies} replies after {seconds} s"
            readable, writable, _ = select.select([sock], [sock] if data else [], [], left)
            if writable:
                data = data[sock.send(data[:65536]):]
            if readable:
                more = sock.recv(65536)
                if not more:
                    raise xs.Closed()
                found, rest = split(rest + more)
                for kind, _, _, payload in found:
                    if kind == xs.WATCH_EVENT:
                        events.append(payload)
                    else:
                        answers.append(payload[:-1].decode() if kind == xs.ERROR else payload)
    finally:
        sock.settimeout(10)
    client.pending = rest
    return answers, events


def stuff(client, data, limit):
    """Writes copies of `data` without ever reading, until the server takes no more.

    Stops at `limit` bytes, or when nothing was taken for half a second, or at the end of the
    connection; gives the number of bytes taken."""
    sock, taken, view = client.sock, 0, memoryview(data)
    sock.setblocking(False)
    try:
        while taken < limit and select.select([], [sock], [], 0.5)[1]:
            at = taken % len(data)
            taken += sock.send(view[at:at + 65536])
    except OSError:
        pass
    finally:
        sock.settimeout(10)
    return taken


def main():
    unittest.main(verbosity=1, warnings="ignore")
