#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Kept connections when more dies than the server: the keeper, both, a server that only starts, the
client; and what is handed over just then. Nobody may be left in silence: a client goes on exactly,
or sees the end of its connection."""

import os
import random
import signal
import socket
import struct
import threading
import time
import unittest
from contextlib import closing, suppress

import kept
from kept import (KeptBox, alive, eventually, next_event, open_fds, read, read_pid,
                  sees_end, start_transaction, watch, write, xs)

GUEST = 3


class KeptTest(unittest.TestCase):
    def setUp(self):
        self.random = kept.say_seed()
        self.box = self.make_box()
        self.addCleanup(self.box.stop)
        self.box.start()

    def make_box(self):
        return KeptBox()

    def kept_clients(self):
        """One that watches, one that has an open transaction, one that is idle; kept by now."""
        self.watching, self.committing, self.idle = (self.box.client() for _ in range(3))
        watch(self.watching, "/watched")
        self.tx = start_transaction(self.committing)
        self.assertEqual(write(self.committing, "/in/transaction", b"x", self.tx), b"OK\0")
        self.box.wait_until_all_kept()
        return self.watching, self.committing, self.idle

    def expect_event(self, number=0):
        self.box.write_once(f"/watched/{number}", b"%d" % number)
        self.assertEqual(next_event(self.watching), f"/watched/{number}")

    def expect_all_go_on(self):
        """None has noticed anything, but for the transaction of a server that is dead."""
        self.expect_event(random.randrange(2**32))
        self.assertTrue(self.watching.quiet(0.05), "one event only")
        self.assertEqual(read(self.idle, "/"), b"")
        self.assertEqual(write(self.committing, "/in/transaction", b"y", self.tx), b"OK\0")
        self.assertEqual(self.committing.call(xs.TRANSACTION_END, b"T\0", self.tx), "EAGAIN")
        self.assertEqual(read(self.committing, "/in/transaction"), "ENOENT")
        self.tx = start_transaction(self.committing)

    def suspend_keeper(self):
        """No server is started until `resume_keeper`."""
        keeper = self.box.keeper_pid()
        os.kill(keeper, signal.SIGSTOP)
        self.addCleanup(self.resume_keeper)
        self.box.wait_until_stopped(keeper)

    def resume_keeper(self):
        if alive(self.box.keeper_pid()):
            os.kill(self.box.keeper_pid(), signal.SIGCONT)


class ServerKilled(KeptTest):
    def test_all_go_on(self):
        self.kept_clients()
        for _ in range(5):
            self.box.kill()
            self.expect_all_go_on()

    def test_who_has_asked_twice_goes_on_however_young(self):
        for _ in range(20):
            with closing(self.box.client()) as client:
                for _ in range(2):
                    self.assertEqual(read(client, "/"), b"")
                self.box.kill()
                self.assertEqual(read(client, "/"), b"")

    def test_while_it_starts(self):
        """It is killed 0 to 20 ms after the one before, again and again."""
        self.kept_clients()
        more = [self.box.client() for _ in range(20)]
        for number, client in enumerate(more[:10]):
            watch(client, f"/more/{number}")
        self.box.wait_until_all_kept()
        for number in range(30):
            self.box.kill()
            for _ in range(self.random.randrange(1, 4)):
                time.sleep(self.random.uniform(0, 0.02))
                self.box.kill_child()
            self.box.write_once("/alive", b"%d" % number)
            if number % 3 == 0:
                self.expect_all_go_on()
        self.expect_all_go_on()
        for number, client in enumerate(more):
            self.box.write_once(f"/more/{number}", b"x")
            if number < 10:
                self.assertEqual(next_event(client), f"/more/{number}")
            self.assertEqual(read(client, f"/more/{number}"), b"x")
            self.assertTrue(client.quiet())

    def test_nothing_but_the_commit_of_an_open_transaction_fails(self):
        """What libxl does: it makes a node and sets its permissions."""
        client = self.box.client()
        tx = start_transaction(client)
        self.assertEqual(write(client, "/made/in/transaction", b"x", tx), b"OK\0")
        self.box.kill()
        self.assertEqual(client.call(xs.SET_PERMS, b"/made/in/transaction\0n0\0", tx), b"OK\0")
        self.assertEqual(client.call(xs.RM, b"/made/in/other\0", tx), b"OK\0")
        self.assertEqual(client.call(xs.MKDIR, b"/made/in/too\0", tx), b"OK\0")
        self.assertEqual(client.call(xs.TRANSACTION_END, b"T\0", tx), "EAGAIN")
        self.assertEqual(read(client, "/made"), "ENOENT")

    def test_who_asks_while_none_is_there_is_answered(self):
        clients = self.kept_clients()
        self.suspend_keeper()
        self.box.kill()
        for client in clients:
            client.send(xs.READ, b"/\0", req=7)
            client.send(xs.MKDIR, b"/made\0", req=8)
        self.assertTrue(self.idle.quiet(0.1))
        self.resume_keeper()
        for client in clients:
            self.assertEqual(client.recv(), (xs.READ, 7, 0, b""))
            self.assertEqual(client.recv(), (xs.MKDIR, 8, 0, b"OK\0"))
        self.expect_all_go_on()

    def test_what_was_not_sent_comes_though_nobody_else_wakes_the_server(self):
        """More events than the socket holds; it is read after the kill, when all is silent."""
        self.kept_clients()
        for number in range(1000):
            self.assertEqual(write(self.idle, f"/watched/{number}", b"x"), b"OK\0")
        self.idle.close()
        self.committing.close()
        eventually(lambda: len(self.box.inspect()["connections"]) == 2, "only the watcher")
        dead = self.box.kill()
        self.box.next_server_pid(dead)
        time.sleep(kept.KEPT_AFTER)
        for number in range(1000):
            self.assertEqual(next_event(self.watching), f"/watched/{number}")
        self.assertTrue(self.watching.quiet(0.1))

    def test_what_was_asked_before_the_end_is_done(self):
        """More replies than are sent at once, so the last request waits in the server, living or
        killed, when it could see that the client sends no more."""
        for number, is_killed in enumerate((False, True)):
            client = self.box.client()
            self.assertEqual(write(client, "/large", b"x" * 4000), b"OK\0")
            self.box.wait_until_all_kept()
            last = struct.pack("=IIII", xs.WRITE, 0, 0, 7) + b"/last\0%d" % number
            client.send_raw((struct.pack("=IIII", xs.READ, 0, 0, 7) + b"/large\0") * 500 + last)
            client.sock.shutdown(socket.SHUT_WR)
            with closing(self.box.client()) as other:
                self.assertEqual(read(other, "/large"), b"x" * 4000)  # all that was received by now
            if is_killed:
                self.box.kill()
            self.assertTrue(sees_end(client))
            with closing(self.box.client()) as other:
                self.assertEqual(read(other, "/last"), b"%d" % number)

    def test_what_was_asked_by_who_hangs_up_is_done(self):
        """With an event that it never took: the socket tells that before what it was sent."""
        client = self.box.client()
        watch(client, "/untaken")
        self.box.wait_until_all_kept()
        self.box.write_once("/untaken", b"x")
        self.box.suspend_server()
        client.send(xs.WRITE, b"/last\0x")
        client.close()
        self.box.resume_server()
        with closing(self.box.client()) as other:
            eventually(lambda: read(other, "/last") == b"x", "what was asked last")

    def test_requests_behind_a_check(self):
        """CONTROL check commits what was asked before it in the same send, for which the client's
        file grows, or gives the client up."""
        for before, count in ((struct.pack("=IIII", xs.READ, 1, 0, 7) + b"/large\0", 5),
                              (struct.pack("=IIII", xs.TRANSACTION_START, 1, 0, 1) + b"\0", 300)):
            client = self.box.client()
            self.assertEqual(write(client, "/large", b"x" * 4000), b"OK\0")
            self.box.wait_until_all_kept()
            server = self.box.server_pid()
            client.send_raw(before * count +
                            struct.pack("=IIII", xs.CONTROL, 2, 0, 6) + b"check\0" +
                            struct.pack("=IIII", xs.READ, 3, 0, 7) + b"/large\0" +
                            struct.pack("=IIII", xs.WRITE, 4, 0, 6) + b"/last\0")
            for _ in range(count):
                self.assertEqual(client.recv()[1], 1)
            self.assertEqual(client.recv()[:2], (xs.CONTROL, 2))
            self.assertEqual(client.recv(), (xs.READ, 3, 0, b"x" * 4000))
            self.assertEqual(client.recv(), (xs.WRITE, 4, 0, b"OK\0"))
            self.assertEqual(self.box.server_pid(), server, "it did not die over this")

    def test_who_leaves_while_none_is_there_leaves_nothing(self):
        self.kept_clients()
        leaving = [self.box.client() for _ in range(10)]
        for number, client in enumerate(leaving):
            watch(client, f"/leaving/{number}")
            start_transaction(client)
        before = self.counts()
        self.suspend_keeper()
        self.box.kill()
        for client in leaving:
            client.close()
        self.resume_keeper()
        eventually(lambda: self.box.watches() == ["/watched"], "the watches to be gone")
        after = self.counts()
        self.assertEqual(before["connections"] - after["connections"], 10)
        self.assertEqual(before["transactions"] - after["transactions"], 10)
        self.expect_all_go_on()

    def counts(self):
        document = self.box.inspect()
        return {kind: len(document[kind]) for kind in ("connections", "transactions", "watches")}

    def test_who_left_before_is_not_back_afterwards(self):
        self.kept_clients()
        with closing(xs.Client(self.box.rundir)) as leaving:
            watch(leaving, "/leaving")
        eventually(lambda: self.box.watches() == ["/watched"], "the watch to be gone")
        self.box.kill()
        self.assertEqual(self.box.watches(), ["/watched"])
        self.expect_all_go_on()

    def test_whom_the_server_closes_sees_it_though_the_keeper_has_a_duplicate(self):
        for client in self.kept_clients():
            client.send_raw(struct.pack("=IIII", xs.WRITE, 0, 0, 4097))
            self.assertTrue(sees_end(client, seconds=3))
        for client in self.kept_clients():
            self.box.kill()
            client.send_raw(struct.pack("=IIII", xs.WRITE, 0, 0, 4097))
            self.assertTrue(sees_end(client, seconds=3))
        eventually(lambda: self.box.watches() == [], "the watches to be gone")

    def test_an_orderly_end_closes_everybody(self):
        clients = self.kept_clients()
        self.box.kill()
        self.expect_all_go_on()
        os.kill(self.box.keeper_pid(), signal.SIGTERM)
        for client in clients:
            self.assertTrue(sees_end(client))
        self.assertEqual(self.box.process.wait(10), 0)

    def test_a_watch_that_is_gone_stays_gone(self):
        self.kept_clients()
        watch(self.idle, "/idle")
        answer = self.watching.call(xs.UNWATCH, b"/watched\0token\0", events=[])
        self.assertEqual(answer, b"OK\0")
        self.box.kill()
        self.box.write_once("/watched/no/more", b"x")
        self.box.write_once("/idle", b"x")
        self.assertEqual(next_event(self.idle), "/idle")
        self.assertTrue(self.watching.quiet(0.1))
        self.assertEqual(self.box.watches(), ["/idle"])

    def test_nothing_leaks(self):
        """200 clients come, watch and go, some of them while no server is there."""
        self.kept_clients()
        self.box.kill()
        self.expect_all_go_on()
        before = self.sizes()
        for number in range(200):
            client = self.box.client()
            watch(client, f"/cycle/{number}")
            if number % 10 == 3:
                self.box.kill()
            elif number % 10 == 7:
                self.suspend_keeper()
                self.box.kill()
                client.close()
                self.resume_keeper()
            client.close()
        self.box.kill()
        self.expect_all_go_on()
        try:
            eventually(lambda: self.sizes() == before, "sizes as before", seconds=5)
        except AssertionError:
            self.assertEqual(self.sizes(), before)
        self.assertEqual(self.box.watches(), ["/watched"])

    def sizes(self):
        """Descriptors of the keeper and of the server, files in the area."""
        server = self.box.server_pid()
        return (open_fds(self.box.keeper_pid()), open_fds(server) if alive(server) else None,
                sum(len(files) for _, _, files in os.walk(self.box.area)))

    def test_a_keeper_without_descriptors(self):
        """Whoever cannot be kept sees an end at the kill; the others go on."""
        self.kept_clients()
        keeper = self.box.keeper_pid()
        highest = max(int(fd) for fd in os.listdir(f"/proc/{keeper}/fd"))
        old = kept.prlimit(keeper, highest + 6)
        more = [self.box.client() for _ in range(20)]
        for number, client in enumerate(more):
            watch(client, f"/more/{number}")
        kept.wait_until_kept()
        kept.prlimit(keeper, *old)
        self.box.kill()
        self.expect_all_go_on()
        going_on = 0
        for number, client in enumerate(more):
            self.box.write_once(f"/more/{number}", b"x")
            try:
                self.assertEqual(next_event(client), f"/more/{number}")
                going_on += 1
            except xs.Closed:
                pass
        self.assertEqual(len(self.box.watches()), going_on + 1)
        self.assertLess(going_on, 20, "the limit was none")


class CloseClients(KeptTest):
    def make_box(self):
        return KeptBox("--close-clients")

    def test_a_kill_closes_everybody(self):
        clients = self.kept_clients()
        self.box.kill()
        for client in clients:
            self.assertTrue(sees_end(client, seconds=3))
        self.assertEqual(self.box.watches(), [])
        self.assertNotIn("unrecognized", self.box.log())


class HandOver(KeptTest):
    """Many clients set their first watch, by which they become kept, while kills fall."""

    KILLS = 40
    THREADS = 4

    def setUp(self):
        super().setUp()
        self.stopping = threading.Event()
        self.living, self.closed, self.wrong = [], [], []

    def test_each_goes_on_or_sees_its_end(self):
        threads = [threading.Thread(target=self.connect_again_and_again, args=(number,))
                   for number in range(self.THREADS)]
        for thread in threads:
            thread.start()
        for number in range(self.KILLS):
            time.sleep(self.random.uniform(0, 0.06))
            self.box.kill_child()
            self.box.write_once("/alive", b"%d" % number)
        self.stopping.set()
        for thread in threads:
            thread.join()
        self.assertEqual(self.wrong, [])
        going_on = [path for client, path in self.living if self.goes_on(client, path)]
        self.assertEqual(self.wrong, [])
        for client, path in self.living:
            if path in going_on:
                self.assertTrue(client.quiet(), f"{path}: more than one event")
        self.assertEqual(self.box.watches(), sorted(going_on))
        print(f"{len(going_on)} of {len(going_on) + len(self.closed)} went on",
              file=kept.sys.stderr)
        self.assertGreater(len(going_on), self.KILLS, "hardly anybody was there")

    def connect_again_and_again(self, thread):
        chance = random.Random(f"{kept.SEED} {thread}")
        for number in range(200):
            if self.stopping.is_set():
                return
            path = f"/storm/{thread}-{number}"
            try:
                self.connect(path, chance)
            except (AssertionError, OSError) as error:
                self.wrong.append(f"{path}: {error!r}")
            time.sleep(chance.uniform(0, 0.04))

    def connect(self, path, chance):
        """An answer that came in a later turn than the watch says that the client is kept."""
        client = xs.Client(self.box.rundir)
        self.addCleanup(client.close)
        try:
            time.sleep(chance.choice((0, 0, 0.001, 0.01)))
            watch(client, path)
            assert read(client, "/") == b"", "garbage"
        except (xs.Closed, BrokenPipeError, ConnectionResetError):
            self.closed.append(path)
            return
        self.living.append((client, path))

    def goes_on(self, client, path):
        """All who lived to be kept must."""
        try:
            self.box.write_once(path, b"x")
            event = next_event(client)
            if event != path:
                self.wrong.append(f"{path}: the event is {event}")
            return True
        except AssertionError as error:
            self.wrong.append(f"{path}: {error}")
        except xs.Closed:
            self.wrong.append(f"{path}: closed, though it was kept")
        return False


class Busy(threading.Thread):
    """One client that makes all its server's time its own, so that kills fall between executing,
    committing and sending. What it is sent must be as when nobody dies, byte for byte."""

    REQUESTS = 40

    def __init__(self, client, path):
        super().__init__()
        self.client, self.path = client, path
        self.stopping, self.wrong, self.bursts = threading.Event(), "", 0
        client.call(xs.MKDIR, path.encode() + b"\0")
        watch(client, path)

    def run(self):
        try:
            while not self.stopping.is_set():
                self.burst()
        except (AssertionError, OSError, xs.Closed) as error:
            self.wrong = f"after {self.bursts} bursts: {error!r}"

    def burst(self):
        """The value that the last burst left is read first."""
        value = b"%d" % (self.bursts + 1)
        last = f"{self.path}/{self.REQUESTS - 1}\0".encode()
        requests = self.frame(xs.READ, 0, last) if self.bursts else b""
        answers = self.frame(xs.READ, 0, b"%d" % self.bursts) if self.bursts else b""
        for number in range(self.REQUESTS):
            path = f"{self.path}/{number}\0".encode()
            requests += self.frame(xs.WRITE, number, path + value)
            answers += (self.frame(xs.WATCH_EVENT, None, path + b"token\0") +
                        self.frame(xs.WRITE, number, b"OK\0"))
        self.client.send_raw(requests)
        self.expect(answers)
        self.bursts += 1

    def frame(self, op, number, payload):
        request_id = 0 if number is None else self.bursts * self.REQUESTS + number
        return struct.pack("=IIII", op, request_id, 0, len(payload)) + payload

    def expect(self, answers):
        got = b""
        while len(got) < len(answers):
            got += self.client.receive(len(answers) - len(got))
        if got != answers:
            place = len(os.path.commonprefix([got, answers]))
            around = slice(max(place - 40, 0), place + 60)
            raise AssertionError(f"at byte {place}: {got[around]}, not {answers[around]}")


class ServerKilledAtWork(KeptTest):
    KILLS = int(os.environ.get("CLIENTS_KILLS", "40"))

    def test_the_bytes_are_as_if_it_lived(self):
        busy = [Busy(kept.RawClient(self.box.rundir), f"/busy/{name}") for name in "ab"]
        for client in busy:
            self.addCleanup(client.client.close)
            client.start()
        for _ in range(self.KILLS):
            time.sleep(self.random.uniform(0, 0.03))
            self.box.kill()
            if self.random.random() < 0.2:
                time.sleep(self.random.uniform(0, 0.02))
                self.box.kill_child()
            if any(client.wrong for client in busy):
                break
        for client in busy:
            client.stopping.set()
            client.join()
            self.assertFalse(client.wrong, client.wrong)
            self.assertGreater(client.bursts, 10)  # under ASan a server may not live for one
            self.assertTrue(client.client.quiet(0.05))
        self.assertEqual(self.box.watches(), ["/busy/a", "/busy/b"])


class KeeperKilled(KeptTest):
    """Once for each way to run a keeper."""

    def kill_keeper(self):
        """Returns the server's pid."""
        keeper, server = self.box.keeper_pid(), self.box.server_pid()
        os.kill(keeper, signal.SIGKILL)
        if self.box.process.pid == keeper:
            self.box.process.wait(10)
        eventually(lambda: not alive(keeper), "the keeper's end")
        return server

    def test_the_server_serves_on_alone(self):
        self.kept_clients()
        self.box.kill()
        self.expect_all_go_on()
        server = self.kill_keeper()
        self.expect_event(1)
        self.assertEqual(self.committing.call(xs.TRANSACTION_END, b"T\0", self.tx), b"OK\0")
        self.assertEqual(read(self.idle, "/"), b"")
        fresh = [self.box.client() for _ in range(50)]  # there is nobody to hand them to
        for number, client in enumerate(fresh):
            watch(client, f"/fresh/{number}")
        kept.wait_until_kept()
        for number, client in enumerate(fresh):
            self.box.write_once(f"/fresh/{number}", b"x")
            self.assertEqual(next_event(client), f"/fresh/{number}")
        self.assertTrue(alive(server))
        self.assertEqual(self.box.server_pid(), server)

    def test_and_then_the_server(self):
        """All see the end, and whoever starts it again finds all that was answered."""
        clients = self.kept_clients()
        server = self.kill_keeper()
        for number in range(20):
            self.expect_event(number)
        os.kill(server, signal.SIGKILL)
        for client in clients:
            self.assertTrue(sees_end(client))
        eventually(lambda: not alive(server), "the server's end")
        with self.assertRaises(ConnectionRefusedError):
            self.box.client()
        self.box.start()
        self.expect_state_without_clients()

    def expect_state_without_clients(self):
        client = self.box.client()
        for number in range(20):
            self.assertEqual(read(client, f"/watched/{number}"), b"%d" % number)
        self.assertEqual(read(client, "/in/transaction"), "ENOENT")
        self.assertEqual(self.box.watches(), [])
        self.assertEqual(self.box.inspect()["transactions"], [])
        self.assertEqual(client.call(xs.CONTROL, b"check\0"), b"OK\0")
        self.kept_clients()  # and there is a keeper again
        self.box.kill()
        self.expect_all_go_on()


