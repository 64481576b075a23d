#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Clients that live long and know nothing of kills: Debian's xenstore-watch, libxenstore used as
libxl uses it, and clients of the wire. All watch or change the same nodes while the server is
killed CLIENTS_KILLS times; every one has to see every change once, all in the same order, on the
connection it began with."""

import os
import struct
import subprocess
import threading
import time
import traceback
import unittest
from contextlib import closing

import kept
from kept import eventually, next_event, read, watch, write, xs

KILLS = int(os.environ.get("CLIENTS_KILLS", "40"))
PAUSE_MAX = 0.25  # seconds from a restart to the next kill
SEEN = "/seen"  # what all watchers watch
END = SEEN + "/end"  # the last change
# Each changer writes to so many nodes in turn: more than anybody leaves unread, because an event
# that equals one which still waits is merged with it, as in 4.17.
SLOTS = 900
GUEST = 3
GUEST_STATE = f"/local/domain/{GUEST}/state"
BACKEND_STATE = f"/local/domain/0/backend/vif/{GUEST}/0/state"
LIBRARY_WATCH = os.path.join(xs.BIN, "library-watch")


class World:
    """The daemon, and what the clients tell each other."""

    def __init__(self, box, seed):
        self.box, self.seed = box, seed
        self.stopping, self.failed = threading.Event(), threading.Event()
        self.kills_begun = self.kills_done = 0

    def kill(self):
        self.kills_begun += 1
        dead = self.box.kill()
        self.kills_done += 1
        return dead


class Client(threading.Thread):
    """One client in a thread of its own; why it gave up is in `wrong`."""

    def __init__(self, world, name):
        super().__init__(name=name, daemon=True)
        self.world, self.wrong = world, ""

    def run(self):
        try:
            self.live()
        except Exception:  # pylint: disable=broad-except
            self.wrong = traceback.format_exc()
            self.world.failed.set()

    def live(self):
        raise NotImplementedError


# Watchers


class Watcher(Client):
    """Has `seen` the paths of all events, in order."""

    def __init__(self, world, name):
        super().__init__(world, name)
        self.seen = []

    def has_ended(self):
        return END in self.seen[-1:]


class ProcessWatcher(Watcher):
    """A program whose output tells of events."""

    def __init__(self, world, name, *command):
        super().__init__(world, name)
        env = {"PATH": "/usr/bin:/bin",
               "XENSTORED_PATH": os.path.join(world.box.rundir, "socket")}
        # Its errors go where it can still be told what they were about.
        self.log = os.path.join(world.box.rundir, name + ".log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, env=env, text=True, stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=log)

    def live(self):
        for line in self.process.stdout:
            self.take(line.rstrip("\n"))

    def take(self, line):
        self.seen.append(line)

    def sockets(self):
        return set(kept.sockets_of(self.process.pid))

    def stop(self):
        """xenstore-watch never ends by itself."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.join()
        self.process.stdout.close()


