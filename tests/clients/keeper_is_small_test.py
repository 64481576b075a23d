#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The keeper stays what it is, so that nothing can happen to it: strace sees which system calls it
makes under load and kills, /proc how large it is with 500 kept clients."""

import collections
import os
import re
import threading
import time
import unittest

import kept
from kept import (KeptBox, Trace, eventually, next_event, open_fds, read, read_text,
                  start_transaction, watch, xs)

CLIENTS = 500
KILLS = 20
GROWTH_KB = 256  # of its own memory: half a KiB for each client
LOAD_THREADS = 3

CALLS = {
    # It waits, and is told of signals, of the server's readiness and of sockets to keep.
    "poll", "ppoll", "restart_syscall", "read", "recvmsg",
    # It starts a server: posix_spawn.
    "mmap", "munmap", "rt_sigprocmask", "clone", "clone3", "vfork",
    # A server has died.
    "wait4", "waitid", "kill",
    # Descriptors of its own.
    "close", "fcntl",
    # A line for the log.
    "write", "sendto", "getpid", "clock_gettime",
}
# What may be done to a client's socket. Nothing else: its bytes are the server's.
CALLS_ON_CLIENTS = {"poll", "ppoll", "close", "fcntl"}

STACK = re.compile(r"MAP_PRIVATE\|MAP_ANONYMOUS\|MAP_STACK\b")


class Load(threading.Thread):
    """Writes, reads, commits and sets watches for as long as the test lasts."""

    def __init__(self, box, number):
        super().__init__()
        self.box, self.path = box, f"/load/{number}"
        self.stopping, self.wrong, self.rounds = threading.Event(), "", 0
        self.client = box.client()
        watch(self.client, self.path)

    def run(self):
        try:
            while not self.stopping.is_set():
                self.ask()
                self.rounds += 1
        except (AssertionError, OSError, xs.Closed) as error:
            self.wrong = repr(error)

    def ask(self):
        events = []
        value = b"%d" % self.rounds
        payload = self.path.encode() + b"\0" + value
        assert self.client.call(xs.WRITE, payload, events=events) == b"OK\0"
        tx = start_transaction(self.client, events)
        assert self.client.call(xs.READ, self.path.encode() + b"\0", tx, events) == value
        assert self.client.call(xs.TRANSACTION_END, b"F\0", tx, events) == b"OK\0"
        assert len(events) == 1, events
        time.sleep(0.002)


class Keeper(unittest.TestCase):
    def setUp(self):
        self.random = kept.say_seed()
        self.box = KeptBox()
        self.addCleanup(self.box.stop)
        self.box.start()
        self.load = []
        self.box.kill()  # from here on nothing is done for the first time
        self.box.write_once("/all", b"first")
        self.keeper = self.box.keeper_pid()

    def own_kb(self):
        """Memory that is there for the keeper: no program's file."""
        status = read_text(f"/proc/{self.keeper}/status")
        return sum(map(int, re.findall(r"^Rss(?:Anon|Shmem):\s*(\d+) kB$", status, re.MULTILINE)))

    def start_load(self):
        self.load = [Load(self.box, number) for number in range(LOAD_THREADS)]
        for thread in self.load:
            thread.start()

    def stop_load(self):
        for thread in self.load:
            thread.stopping.set()
            thread.join()
            self.assertEqual(thread.wrong, "")
            self.assertGreater(thread.rounds, KILLS)

    def connect_all(self):
        """Half of them watch; the others are just old."""
        clients = [self.box.client() for _ in range(CLIENTS)]
        for client in clients[::2]:
            watch(client, "/all")
        self.box.wait_until_all_kept()
        return clients

    def kill_again_and_again(self):
        for number in range(KILLS):
            time.sleep(self.random.uniform(0, 0.1))
            self.box.kill()
            self.box.write_once("/alive", b"%d" % number)

    def expect_all_go_on(self, clients, value):
        self.box.write_once("/all", value)
        for number, client in enumerate(clients):
            if number % 2 == 0:
                self.assertEqual(next_event(client), "/all")
            self.assertEqual(read(client, "/all"), value)
            self.assertTrue(client.quiet())

    def test_memory_and_descriptors(self):
        size, fds = self.own_kb(), open_fds(self.keeper)
        clients = self.connect_all()
        self.assertGreaterEqual(open_fds(self.keeper), fds + CLIENTS, "it holds duplicates")
        self.kill_again_and_again()
        self.expect_all_go_on(clients, b"second")
        grown = self.own_kb() - size
        print(f"{size} kB, and {grown} kB more with {CLIENTS} clients and {KILLS} kills",
              file=kept.sys.stderr)
        self.assertLessEqual(grown, GROWTH_KB)
        for client in clients:
            client.close()
        eventually(lambda: open_fds(self.keeper) == fds, f"the {fds} descriptors of before")

    def test_system_calls(self):
        own = set(kept.sockets_of(self.keeper))
        trace = Trace(self.keeper, os.path.join(self.box.rundir, "strace"))
        self.addCleanup(trace.stop)
        self.start_load()
        clients = self.connect_all()
        kept_sockets = set(kept.sockets_of(self.keeper)) - own
        self.kill_again_and_again()
        self.stop_load()
        self.expect_all_go_on(clients, b"second")
        for client in clients[:100]:
            client.close()
        self.box.kill()
        self.expect_all_go_on(clients[100:], b"third")
        trace.stop()

        calls = trace.calls()
        self.assertGreater(len(calls), 3 * KILLS, "strace saw little")
        seen = collections.Counter(call["name"] for call in calls)
        print(dict(seen), file=kept.sys.stderr)
        self.assertEqual({name: count for name, count in seen.items() if name not in CALLS}, {})
        self.expect_no_memory(calls)
        self.expect_clients_untouched(calls, kept_sockets)

    def expect_no_memory(self, calls):
        """What posix_spawn's child stands on, and nothing else, and that is given back at once."""
        stacks = []
        for call in calls:
            if call["name"] == "mmap":
                self.assertRegex(call["arguments"], STACK)
                stacks.append(call["result"])
            elif call["name"] == "munmap":
                self.assertEqual(call["arguments"].split(",")[0], stacks.pop(), call[0])
        self.assertEqual(stacks, [])

    def expect_clients_untouched(self, calls, sockets):
        """`sockets`: inodes of those that are kept."""
        self.assertGreaterEqual(len(sockets), CLIENTS)
        for call in calls:
            # What a message brings is shown with it; whose message it is comes first.
            shown = call["arguments"].split(",")[0] if call["name"] == "recvmsg" else call[0]
            touched = sockets & {int(inode) for inode in re.findall(r"<socket:\[(\d+)\]>", shown)}
            if touched:
                self.assertIn(call["name"], CALLS_ON_CLIENTS, call[0])


if __name__ == "__main__":
    unittest.main()