class DaemonisedKeeperKilled(KeeperKilled):
    def make_box(self):
        return KeptBox(mode=("-D",))

    def setUp(self):
        super().setUp()
        self.assertEqual(self.box.process.wait(10), 0)


class Service(threading.Thread):
    """What systemd does with our unit (Restart=always, KillMode=mixed): when the main process has
    ended, it kills what is left of the control group, and starts it again."""

    RESTART_SECONDS = 0.05

    def __init__(self, box):
        super().__init__()
        self.box, self.stopping = box, threading.Event()

    def run(self):
        while True:
            self.box.process.wait()
            if self.stopping.is_set():
                return
            self.box.kill_all()
            time.sleep(self.RESTART_SECONDS)
            self.box.start(wait=False)

    def stop(self):
        self.stopping.set()
        os.kill(self.box.process.pid, signal.SIGKILL)
        self.join()


class Guest(threading.Thread):
    """Writes and reads on its ring all the time, and is told of each of its writes once."""

    def __init__(self, box):
        super().__init__()
        self.client, self.stopping = box.guest(GUEST), threading.Event()
        self.asked, self.wrong = 0, ""
        self.path = f"/local/domain/{GUEST}/data"

    def prepare(self, toolstack):
        write(toolstack, self.path, b"")
        toolstack.call(xs.SET_PERMS, f"{self.path}\0b{GUEST}\0".encode())
        watch(self.client, self.path)

    def run(self):
        try:
            while not self.stopping.is_set():
                self.ask()
        except (AssertionError, OSError, xs.Closed) as error:
            self.wrong = repr(error)

    def ask(self):
        self.asked += 1
        value, events = b"%d" % self.asked, []
        payload = self.path.encode() + b"\0" + value
        assert self.client.call(xs.WRITE, payload, events=events) == b"OK\0"
        assert self.client.call(xs.READ, self.path.encode() + b"\0", events=events) == value
        assert len(events) == 1, events
        time.sleep(0.001)


