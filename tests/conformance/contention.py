#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Many clients at one node: all progress, nothing is lost, and nobody can stop the others."""

import os
import signal
import threading
import time

import worlds
from script import xs
from worlds import WorldTest, frame, frames, pump

CLIENTS, COMMITS = 16, 60


def increment(client, path=b"/n\0"):
    """One read-modify-write transaction, tried until it commits; the number of refusals."""
    refused = 0
    while True:
        tx = int(client.call(xs.TRANSACTION_START, b"\0")[:-1])
        value = int(client.call(xs.READ, path, tx))
        client.call(xs.WRITE, path + b"%d" % (value + 1), tx)
        answer = client.call(xs.TRANSACTION_END, b"T\0", tx)
        if answer == b"OK\0":
            return refused
        assert answer == "EAGAIN", answer
        refused += 1


class Flood:
    """A hostile guest: two processes of ours that write and read one connection without pause.

    It never waits for an answer before it sends more, so the server always has its next write."""

    def __init__(self, client, data):
        self.sock, self.data, self.children = client.sock, data, []

    def __enter__(self):
        self.sock.settimeout(None)
        for work in (self._send, self._discard):
            child = os.fork()
            if child == 0:
                try:
                    while True:
                        work()
                finally:
                    os._exit(1)
            self.children.append(child)
        return self

    def _send(self):
        self.sock.sendall(self.data)

    def _discard(self):
        if not self.sock.recv(1 << 20):
            raise xs.Closed()

    def running(self):
        return all(os.waitpid(child, os.WNOHANG) == (0, 0) for child in self.children)

    def __exit__(self, *_):
        for child in self.children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        self.sock.close()


class Counter(WorldTest):
    """Read, add one, write: by many clients, each in transactions."""

    domains = tuple(range(1, CLIENTS + 1))

    def count_together(self, clients):
        ends, problems = [], []

        def work(client):
            try:
                for _ in range(COMMITS):
                    increment(client)
                ends.append(time.monotonic())
            except Exception as error:  # pylint: disable=broad-except
                problems.append(repr(error))
        threads = [threading.Thread(target=work, args=(client,)) for client in clients]
        begin = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(problems, [])
        self.assertEqual(int(self.world.ok("s", "READ /n|")), len(clients) * COMMITS)
        self.assertLess(max(ends) - begin, 20)

    def test_sixteen_socket_clients(self):
        self.world.ok("s", "WRITE /n|0")
        clients = [self.world.client(f"s{i}") for i in range(CLIENTS)]
        self.count_together(clients)

    def test_sixteen_guests(self):
        for request in ("WRITE /n|0", "SET_PERMS /n|b0|"):
            self.world.ok("s", request)
        self.count_together([self.world.client(f"g{i}") for i in range(1, CLIENTS + 1)])

    def test_sixteen_clients_that_make_siblings_are_never_refused(self):
        self.world.ok("s", "MKDIR /d|")
        for number in range(20):
            for i in range(CLIENTS):
                self.world.start(f"s{i}", f"t{i}")
                self.world.ok(f"s{i}", f"WRITE /d/{i}-{number}|v", f"t{i}")
            for i in range(CLIENTS):
                self.is_answered(f"s{i}", "END T|", "OK|", f"t{i}")
        self.assertEqual(self.world.ok("s", "DIRECTORY /d|").count(b"\0"), 20 * CLIENTS)


class Xsa206HostileGuests(WorldTest):
    """A guest cannot keep others' transactions from committing."""

    domains = (3, 7)

    def setUp(self):
        super().setUp()
        for request in ("WRITE /n|0", "SET_PERMS /n|b0|", "WRITE /mine|0"):
            self.world.ok("s", request)

    def test_transactions_that_never_end(self):
        for _ in range(11):
            tx = int(self.world.ok("g3", "START |")[:-1])
            self.world.ok("g3", "READ /n|", tx)
            self.world.ok("g3", f"WRITE /n|{tx + 1000}", tx)
        for _ in range(50):
            self.assertEqual(increment(self.world.client("s")), 0)
        self.assertEqual(increment(self.world.client("g7")), 0)

    def commits_while_flooded(self, who, attempts, seconds):
        self.world.client(who)
        flood = [f"WRITE /n|{i}" for i in range(5000)]
        with Flood(self.world.daemon.client(3), frames(flood)) as guest:
            self.wait_until_written("/n")
            for _ in range(10):
                begin, refused = time.monotonic(), 0
                while True:
                    self.world.start(who, "t")
                    self.world.ok(who, "READ /n|", "t")
                    self.world.ok(who, f"WRITE /{'mine' if who == 's' else 'n'}|1", "t")
                    if self.world.call(who, "END T|", "t") == b"OK\0":
                        break
                    refused += 1
                    self.assertLessEqual(refused, attempts, "refused too often")
                self.assertLess(time.monotonic() - begin, seconds)
            self.assertTrue(guest.running())

    def wait_until_written(self, path):
        deadline = time.monotonic() + 5
        while self.world.ok("s", f"READ {path}|") == b"0" and time.monotonic() < deadline:
            pass

    def test_a_privileged_transaction_while_a_guest_writes_its_node(self):
        self.commits_while_flooded("s", 500, 5)

    def test_another_guests_transaction_while_a_guest_writes_its_node(self):
        self.commits_while_flooded("g7", 500, 5)

    def test_a_privileged_transaction_while_a_guest_commits_to_its_node(self):
        end, problems = threading.Event(), []

        def hostile(client):
            try:
                while not end.is_set():
                    increment(client)
            except Exception as error:  # pylint: disable=broad-except
                problems.append(repr(error))
        threads = [threading.Thread(target=hostile, args=(self.world.daemon.client(domid),))
                   for domid in self.domains]
        for thread in threads:
            thread.start()
        try:
            refusals = [increment(self.world.client("s")) for _ in range(30)]
        finally:
            end.set()
            for thread in threads:
                thread.join()
        self.assertEqual(problems, [])
        self.assertLessEqual(max(refusals), 50)


