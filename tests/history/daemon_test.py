#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The history that a real daemon writes while its server is killed again and again, as stock git
reads it: each request that changed something stands in it once, in order, and its tip is the tree
that the daemon serves. And the way back: a state that is lost is taken from it.

HISTORY_KILLS=200 HISTORY_CHANGES=1000000 and HISTORY_DAMAGES=300 for the long campaigns,
CLIENTS_SEED to repeat one."""

import collections
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from contextlib import closing

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "clients"))
from kept import NEVER_IN_A_HURRY, Kept, say_seed, wait_until_kept  # noqa: E402
from box import Box, eventually, read, tree, write, xs  # noqa: E402

KILLS = int(os.environ.get("HISTORY_KILLS", "12"))
CHANGES = int(os.environ.get("HISTORY_CHANGES", "0"))
DAMAGES = int(os.environ.get("HISTORY_DAMAGES", "2"))


class HistoryBox(Kept, Box):
    """A daemon with a keeper and a history."""

    def git(self, *arguments):
        done = subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", os.path.join(self.rundir, "area/history.git"),
             *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300, check=False)
        assert done.returncode == 0, (arguments, done.stderr.decode())
        return done.stdout

    def last_entry(self):
        trailer = "--format=%(trailers:key=Xenstore-Entry,valueonly)"
        return int(self.git("log", "-1", trailer).split()[0])

    def wait_until_written(self):
        """All that was done is in the history: one more change is."""
        with closing(self.client()) as client:
            mark = f"mark {time.monotonic()}".encode()
            assert write(client, "/mark", mark) == b"OK\0"

        def is_there():
            time.sleep(0.05)  # asking git takes processors, too
            try:
                return self.git("cat-file", "blob", "HEAD:mark/.value") == mark
            except AssertionError:
                return False
        # The second thread has the lowest priority: other tests may leave it hardly anything.
        eventually(is_there, "the last change in the history", seconds=240 if CHANGES == 0 else 600)


def perms_of(text):
    """A .perms file as GET_PERMS answers."""
    return b"".join(line.partition(b" ")[0] + b"\0" for line in text.splitlines())


def tree_of(box):
    """{path: (value, perms)} as the daemon serves it."""
    with closing(box.client()) as client:
        return {path: (value, perms) for path, (value, perms, _) in tree(client).items()}


def tree_in_git(box, commit="HEAD"):
    found = collections.defaultdict(lambda: [b"", b""])
    listed = box.git("ls-tree", "-r", "-z", commit).split(b"\0")[:-1]
    contents = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", os.path.join(box.rundir, "area/history.git"),
         "cat-file", "--batch"], input=b"".join(one.split()[2] + b"\n" for one in listed),
        stdout=subprocess.PIPE, timeout=60, check=True).stdout
    at = 0
    for one in listed:
        folder, _, file = one.partition(b"\t")[2].rpartition(b"/")
        head, _, _ = contents[at:at + 100].partition(b"\n")
        begin, size = at + len(head) + 1, int(head.split()[2])
        at = begin + size + 1
        found["/" + folder.decode()][0 if file == b".value" else 1] = contents[begin:begin + size]
    return {path: (value, perms_of(perms)) for path, (value, perms) in found.items()}


def requests_in(box):
    """[(first entry, last entry, lines)] of all commits, oldest first; a line is a request's."""
    found = []
    for text in box.git("log", "--reverse", "--format=%B%x00").decode().split("\0")[:-1]:
        lines = text.strip().splitlines()
        trailers = dict(re.findall(r"^(Xenstore-\w+): (.*)$", text, re.MULTILINE))
        last = int(trailers["Xenstore-Entry"])
        first = int(trailers.get("Xenstore-Entries", str(last)).partition("-")[0])
        if "Xenstore-Whole" in trailers:
            first, requests = found[-1][1] + 1 if found else last, []
        elif first == last:
            requests = lines[:1]
        else:
            requests = [line for line in lines if " by " in line]
        found.append((first, last, requests))
    return found


class HistoryTest(unittest.TestCase):
    OPTIONS = []

    def setUp(self):
        self.random = say_seed()
        self.box = HistoryBox("--supervise", "--history=on", NEVER_IN_A_HURRY, *self.OPTIONS)
        self.addCleanup(self.box.stop)
        self.box.start()

    def expect_sound(self):
        self.box.wait_until_written()
        self.assertEqual(self.box.git("fsck", "--strict", "--no-dangling"), b"")
        self.assertTrue(tree_in_git(self.box) == tree_of(self.box))
        requests = requests_in(self.box)
        for (_, before, _), (first, last, _) in zip(requests, requests[1:]):
            self.assertEqual(first, before + 1)
            self.assertGreaterEqual(last, first)
        return requests