class BothKilled(KeptTest):
    def make_box(self):
        return kept.HostedKeptBox()

    def test_who_starts_it_again_finds_all(self):
        """Keeper and server in either order, at once or not, and the keeper alone."""
        service = Service(self.box)
        guest = Guest(self.box)
        with closing(xs.Client(self.box.rundir)) as toolstack:
            guest.prepare(toolstack)
        service.start()
        self.addCleanup(service.stop)
        guest.start()
        try:
            for number in range(12):
                self.round(number)
        finally:
            guest.stopping.set()
            guest.join()
        self.assertEqual(guest.wrong, "")
        self.assertGreater(guest.asked, 50)

    def round(self, number):
        clients = self.kept_clients()
        self.assertEqual(write(self.idle, f"/round/{number}", b"done"), b"OK\0")
        before = self.box.processes()
        keeper, server = self.box.keeper_pid(), self.box.server_pid()
        victims = ((keeper, server), (server, keeper), (keeper,))[number % 3]
        for pid in victims:
            with suppress(ProcessLookupError):  # systemd was quicker
                os.kill(pid, signal.SIGKILL)
            time.sleep(self.random.choice((0, 0, 0.005)) if number >= 6 else 0)
        for client in clients:
            self.assertTrue(sees_end(client))
        eventually(lambda: read_pid(self.box.pid_file) not in (None, keeper), "another keeper")
        self.assertNotIn(self.box.keeper_pid(), before)
        self.expect_state(number)

    def expect_state(self, number):
        """Connects in vain until the new keeper listens."""
        client = eventually(self.connected, "to be served again")
        for earlier in range(number + 1):
            self.assertEqual(read(client, f"/round/{earlier}"), b"done")
        self.assertEqual(read(client, "/in/transaction"), "ENOENT")
        self.assertEqual(self.box.watches(), [])
        client.close()

    def connected(self):
        try:
            return self.box.client()
        except (ConnectionRefusedError, FileNotFoundError):
            return None


if __name__ == "__main__":
    unittest.main()