class LibraryWatcher(ProcessWatcher):
    """library_watch.c, which makes changes, too."""

    slots = SLOTS

    def __init__(self, world, name, mode):
        self.folder = f"{SEEN}/{name}"
        self.changed = self.retried = None
        super().__init__(world, name, LIBRARY_WATCH, mode, SEEN, self.folder)

    def take(self, line):
        word, rest = line.split(" ", 1)
        if word == "event":
            self.seen.append(rest)
        else:
            self.changed, self.retried = int(rest.split()[0]), int(rest.split()[2])

    def begin_or_stop_changing(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def stop_changing(self):
        self.begin_or_stop_changing()
        eventually(lambda: self.changed is not None or self.process.poll() is not None,
                   "library-watch to stop changing things")


class WireWatcher(Watcher):
    """Reads at once, or, with a `nap`, lets events pile up."""

    def __init__(self, world, name, nap=0.0):
        super().__init__(world, name)
        self.connection, self.nap = world.box.client(), nap
        watch(self.connection, SEEN)
        self.seen.append(SEEN)

    def live(self):
        while not self.has_ended():
            if self.connection.quiet():
                time.sleep(self.nap)
            self.seen.append(next_event(self.connection))


# Clients that change things


class Changer(Client):
    """Its n-th change is of the node n % slots of its folder."""

    slots = SLOTS
    pause = 0.02  # at most, between two steps

    def __init__(self, world, name):
        super().__init__(world, name)
        self.folder, self.changed = f"{SEEN}/{name}", 0
        self.random = kept.random.Random(f"{world.seed} {name}")

    def live(self):
        while not self.world.stopping.wait(self.random.uniform(0, self.pause)):
            self.step()

    def next_change(self):
        """(path, value) of one more change."""
        path = f"{self.folder}/{self.changed % self.slots}"
        self.changed += 1
        return path, b"%d" % self.changed

    def step(self):
        raise NotImplementedError


class FreshConnections(Changer):
    """What every xenstore-write is."""

    def step(self):
        self.world.box.write_once(*self.next_change())


class OneConnection(Changer):
    """Writes, reads and transactions, one after the other."""

    def __init__(self, world, name):
        super().__init__(world, name)
        self.connection, self.retried = world.box.client(), 0

    def step(self):
        path, value = self.next_change()
        if self.changed % 2:
            self.expect(write(self.connection, path, value), b"OK\0")
        else:
            while not self.commit(path, value):
                self.retried += 1
        self.expect(read(self.connection, path), value)

    def commit(self, path, value):
        """Tells whether it is committed. A transaction that a kill found open must not be, any
        other must."""
        before = self.world.kills_done
        tx = kept.start_transaction(self.connection)
        started = self.world.kills_begun
        self.expect(write(self.connection, path, value, tx), b"OK\0")
        time.sleep(self.random.uniform(0, 0.03))
        survived = self.world.kills_done
        answer = self.connection.call(xs.TRANSACTION_END, b"T\0", tx)
        if survived > started:
            self.expect(answer, "EAGAIN")
        if self.world.kills_begun == before:
            self.expect(answer, b"OK\0")
        if answer == b"OK\0":
            return True
        self.expect(answer, "EAGAIN")
        assert read(self.connection, path) != value, "seen though it was not committed"
        return False

    @staticmethod
    def expect(answer, right):
        assert answer == right, f"{answer} in place of {right}"


class Abandoner(OneConnection):
    """Its transactions change nothing, whatever happens meanwhile."""

    def step(self):
        tx = kept.start_transaction(self.connection)
        path = f"{self.folder}/never"
        self.expect(write(self.connection, path, b"abandoned", tx), b"OK\0")
        time.sleep(self.random.uniform(0, 0.03))
        self.expect(self.connection.call(xs.TRANSACTION_END, b"F\0", tx), b"OK\0")
        self.expect(read(self.connection, path), "ENOENT")


class Pipeline(Changer):
    """Sends several requests before it looks for the first answer."""

    def __init__(self, world, name):
        super().__init__(world, name)
        self.connection, self.next_id = world.box.client(), 0

    def step(self):
        expected = []
        for _ in range(4):
            path, value = self.next_change()
            self.ask(expected, xs.WRITE, path.encode() + b"\0" + value, b"OK\0")
            self.ask(expected, xs.READ, path.encode() + b"\0", value)
        for answer in expected:
            got = self.connection.recv()
            assert got == answer, f"{got} in place of {answer}"

    def ask(self, expected, op, payload, answer):
        self.next_id += 1
        self.connection.send(op, payload, req=self.next_id)
        expected.append((op, self.next_id, 0, answer))


class LateReader(Pipeline):
    """Asks for more than its socket holds, so that a reply is sent in parts."""

    pause = 0.2
    VALUE = bytes(range(1, 251)) * 16

    def __init__(self, world, name):
        super().__init__(world, name)
        self.path, _ = self.next_change()
        assert write(self.connection, self.path, self.VALUE) == b"OK\0"

    def step(self):
        expected = []
        for _ in range(80):
            self.ask(expected, xs.READ, self.path.encode() + b"\0", self.VALUE)
        time.sleep(self.random.uniform(0, 0.1))
        for answer in expected:
            assert self.connection.recv() == answer, f"not reply {answer[1]}"


class HalfSender(Changer):
    """Sends a request in two parts, with a while between them."""

    def __init__(self, world, name):
        super().__init__(world, name)
        self.connection = world.box.client()

    def step(self):
        path, value = self.next_change()
        payload = path.encode() + b"\0" + value
        frame = struct.pack("=IIII", xs.WRITE, self.changed, 0, len(payload)) + payload
        cut = self.random.randrange(1, len(frame))
        self.connection.send_raw(frame[:cut])
        time.sleep(self.random.uniform(0, 0.06))
        self.connection.send_raw(frame[cut:])
        answer = self.connection.recv()
        assert answer == (xs.WRITE, self.changed, 0, b"OK\0"), answer


class Frontend(Changer):
    """A guest on its ring. Each of its states is answered by the backend."""

    slots = 400  # its quota: the names in a folder are at most 2048 bytes

    def __init__(self, world, name, guest):
        super().__init__(world, name)
        self.connection = guest
        watch(self.connection, BACKEND_STATE)

    def step(self):
        path, value = self.next_change()
        events = []
        for changed in (path, GUEST_STATE):
            payload = changed.encode() + b"\0" + value
            answer = self.connection.call(xs.WRITE, payload, events=events)
            assert answer == b"OK\0", answer
        event = events.pop().split(b"\0")[0].decode() if events else next_event(self.connection)
        assert (event, events) == (BACKEND_STATE, []), (event, events)
        answer = read(self.connection, BACKEND_STATE)
        assert answer == value, f"the backend answers {answer}, not {value}"


class Backend(Client):
    """As QEMU: one connection that watches, and otherwise only answers."""

    def __init__(self, world, name):
        super().__init__(world, name)
        self.connection, self.answered = world.box.client(), 0
        watch(self.connection, GUEST_STATE)

    def live(self):
        while self.world.frontend.is_alive():
            if self.connection.quiet(0.05):
                continue
            assert next_event(self.connection) == GUEST_STATE
            self.answered += 1
            state = read(self.connection, GUEST_STATE)
            assert state == b"%d" % self.answered, f"state {state} at event {self.answered}"
            answer = write(self.connection, BACKEND_STATE, state)
            assert answer == b"OK\0", answer


class Idle(Changer):
    """Connections that never asked for anything; now and then, all through the test, one of them
    does, for the first time."""

    pause = max(2.0, KILLS / 40)

    def __init__(self, world, name):
        super().__init__(world, name)
        self.connections = [world.box.client() for _ in range(12)]

    def step(self):
        if self.connections:
            path, value = self.next_change()
            answer = write(self.connections.pop(), path, value)
            assert answer == b"OK\0", answer


class LongLived(unittest.TestCase):
    def setUp(self):
        self.random = kept.say_seed()
        self.box = kept.HostedKeptBox()
        self.addCleanup(self.box.stop)
        self.box.start()
        self.world = World(self.box, kept.SEED)
        guest = self.make_tree()
        self.watchers = [
            self.process(ProcessWatcher, "xenstore-watch", "xenstore-watch", SEEN),
            self.process(LibraryWatcher, "library-check", "check"),
            self.process(LibraryWatcher, "library-read", "read"),
            WireWatcher(self.world, "wire"),
            WireWatcher(self.world, "wire-late", nap=1.5)]
        self.libraries = self.watchers[1:3]
        self.one = OneConnection(self.world, "one")
        self.world.frontend = Frontend(self.world, "guest", guest)
        self.backend = Backend(self.world, "backend")
        self.changers = [
            self.one, self.world.frontend,
            *(kind(self.world, name) for name, kind in (
                ("fresh", FreshConnections), ("abandon", Abandoner), ("pipeline", Pipeline),
                ("late", LateReader), ("half", HalfSender), ("idle", Idle)))]
        self.killed = 0

    def make_tree(self):
        """The folders are there before anybody watches, so that each change is one event."""
        with closing(xs.Client(self.box.rundir)) as client:
            for name in ("library-check", "library-read", "one", "fresh", "abandon", "pipeline",
                         "late", "half", "idle", "kill"):
                assert write(client, f"{SEEN}/{name}", b"") == b"OK\0"
            guest = self.box.guest(GUEST)
            for path in (f"{SEEN}/guest", GUEST_STATE, BACKEND_STATE):
                assert write(client, path, b"0") == b"OK\0"
                assert client.call(xs.SET_PERMS, f"{path}\0b{GUEST}\0".encode()) == b"OK\0"
        return guest

    def process(self, kind, *arguments):
        watcher = kind(self.world, *arguments)
        self.addCleanup(watcher.stop)
        watcher.start()
        eventually(lambda: watcher.seen, f"the first event of {watcher.name}")
        return watcher

    def test_kills_are_not_noticed(self):
        sockets = {watcher: watcher.sockets() for watcher in self.watchers[:3]}
        self.world.box.wait_until_all_kept()
        everybody = [*self.watchers, *self.changers, self.backend]
        for client in everybody:
            if not client.is_alive():
                client.start()
        for library in self.libraries:
            library.begin_or_stop_changing()
        try:
            self.kill_again_and_again()
        finally:
            self.end(everybody)
        for client in everybody:
            with self.subTest("goes on", client=client.name):
                self.assertEqual(client.wrong, "")
        for watcher, before in sockets.items():
            with self.subTest("has its connection", client=watcher.name):
                self.assertIsNone(watcher.process.poll(), kept.read_text(watcher.log))
                self.assertEqual(len(before), 1)
                self.assertEqual(watcher.sockets(), before)
        self.check_events()
        with self.subTest("the kills met open transactions"):
            self.assertGreater(self.one.retried, 0)
        with self.subTest("the daemon agrees with itself"):
            self.assertEqual(self.box.client().call(xs.CONTROL, b"check\0"), b"OK\0")
            self.assertEqual(self.box.watches(), [GUEST_STATE] + 5 * [SEEN])
        print(f"{self.killed} kills, {len(self.watchers[0].seen)} events for each watcher, "
              f"{self.one.retried} transactions doomed, in libxenstore "
              f"{sum(library.retried or 0 for library in self.libraries)}", file=kept.sys.stderr)

    def kill_again_and_again(self):
        for _ in range(KILLS):
            if self.world.failed.wait(self.random.uniform(0, PAUSE_MAX)):
                break
            dead = self.world.kill()
            self.box.write_once(f"{SEEN}/kill/{self.killed % SLOTS}", b"%d" % (self.killed + 1))
            self.killed += 1
            self.box.next_server_pid(dead)

    def end(self, everybody):
        """All stop changing things; then there is one change more, which all have to see."""
        self.world.stopping.set()
        for changer in (*self.changers, self.backend):
            changer.join(30)
        for library in self.libraries:
            if library.process.poll() is None:
                library.stop_changing()
        self.box.write_once(END, b"end")
        for watcher in self.watchers:
            try:
                eventually(watcher.has_ended, f"{watcher.name} to see the last change", seconds=10)
            except AssertionError as error:
                watcher.wrong = watcher.wrong or str(error)
        for client in everybody:
            if not isinstance(client, ProcessWatcher):
                client.join(30)

    def check_events(self):
        for watcher in self.watchers[1:]:
            with self.subTest("all see the same", one=self.watchers[0].name, other=watcher.name):
                self.assert_same(self.watchers[0].seen, watcher.seen)
        changed = {f"{SEEN}/kill": (self.killed, SLOTS)}
        for changer in (*self.changers, *self.libraries):
            changed[changer.folder] = (changer.changed, changer.slots)
        for watcher in self.watchers:
            for folder, (count, slots) in changed.items():
                with self.subTest("each change once", watcher=watcher.name, folder=folder):
                    self.assertIsNotNone(count, "stopped before its end")
                    expected = [f"{folder}/{number % slots}" for number in range(count)]
                    self.assert_same(expected, [path for path in watcher.seen
                                                if path.startswith(folder + "/")])

    def assert_same(self, one, other):
        """With the place of the first difference and what is around it: they may be long."""
        if one == other:
            return
        place = next((place for place, pair in enumerate(zip(one, other)) if pair[0] != pair[1]),
                     min(len(one), len(other)))
        around = slice(max(place - 3, 0), place + 6)
        self.fail(f"{len(one)} and {len(other)} events differ at {place}: "
                  f"{one[around]} and {other[around]}")


if __name__ == "__main__":
    unittest.main()
