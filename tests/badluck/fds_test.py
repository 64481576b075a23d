#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""File descriptors: the daemon runs out of them and recovers by itself, and leaks none."""

import os
import resource
import select
import struct
import unittest

from box import Box, cpu_seconds, eventually, open_fds, read, write, xs

ROOM = 10  # descriptors left to the daemon for new clients


def limit_fds(pid, room=ROOM):
    """From now on the process may open `room` descriptors more."""
    highest = max(int(fd) for fd in os.listdir(f"/proc/{pid}/fd"))
    limit = max(highest + 1, open_fds(pid)) + room
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limit))


def ask(clients):
    for client in clients:
        client.send(xs.READ, b"/kept\0")


def answered(clients, quiet=0.3):
    """Clients that have been answered, once nothing has come for `quiet` seconds."""
    waiting, done = list(clients), []
    while True:
        ready = select.select([client.sock for client in waiting], [], [], quiet)[0]
        if not ready:
            return done
        for client in [client for client in waiting if client.sock in ready]:
            assert client.recv()[3] == b"value"
            waiting.remove(client)
            done.append(client)


class FdExhaustion(unittest.TestCase):
    def setUp(self):
        self.box = Box()
        self.addCleanup(self.box.stop)
        self.box.start()
        self.pid = self.box.process.pid
        self.old = self.box.client()
        self.assertEqual(write(self.old, "/kept", b"value"), b"OK\0")
        self.assertEqual(self.old.call(xs.WATCH, b"/kept\0token\0"), b"OK\0")
        self.old.recv()  # the watch's initial event
        limit_fds(self.pid)
        self.clients = [self.box.client() for _ in range(3 * ROOM)]
        self.addCleanup(lambda: [client.close() for client in self.clients])
        ask(self.clients)

    def test_waiting_clients_are_accepted_when_others_close(self):
        served = answered(self.clients)
        waiting = [client for client in self.clients if client not in served]
        self.assertGreater(len(served), 0)
        self.assertGreater(len(waiting), ROOM)
        served.pop().close()
        came_in = answered(waiting, quiet=0.5)
        self.assertEqual(len(came_in), 1, "one left, one comes in")
        served += came_in
        waiting.remove(came_in[0])
        while waiting:
            for client in served:
                client.close()
            served = answered(waiting, quiet=0.5)
            self.assertGreater(len(served), 0, f"{len(waiting)} clients wait for ever")
            waiting = [client for client in waiting if client not in served]

    def test_exhaustion_costs_no_cpu(self):
        served = answered(self.clients)
        before = cpu_seconds(self.pid)
        waiting = next(client for client in self.clients if client not in served)
        self.assertTrue(waiting.quiet(1.5))
        self.assertLessEqual(cpu_seconds(self.pid) - before, 0.05)

    def test_existing_clients_do_not_notice(self):
        served = answered(self.clients)
        events = []
        for number in range(200):
            self.assertEqual(self.old.call(xs.WRITE, b"/kept\0%d" % number, events=events),
                             b"OK\0")
            self.assertEqual(read(served[0], "/kept"), b"%d" % number)
        self.assertEqual(events, [b"/kept\0token\0"] * 200)
        tx = int(self.old.call(xs.TRANSACTION_START, b"\0")[:-1])
        self.assertEqual(write(self.old, "/in/transaction", b"x", tx), b"OK\0")
        self.assertEqual(self.old.call(xs.TRANSACTION_END, b"T\0", tx), b"OK\0")

    def test_clients_that_give_up_while_waiting_do_no_harm(self):
        served = answered(self.clients)
        for client in [client for client in self.clients if client not in served]:
            client.close()
        for client in served:
            client.close()
        late = self.box.client()
        self.assertEqual(read(late, "/kept"), b"value")


class FdLeaks(unittest.TestCase):
    def setUp(self):
        self.box = Box()
        self.addCleanup(self.box.stop)
        self.box.start()
        self.pid = self.box.process.pid
        witness = self.box.client()
        self.assertEqual(write(witness, "/kept", b"value"), b"OK\0")
        witness.close()

    def steady(self, before):
        eventually(lambda: open_fds(self.pid) <= before,
                   f"{before} descriptors again, not {open_fds(self.pid)}")

    def test_connects_and_disconnects_leak_nothing(self):
        warm_up = self.box.client()
        self.assertEqual(read(warm_up, "/kept"), b"value")
        before = open_fds(self.pid)
        for number in range(3000):
            client = self.box.client()
            if number % 3 == 1:
                client.send(xs.READ, b"/kept\0")  # goes without reading the reply
            elif number % 3 == 2:
                client.send_raw(struct.pack("=IIII", xs.WRITE, 0, 0, 100) + b"/half")
            client.close()
        self.steady(before)
        self.assertEqual(read(warm_up, "/kept"), b"value")

    def test_clients_with_watches_and_transactions_leak_nothing(self):
        warm_up = self.box.client()
        self.assertEqual(read(warm_up, "/kept"), b"value")
        before = open_fds(self.pid)
        for _ in range(300):
            client = self.box.client()
            client.send(xs.WATCH, b"/kept\0token\0")
            client.send(xs.TRANSACTION_START, b"\0")
            client.recv()
            client.close()
        self.steady(before)

    def test_clients_closed_for_their_frames_leak_nothing(self):
        before = open_fds(self.pid)
        for _ in range(300):
            client = self.box.client()
            client.send_raw(struct.pack("=IIII", xs.WRITE, 0, 0, 4097))
            with self.assertRaises(xs.Closed):
                client.recv()
            client.close()
        self.steady(before)


if __name__ == "__main__":
    unittest.main()