class Writer(threading.Thread):
    """A client that lives on and changes its own part of the tree."""

    def __init__(self, box, name, seed):
        super().__init__()
        self.client, self.name = box.client(), name
        self.random = random.Random(seed)
        self.stopping, self.wrong = threading.Event(), ""
        self.done = collections.Counter()

    def run(self):
        try:
            while not self.stopping.is_set():
                self.step()
        except (AssertionError, OSError, xs.Closed) as error:
            self.wrong = repr(error)

    def step(self):
        path = f"/load/{self.name}/{self.random.randrange(30)}"
        kind = self.random.random()
        if kind < 0.1:
            self.change(xs.RM, "RM", path, path.encode() + b"\0")
        elif kind < 0.15:
            self.change(xs.SET_PERMS, "SET_PERMS", path, path.encode() + b"\0n0\0r3\0")
        else:
            value = self.random.randbytes(self.random.randrange(40))
            self.change(xs.WRITE, "WRITE", path, path.encode() + b"\0" + value)

    def change(self, op, name, path, payload):
        answer = self.client.call(op, payload)
        # Removing what is not there is OK, and no change.
        if op == xs.WRITE:
            assert answer == b"OK\0", (op, path, answer)
            self.done[f"{name} {path}"] += 1


class Killed(HistoryTest):
    OPTIONS = ["--history-limit=8192"]  # all of it is looked at

    def test_each_change_is_in_it_once(self):
        writers = [Writer(self.box, name, self.random.random()) for name in "abc"]
        wait_until_kept()
        for writer in writers:
            writer.start()
        for _ in range(KILLS):
            time.sleep(self.random.uniform(0, 0.25))
            self.box.kill()
        while sum(writer.done.total() for writer in writers) < CHANGES:
            time.sleep(0.1)
        for writer in writers:
            writer.stopping.set()
        for writer in writers:
            writer.join()
            writer.client.close()
            self.assertEqual(writer.wrong, "")
        expected = sum((writer.done for writer in writers), collections.Counter())
        self.assertGreater(expected.total(), 10 * KILLS)
        requests = self.expect_sound()
        found = collections.Counter()
        for first, last, lines in requests:
            if len(lines) != last - first + 1:
                continue  # a whole tree, or more than are listed
            found.update(line.partition(" by ")[0] for line in lines
                         if line.startswith("WRITE /load"))
        for line, count in found.items():
            self.assertLessEqual(count, expected[line], line)
        if all(len(lines) == last - first + 1 for first, last, lines in requests[1:]):
            self.assertEqual(found, expected)
        self.expect_usual_git(sorted(found)[0].partition(" ")[2])
        # What was asked outside the load is little: the numbers are those of the requests.
        self.assertGreaterEqual(requests[-1][1] - requests[0][1], expected.total())


    def expect_usual_git(self, path):
        """Stock git's commands do what they are for, on the path of a node."""
        changed = self.box.git("log", "--format=%H", "HEAD", "--", path[1:]).split()
        self.assertGreater(len(changed), 1)
        shown = self.box.git("diff", "--stat", changed[-1].decode(), changed[0].decode(), "--")
        self.assertIn(b"changed", shown)
        file = "mark/.value"
        self.assertIn(self.box.git("cat-file", "blob", f"HEAD:{file}"),
                      self.box.git("blame", "HEAD", "--", file))
        copy = os.path.join(self.box.rundir, "copy")
        self.box.git("clone", "--quiet", ".", copy)
        with open(os.path.join(copy, file), "rb") as mark:
            self.assertEqual(mark.read(), tree_of(self.box)["/mark"][0])


class Behind(HistoryTest):
    """More at once than is stored one by one."""

    def flood(self, count=12000, size=3900):
        client = self.box.client()
        wait_until_kept()

        def send():
            for number in range(count):
                payload = b"/flood/%d\0%08d" % (number % 40, number) + b"x" * size
                client.send(xs.WRITE, payload, req=number)
        sender = threading.Thread(target=send)
        sender.start()
        for number in range(count):
            self.assertEqual(client.recv()[1], number)
            yield
        sender.join()

    def test_it_is_summed_up(self):
        for _ in self.flood():
            pass
        self.assertTrue(self.box.warnings("history is written too slowly"))
        commits = self.expect_sound()
        self.assertLess(len(commits), 12000)
        self.assertTrue(b"Values between" in self.box.git("log", "--format=%b"))
        with closing(self.box.client()) as client:
            write(client, "/afterwards", b"1")
        self.assertEqual(self.expect_sound()[-2][2], ["WRITE /afterwards"])

    def test_and_killed_meanwhile(self):
        for number, _ in enumerate(self.flood()):
            if number % 3000 == 2999:
                self.box.kill()
        self.expect_sound()


