#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Room, descriptors or the keeper's attention are short, or there are more transactions or
newcomers than usual: a client is refused or kept later, and nobody else pays for it."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from contextlib import suppress

from kept import (HostedKeptBox, KeptBox, Trace, alive, eventually, next_event, read, read_text,
                  start_transaction, watch, write, xs)
from box import Box, cpu_seconds

GUEST = 3
OPEN_ON_A_RING = 4096  # the record of a ring's connection has room for no more transactions
OPEN_IF_KEPT = 256  # nor has the file of a kept client for more than these
ROUNDS = 3000  # of a transaction's start and end; each start asks for its client to be kept
IDLE_CPU = 0.15  # of a core
IDLE_CALLS = 200  # a second
ACCEPTED_A_TURN = 64
NEWCOMERS = 400  # fit into the backlog

needs_strace = unittest.skipUnless(shutil.which("strace"), "there is no strace")


def end_transaction(client, tx):
    answer = client.call(xs.TRANSACTION_END, b"F\0", tx)
    assert answer == b"OK\0", answer


def start_and_end_transactions(client):
    for _ in range(ROUNDS):
        end_transaction(client, start_transaction(client))


class Shortage(unittest.TestCase):
    def start(self, box):
        self.box = box
        self.addCleanup(box.stop)
        box.start()

    def trace_server(self):
        trace = Trace(self.box.server_pid(), os.path.join(self.box.rundir, "strace"))
        self.addCleanup(trace.stop)
        return trace

    def expect_idle(self):
        server = self.box.server_pid()
        before = cpu_seconds(server)
        time.sleep(1)
        self.assertLess(cpu_seconds(server) - before, IDLE_CPU, "CPU in a second without requests")


class TransactionsOnARing(Shortage):
    """One that has more open than can be recorded is refused; it does not end the server."""

    def setUp(self):
        self.start(HostedKeptBox())
        self.toolstack = self.box.client()
        self.server = self.box.server_pid()

    def expect_refusal(self, client):
        client.sock.settimeout(3)
        open_tx = []
        while len(open_tx) <= OPEN_ON_A_RING:
            try:
                answer = client.call(xs.TRANSACTION_START, b"\0")
            except TimeoutError:
                self.fail(f"no answer with {len(open_tx)} open; log:\n{self.box.log()[-500:]}")
            if answer == "ENOSPC":
                break
            open_tx.append(int(answer[:-1]))
        self.assertLessEqual(len(open_tx), OPEN_ON_A_RING)
        self.assertEqual(self.box.server_pid(), self.server, "it did not die over this")
        self.assertEqual(read(self.toolstack, "/"), b"")
        end_transaction(client, open_tx.pop())
        open_tx.append(start_transaction(client))
        self.box.kill()
        end_transaction(client, open_tx.pop())
        open_tx.append(start_transaction(client))
        self.assertEqual(client.call(xs.TRANSACTION_START, b"\0"), "ENOSPC")
        self.assertEqual(read(self.toolstack, "/"), b"")

    def test_of_dom0s_kernel(self):
        self.expect_refusal(self.box.client(0))

    def test_of_a_guest_whose_quota_allows_more(self):
        answer = self.toolstack.call(xs.CONTROL, b"quota\0set\0transactions\000100000\0")
        self.assertEqual(answer, b"OK\0")
        self.expect_refusal(self.box.guest(GUEST))