class Turns(WorldTest):
    """A turn holds others up for its 20 ms and no longer, whatever its holder does. (The bounds
    are many times that: machines here may be slow.)"""

    domains = (3,)
    MINE = b"/local/domain/3/mine\0"

    def setUp(self):
        super().setUp()
        for request in ("WRITE /shut|x", "SET_PERMS /shut|n0|", "WRITE /local/domain/3/mine|0",
                        "SET_PERMS /local/domain/3/mine|n3|"):
            self.world.ok("s", request)

    def lose(self, client):
        """Loses a conflict over its own node; the transaction has asked about another's too."""
        tx = int(client.call(xs.TRANSACTION_START, b"\0")[:-1])
        client.call(xs.READ, self.MINE, tx)
        client.call(xs.READ, b"/shut\0", tx)
        client.call(xs.WRITE, self.MINE + b"%d" % tx)
        self.assertEqual(client.call(xs.TRANSACTION_END, b"T\0", tx), "EAGAIN")

    def is_soon_written(self):
        begin = time.monotonic()
        self.world.ok("s", "WRITE /shut|y")
        self.assertLess(time.monotonic() - begin, 2)

    def test_a_turn_that_begins_with_a_refused_start(self):
        guest = self.world.client("g3")
        self.lose(guest)
        self.assertEqual(guest.call(xs.TRANSACTION_START, b"\0", 999), "ENOENT")
        self.is_soon_written()
        for _ in range(12):
            guest.call(xs.TRANSACTION_START, b"\0")
        self.lose_again_at_the_quota(guest)
        self.is_soon_written()

    def lose_again_at_the_quota(self, guest):
        self.assertEqual(guest.call(xs.TRANSACTION_START, b"\0"), "ENOSPC")

    def test_one_turn_after_another(self):
        """The next turn begins in the batch of requests that ends the last one."""
        end, problems = threading.Event(), []

        def hostile(ring):
            try:
                tx = int(ring.call(xs.TRANSACTION_START, b"\0")[:-1])
                while not end.is_set():
                    ring.put(frame("READ", self.MINE, tx) + frame("READ", b"/shut\0", tx) +
                             frame("WRITE", self.MINE + b"%d" % tx) +
                             frame(xs.TRANSACTION_END, b"T\0", tx) +
                             frame(xs.TRANSACTION_START, b"\0"))
                    tx = int(ring.frames(5)[4][3][:-1])
                    time.sleep(0.005)
            except Exception as error:  # pylint: disable=broad-except
                problems.append(repr(error))
        thread = threading.Thread(target=hostile, args=(self.world.ring(3),))
        thread.start()
        try:
            time.sleep(0.2)
            for _ in range(20):
                self.is_soon_written()
        finally:
            end.set()
            thread.join()
        self.assertEqual(problems, [])

    def test_the_first_of_the_queue_does_not_read(self):
        self.world.ok("s", "WRITE /n|0")
        self.world.ok("s", "MKDIR /w|")
        holder, deaf, next_one = (self.world.client(name) for name in ("s1", "s2", "s3"))
        deaf.call(xs.WATCH, b"/w\0" + b"t" * 2000 + b"\0")
        deaf.recv()
        clients = {client: int(client.call(xs.TRANSACTION_START, b"\0")[:-1])
                   for client in (holder, deaf, next_one)}
        for client, tx in clients.items():
            client.call(xs.READ, b"/n\0", tx)
        self.world.ok("s", "WRITE /n|1")
        for client, tx in clients.items():
            self.assertEqual(client.call(xs.TRANSACTION_END, b"T\0", tx), "EAGAIN")
        holder.call(xs.TRANSACTION_START, b"\0")
        deaf.send(xs.TRANSACTION_START, b"\0")
        next_one.send(xs.TRANSACTION_START, b"\0")
        pump(self.world.client("s"), b"".join(frame("WRITE", b"/w/%d\0v" % i) for i in range(500)),
             500)
        self.assertEqual(next_one.recv()[0], xs.TRANSACTION_START)


class Quota(WorldTest):
    domains = (3,)

    def test_a_guest_that_may_ask_again_is_served(self):
        """It has sent its event already, and will not send another."""
        ring = self.world.ring(3)
        self.world.ok("s", "SET_QUOTA 3|outstanding|0|")
        ring.put(frame("GET_DOMAIN_PATH", b"3\0"))
        time.sleep(0.2)
        self.world.ok("s", "SET_QUOTA 3|outstanding|20|")
        self.assertEqual(ring.frames(1)[0][3], b"/local/domain/3\0")


if __name__ == "__main__":
    worlds.main()