class Lost(HistoryTest):
    """The journal's files are damaged while no server runs."""

    def make_some(self):
        with closing(self.box.client()) as client:
            for number in range(40):
                write(client, f"/kept/{number}/deep", bytes([number]) * number)
            client.call(xs.SET_PERMS, b"/kept/3\0n4\0b5\0")
        self.box.wait_until_written()
        return tree_of(self.box)

    def damage(self, change, make=None):
        keeper = self.box.keeper_pid()
        before = make() if make else self.make_some()
        os.kill(keeper, signal.SIGSTOP)
        self.box.kill_child()
        change(os.path.join(self.box.rundir, "area", "state"))
        os.kill(keeper, signal.SIGCONT)
        self.box.wait_serving()
        self.assertTrue(tree_of(self.box) == before)
        self.expect_sound()

    def test_the_database_is_missing(self):
        self.damage(lambda state: os.unlink(os.path.join(state, "data.mdb")))

    def test_the_whole_state_is_missing(self):
        def remove(state):
            for name in os.listdir(state):
                os.unlink(os.path.join(state, name))
            os.rmdir(state)
        self.damage(remove)

    def test_bytes_are_others(self):
        def scribble(state):
            with open(os.path.join(state, "data.mdb"), "r+b") as file:
                size = file.seek(0, os.SEEK_END)
                for _ in range(40):
                    file.seek(self.random.randrange(size))
                    file.write(self.random.randbytes(1))
        for _ in range(DAMAGES):
            self.damage(scribble)

    def test_what_is_not_in_the_repository_yet_is_read_in_the_damaged_state(self):
        """All of LMDB's is lost, right behind the last of many changes."""
        def make():
            expected = self.make_some()
            perms = expected["/kept"][1]
            expected["/late"] = (b"", perms)
            with closing(self.box.client()) as client:
                for number in range(300):
                    value = b"%d" % number * (1 + number * 4)
                    write(client, f"/late/{number}", value)
                    expected[f"/late/{number}"] = (value, perms)
            return expected

        for _ in range(5):  # the writer may just have come to all of it
            self.damage(lambda state: os.unlink(os.path.join(state, "data.mdb")), make)
            told = re.findall(r"\((\d+) of them read in the damaged state\)", self.box.log())
            if int(told[-1]) > 0:
                return
        self.fail("nothing was ever left to read")

    def test_it_is_cut_off(self):
        """At every page, if there are as many rounds."""
        pages = os.path.getsize(os.path.join(self.box.rundir, "area/state/data.mdb")) // 4096
        for left in self.random.sample(range(pages), min(DAMAGES, pages)):
            self.damage(lambda state, left=left: os.truncate(os.path.join(state, "data.mdb"),
                                                             left * 4096))


class Away(HistoryTest):
    def start_again(self, option):
        self.box.process.terminate()
        self.box.process.wait(10)
        self.box.options = ["--supervise", option]
        self.box.start()

    def test_a_repository_that_is_gone_begins_anew(self):
        with closing(self.box.client()) as client:
            write(client, "/before", b"1")
        self.box.wait_until_written()
        os.rename(os.path.join(self.box.rundir, "area/history.git"),
                  os.path.join(self.box.rundir, "moved.git"))
        self.box.kill()
        self.box.wait_serving()
        with closing(self.box.client()) as client:
            write(client, "/after", b"2")
            self.assertEqual(read(client, "/before"), b"1")
        self.expect_sound()

    def test_a_fresh_one_is_gone_on_with_though_nobody_has_asked_anything(self):
        eventually(lambda: self.kept_setting() == "on", "that history is on, in the state")
        self.box.kill()
        self.box.wait_serving()
        self.box.wait_until_written()
        self.assertEqual(self.box.git("log", "--format=%B").count(b"Xenstore-Whole"), 1)

    def kept_setting(self):
        """What the state says of history; None while it cannot be read."""
        with tempfile.TemporaryDirectory(dir=self.box.rundir) as copy:
            try:
                shutil.copytree(self.box.area, copy, dirs_exist_ok=True)
            except shutil.Error:  # a file was there only while it was written
                return None
            done = subprocess.run(
                [os.path.join(xs.BIN, "xs-inspect"), "--area", copy, "--json", "stat"],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60, check=False)
        history = json.loads(done.stdout)["history"] if done.returncode == 0 else None
        return history and history["setting"]

    def test_off_and_on_again(self):
        self.box.wait_until_written()
        last = self.box.last_entry()
        self.start_again("--history=off")
        with closing(self.box.client()) as client:
            write(client, "/while-off", b"1")
        time.sleep(0.3)
        self.assertEqual(self.box.last_entry(), last)
        self.start_again("--history=on")
        self.expect_sound()


if __name__ == "__main__":
    del HistoryTest
    unittest.main()