class FullTmpfs(Shortage):
    """There is no room for another client's file; the journal has some."""

    VALUE = b"x" * 2000

    def setUp(self):
        self.mount = tempfile.mkdtemp(prefix="xs.short.", dir="/dev/shm")
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "short", self.mount], check=True)
        self.addCleanup(self.unmount)
        self.filler = os.path.join(self.mount, "filler")
        self.start(KeptBox("--area", os.path.join(self.mount, "area")))
        self.writer = self.box.client()
        self.write_all()  # for which the journal grows by more than it needs

    def unmount(self):
        subprocess.run(["umount", self.mount], check=True)
        os.rmdir(self.mount)

    def write_all(self):
        for number in range(50):
            self.assertEqual(write(self.writer, f"/all/{number}", self.VALUE), b"OK\0")

    def fill(self):
        with open(self.filler, "ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"f" * 4096)

    def test_who_asks_to_be_kept_again_and_again_in_vain_costs_nothing_later(self):
        self.box.wait_until_all_kept()  # the writer
        self.fill()
        client = self.box.client()
        start_and_end_transactions(client)
        self.expect_idle()
        os.unlink(self.filler)
        self.box.wait_until_all_kept()
        self.box.kill()
        self.assertEqual(read(client, "/all/0"), self.VALUE)

    def test_who_was_given_up_is_kept_again_when_there_is_room(self):
        """A watcher that does not read: its file would have to grow."""
        client = self.box.client()
        watch(client, "/all", b"t" * 1000)
        self.box.wait_until_all_kept()
        self.fill()
        eventually(self.is_watcher_given_up, "that it is given up")
        os.unlink(self.filler)
        while not client.quiet(0.2):
            next_event(client)
        eventually(self.is_watcher_kept, "that it is kept again", seconds=5)
        self.box.kill()
        self.box.write_once("/all/0", b"after the kill")
        self.assertEqual(next_event(client), "/all/0")
        self.assertTrue(client.quiet(0.05), "one event only")

    def is_watcher_given_up(self):
        self.write_all()
        return not self.is_watcher_kept()

    def is_watcher_kept(self):
        watcher, = (one for one in self.box.inspect()["connections"] if one["watches"])
        return bool(watcher["kept"])


class TransactionsOfASocket(Shortage):
    """With so many open it cannot be kept, and it is not tried all the time either."""

    @needs_strace
    def test_an_idle_server_makes_few_calls(self):
        self.start(KeptBox())
        client = self.box.client()
        open_tx = [start_transaction(client) for _ in range(OPEN_IF_KEPT + 44)]
        start_and_end_transactions(client)
        trace = self.trace_server()
        time.sleep(1)
        trace.stop()
        self.assertLess(len(trace.calls()), IDLE_CALLS)
        for tx in open_tx:
            end_transaction(client, tx)
        self.box.wait_until_all_kept()
        self.box.kill()
        self.assertEqual(read(client, "/"), b"")


class KeeperStopped(Shortage):
    """More clients than the channel to it has room for wait to be kept."""

    CLIENTS = 900

    def test_they_cost_nothing_and_are_kept_when_it_goes_on(self):
        self.start(KeptBox())
        keeper = self.box.keeper_pid()
        os.kill(keeper, signal.SIGSTOP)
        self.addCleanup(self.resume, keeper)
        self.box.wait_until_stopped(keeper)
        clients = [self.box.client() for _ in range(self.CLIENTS)]
        for client in clients:
            for _ in range(2):
                self.assertEqual(read(client, "/"), b"")
        self.expect_idle()
        self.resume(keeper)
        self.box.wait_until_all_kept()
        self.box.kill()
        for client in clients:
            self.assertEqual(read(client, "/"), b"")

    def resume(self, keeper):
        if alive(keeper):
            os.kill(keeper, signal.SIGCONT)


class FilesOfClosedClients(Shortage):
    """Keeper and server were killed; the next daemon keeps nobody, and leaves no file of theirs."""

    def test_with_close_clients(self):
        self.expect_none_left("-D", "-N", "--supervise", "--close-clients")

    def test_without_keeper(self):
        self.expect_none_left("-D", "-N")

    def expect_none_left(self, *mode):
        self.start(KeptBox())
        for number in range(5):
            watch(self.box.client(), f"/{number}")
        self.box.wait_until_all_kept()
        self.assertGreaterEqual(len(self.files()), 5)
        self.box.kill_all()
        self.box.mode = mode
        self.box.start()
        self.assertEqual(self.files(), [])

    def files(self):
        with suppress(FileNotFoundError):
            return os.listdir(os.path.join(self.box.area, "clients"))
        return []


class Newcomers(Shortage):
    """However many come at once, those that are there get their turn."""

    @needs_strace
    def test_some_are_accepted_in_each_turn(self):
        self.start(KeptBox())
        steady = self.box.client()
        self.assertEqual(read(steady, "/"), b"")
        self.box.suspend_server()
        steady.send(xs.READ, b"/\0")
        newcomers = [self.box.client() for _ in range(NEWCOMERS)]
        trace = self.trace_server()
        self.box.resume_server()
        for client in newcomers:
            self.assertEqual(read(client, "/"), b"")
        self.assertEqual(steady.recv()[3], b"")
        trace.stop()
        turns = [0]
        for call in trace.calls():
            if call["name"] in ("epoll_wait", "epoll_pwait"):
                turns.append(0)
            elif call["name"] == "accept4" and not call["result"].startswith("-"):
                turns[-1] += 1
        self.assertEqual(sum(turns), NEWCOMERS)
        self.assertLessEqual(max(turns), ACCEPTED_A_TURN)


class WithoutStandardDescriptors(Shortage):
    """Who starts it has closed descriptors 0, 1 and 2: no socket or file of its own takes their
    place, to be written to or replaced."""

    CLOSING = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")

    def make_box(self, *mode, has_log=True):
        self.box = Box(mode=mode, prefix=self.CLOSING)
        self.addCleanup(self.box.stop)
        if has_log:
            self.box.options = ["--log", os.path.join(self.box.rundir, "its.log")]
        return self.box

    def test_daemon(self):
        self.assertEqual(self.make_box("-D", has_log=False).run().returncode, 0)
        self.expect_served(2)

    def test_foreground(self):
        self.make_box("-D", "-N").start()
        self.expect_served(1)

    def test_foreground_with_keeper(self):
        self.make_box("-D", "-N", "--supervise").start()
        self.expect_served(2)

    def test_foreground_that_logs_to_none_of_them(self):
        self.make_box("-D", "-N", has_log=False).start()
        self.expect_served(1)

    def expect_served(self, processes):
        client = self.box.client()
        self.assertEqual(write(client, "/first", b"here"), b"OK\0")
        self.assertEqual(len(self.box.processes()), processes)
        for pid in self.box.processes():
            self.assertEqual(self.standard_descriptors(pid) - {"/dev/null"}, set())
        second = Box("--area", os.path.join(self.box.rundir, "other"), rundir=self.box.rundir)
        second.pid_file = os.path.join(self.box.rundir, "second.pid")
        self.assertGreater(second.run().returncode, 0)
        self.assertRegex(read_text(self.box.pid_file), r"\A\d+\n\Z")
        self.assertEqual(read(client, "/first"), b"here")
        self.assertEqual(read(self.box.client(), "/first"), b"here")

    def standard_descriptors(self, pid):
        """What they are, of those that are open."""
        found = set()
        for number in range(3):
            with suppress(FileNotFoundError):
                found.add(os.readlink(f"/proc/{pid}/fd/{number}"))
        return found


if __name__ == "__main__":
    unittest.main()
