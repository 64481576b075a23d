#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Damaged files in the area: the tree as of the last commit, or a fresh one with the damaged state
set aside and a message that says where; nothing in between, no hang, no endless crashing."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from box import Box, eventually, read, tree, write, xs

PAGE = 4096
ROUNDS = 100
SEED = 20261121
NOBODY = 65534
STARTS = 4  # a service manager starts again what died; more deaths than this are a crash loop


def build_template(directory):
    """An area as kill -9 leaves it; returns its tree and the tree of a fresh area."""
    box = Box("--area", directory)
    try:
        box.start()
        client = box.client()
        fresh = tree(client)
        draw = random.Random(SEED)
        for number in range(300):
            path = f"/d/{number % 17}/{number}"
            value = draw.randbytes(draw.choice((0, 5, 60, 700, 3000)))
            assert write(client, path, value) == b"OK\0"
            if number % 5 == 0:
                perms = f"n{number}\0r{number + 1}\0b0\0".encode()
                client.call(xs.SET_PERMS, path.encode() + b"\0" + perms)
        for number in range(0, 300, 7):
            assert client.call(xs.RM, f"/d/{number % 17}/{number}\0".encode()) == b"OK\0"
        for number in range(10):  # so that the commit before the last one shows
            assert write(client, "/last", b"%d" % number) == b"OK\0"
        return tree(client), fresh
    finally:
        box.kill()
        box.stop()


def used_pages(path):
    """Numbers of the file's pages that are not all zero."""
    with open(path, "rb") as file:
        data = file.read()
    zero = bytes(PAGE)
    return [number for number in range(len(data) // PAGE)
            if data[number * PAGE:(number + 1) * PAGE] != zero]


def patch(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def differences(got, wanted):
    """A few words about how two trees differ, for a failure's message."""
    missing, extra = sorted(set(wanted) - set(got)), sorted(set(got) - set(wanted))
    changed = sorted(path for path in set(got) & set(wanted) if got[path] != wanted[path])
    return (f"{len(missing)} missing {missing[:3]}, {len(extra)} extra {extra[:3]}, "
            f"{len(changed)} changed {changed[:3]}")


class Damage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.mkdtemp(prefix="xs.damage.", dir="/dev/shm")
        cls.template = os.path.join(cls.scratch, "template")
        cls.last, cls.fresh = build_template(cls.template)
        files = [os.path.join("state", name)
                 for name in os.listdir(os.path.join(cls.template, "state"))]
        cls.data_file = max(
            files, key=lambda name: os.path.getsize(os.path.join(cls.template, name)))
        cls.pages = used_pages(os.path.join(cls.template, cls.data_file))
        cls.outcomes = {"last commit": 0, "set aside": 0, "deaths on the way": 0}

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.scratch)
        print(f"{cls.__name__}: {cls.outcomes}", file=sys.stderr)

    def new_area(self):
        """A box on a fresh copy of the template; (box, path of the main data file)."""
        box = Box()
        self.addCleanup(box.stop)
        subprocess.run(["cp", "-a", "--sparse=always", self.template, box.area], check=True)
        return box, os.path.join(box.area, self.data_file)

    def start(self, box, what):
        """Starts it, again when a signal kills it, as a service manager would."""
        deadline = time.monotonic() + 10
        for _ in range(STARTS):
            box.start(wait=False)
            while box.process.poll() is None:
                self.assertLess(time.monotonic(), deadline, f"{what}: hangs; log:\n{box.log()}")
                try:
                    client = box.client()
                    if read(client, "/") == b"":
                        return client
                except (OSError, xs.Closed):
                    time.sleep(0.002)  # not serving yet: poll
            self.assertLess(box.process.returncode, 0,
                            f"{what}: gives up; log:\n{box.log()}")
            self.outcomes["deaths on the way"] += 1
        self.fail(f"{what}: dies again and again ({box.process.returncode}); log:\n{box.log()}")

    def assert_set_aside(self, box, before, what):
        """Something new is in the area, and the log names it."""
        new = set(os.listdir(box.area)) - before
        self.assertTrue(any(name in box.log() for name in new),
                        f"{what}: fresh tree, but the log names none of {new}; log:\n{box.log()}")

    def assert_goes_on(self, box, client, what):
        """It takes changes and keeps them over kill -9."""
        self.assertEqual(write(client, "/later", b"on"), b"OK\0", what)
        wanted = tree(client)
        box.kill_all()
        with_change = tree(self.start(box, what))
        self.assertEqual(with_change, wanted, f"{what}: the start after the next")

    def judge(self, box, what, wanted=("last commit", "set aside"), silent=False, go_on=True):
        """Starts on the damaged area and checks the promise; returns which outcome it was."""
        before = set(os.listdir(box.area))
        client = self.start(box, what)
        got = tree(client)
        outcome = "last commit" if got == self.last else "set aside"
        if outcome == "set aside":
            self.assertTrue(got == self.fresh,
                            f"{what}: a wrong tree, {differences(got, self.last)}")
            if not silent:
                self.assert_set_aside(box, before, what)
        self.assertIn(outcome, wanted, what)
        if go_on:
            self.assert_goes_on(box, client, what)
        self.outcomes[outcome] += 1
        box.stop()
        return outcome


class WholeFiles(Damage):
    def test_undamaged(self):
        box, _ = self.new_area()
        self.judge(box, "undamaged", wanted=("last commit",))

    def test_truncated(self):
        _, data = self.new_area()
        used = (self.pages[-1] + 1) * PAGE
        sizes = {0, 1, 15, 100, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 2 * PAGE + 7, 3 * PAGE,
                 used // 2, used // 2 // PAGE * PAGE, used - PAGE, used - 1, used - 513}
        for size in sorted(sizes):
            with self.subTest(size=size):
                box, data = self.new_area()
                os.truncate(data, size)
                self.judge(box, f"truncated to {size} of {used}")

    def test_truncated_behind_the_used_part_or_longer(self):
        used = (self.pages[-1] + 1) * PAGE
        _, data = self.new_area()
        for size in (used, os.path.getsize(data) + 1, os.path.getsize(data) + PAGE):
            with self.subTest(size=size):
                box, data = self.new_area()
                os.truncate(data, size)
                self.judge(box, f"{size} bytes, {used} used")

    def test_zeroed(self):
        for first, count in ((0, 1), (1, 1), (0, 2), (0, None), (2, None)):
            with self.subTest(first=first, count=count):
                box, data = self.new_area()
                pages = count or os.path.getsize(data) // PAGE - first
                patch(data, first * PAGE, bytes(pages * PAGE))
                self.judge(box, f"pages {first}..+{pages} zeroed")

    def test_foreign(self):
        draw = random.Random(SEED)
        with open(sys.executable, "rb") as file:
            program = file.read(1 << 20)
        contents = {"text": b"hello, world\n" * 100, "random": draw.randbytes(1 << 18),
                    "random of one page": draw.randbytes(PAGE), "a program": program,
                    "ones": b"\xff" * (1 << 16), "sqlite": b"SQLite format 3\0" + bytes(8176)}
        for name, content in contents.items():
            with self.subTest(name):
                box, data = self.new_area()
                with open(data, "wb") as file:
                    file.write(content)
                self.judge(box, f"{name} in its place", wanted=("set aside",))

    def test_half_of_another_state(self):
        other = os.path.join(self.scratch, "other")
        box = Box("--area", other)
        self.addCleanup(box.stop)
        box.start()
        client = box.client()
        for number in range(200):
            self.assertEqual(write(client, f"/other/{number}", b"o" * 500), b"OK\0")
        box.kill()
        with open(os.path.join(other, self.data_file), "rb") as file:
            theirs = file.read()
        shutil.rmtree(other)
        for first in (1, 2, self.pages[len(self.pages) // 2]):
            with self.subTest(first=first):
                box, data = self.new_area()
                patch(data, first * PAGE, theirs[first * PAGE:(self.pages[-1] + 1) * PAGE])
                self.judge(box, f"another state's pages from {first}")

    def test_data_file_deleted(self):
        box, data = self.new_area()
        os.unlink(data)
        self.judge(box, "deleted", wanted=("set aside",), silent=True)

    def test_state_deleted(self):
        box, _ = self.new_area()
        shutil.rmtree(os.path.join(box.area, "state"))
        self.judge(box, "no state", wanted=("set aside",), silent=True)

    def test_directory_in_place_of_the_data_file(self):
        box, data = self.new_area()
        os.unlink(data)
        os.makedirs(os.path.join(data, "inside"))
        self.judge(box, "a directory", wanted=("set aside",))

    def test_file_in_place_of_the_state(self):
        box, _ = self.new_area()
        shutil.rmtree(os.path.join(box.area, "state"))
        with open(os.path.join(box.area, "state"), "wb") as file:
            file.write(b"not a directory")
        self.judge(box, "a file", wanted=("set aside",))

    def test_dangling_link_and_fifo_in_place_of_the_data_file(self):
        box, data = self.new_area()
        os.unlink(data)
        os.symlink("/nowhere/at/all", data)
        self.judge(box, "dangling link", wanted=("set aside",))
        box, data = self.new_area()
        os.unlink(data)
        os.mkfifo(data)
        self.judge(box, "fifo", wanted=("set aside",))

    def other_files(self):
        found = []
        for directory, _, names in os.walk(self.template):
            here = os.path.relpath(directory, self.template)
            found += [os.path.normpath(os.path.join(here, name)) for name in names]
        return sorted(set(found) - {self.data_file})

    def test_garbage_in_every_other_file(self):
        draw = random.Random(SEED)
        self.assertIn("lock", self.other_files())
        for name in self.other_files():
            path = os.path.join(self.template, name)
            for size in sorted({0, 1, 100, os.path.getsize(path), 3 * PAGE}):
                with self.subTest(name, size=size):
                    box, _ = self.new_area()
                    with open(os.path.join(box.area, name), "wb") as file:
                        file.write(draw.randbytes(size))
                    self.judge(box, f"{size} bytes of garbage in {name}")

    def test_every_other_file_deleted(self):
        for name in self.other_files():
            with self.subTest(name):
                box, _ = self.new_area()
                os.unlink(os.path.join(box.area, name))
                wanted = ("last commit", "set aside") if "/" in name else ("last commit",)
                self.judge(box, f"{name} deleted", wanted)

    def test_unknown_files_in_the_area(self):
        box, _ = self.new_area()
        for name in ("core", "state.old", "state/core", "state/x.tmp", "poisoned"):
            with open(os.path.join(box.area, name), "wb") as file:
                file.write(b"what is this")
        self.judge(box, "unknown files", wanted=("last commit",))

    def test_garbage_in_the_files_beside_the_area(self):
        box, _ = self.new_area()
        for name in ("xenstored-server.pid", "test.pid", "socket.lock"):
            with open(os.path.join(box.rundir, name), "wb") as file:
                file.write(b"\xff\0garbage")
        self.judge(box, "garbage in the pid files", wanted=("last commit",))


class BitFlips(Damage):
    def flip(self, draw, data):
        """Flips a bit; half of the rounds hit the two meta pages' used bytes."""
        if draw.random() < 0.5:
            offset = draw.choice((0, PAGE)) + draw.randrange(200)
        else:
            offset = draw.choice(self.pages) * PAGE + draw.randrange(PAGE)
        bit = 1 << draw.randrange(8)
        with open(data, "r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ bit]))
        return f"bit {bit:#x} at {offset} (page {offset // PAGE})"

    def test_one_bit(self):
        draw = random.Random(SEED)
        for number in range(ROUNDS):
            with self.subTest(round=number):
                box, data = self.new_area()
                what = f"round {number}: {self.flip(draw, data)}"
                self.judge(box, what, go_on=number % 10 == 0)

    def test_a_burst(self):
        draw = random.Random(SEED + 1)
        for number in range(ROUNDS // 5):
            with self.subTest(round=number):
                box, data = self.new_area()
                offset = draw.choice(self.pages) * PAGE + draw.randrange(PAGE // 2)
                patch(data, offset, draw.randbytes(draw.choice((8, 100, PAGE // 2))))
                self.judge(box, f"round {number}: burst at {offset}", go_on=number % 10 == 0)


class UnderAKeeper(Damage):
    def test_damage_does_not_make_an_endless_loop(self):
        draw = random.Random(SEED + 2)
        for number in range(10):
            with self.subTest(round=number):
                box, data = self.new_area()
                box.options.append("--supervise")
                offset = draw.choice((0, PAGE, self.pages[-1] * PAGE)) + draw.randrange(200)
                patch(data, offset, draw.randbytes(100))
                self.judge(box, f"round {number}: burst at {offset}", go_on=number % 5 == 0)

    def test_daemonised_start_serves_a_fresh_tree(self):
        box, data = self.new_area()
        patch(data, self.pages[-1] * PAGE, bytes(PAGE))
        box.mode = ("-D",)
        result = box.run()
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertIn(tree(box.client()), (self.fresh, self.last))


class Unreadable(Damage):
    """As nobody: root reads whatever the permission bits say."""

    def give_to_nobody(self, box):
        # With a copy of the binary: the build may lie where nobody may not look.
        box.binary = shutil.copy(os.path.join(xs.BIN, box.binary), box.rundir)
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", box.rundir], check=True)

    def judge_as_nobody(self, box, path, mode):
        self.give_to_nobody(box)
        os.chmod(path, mode)
        before = set(os.listdir(box.area))
        box.start(wait=False, user=NOBODY, group=NOBODY, extra_groups=[])

        def decided():
            try:
                return box.process.poll() is not None or tree(box.client())
            except (OSError, xs.Closed):
                return None
        got = eventually(decided, f"a decision about {path}")
        if got is True:
            self.assertGreater(box.process.returncode, 0)
            self.assertRegex(box.log(), f"{path}|{os.path.dirname(path)}")
            self.assertRegex(box.log(), "[Pp]ermission denied")
        else:
            self.assertEqual(got, self.fresh)
            self.assert_set_aside(box, before, path)

    def test_nobody_may_start_it(self):
        box, _ = self.new_area()
        self.give_to_nobody(box)
        box.start(user=NOBODY, group=NOBODY, extra_groups=[])
        self.assertEqual(tree(box.client()), self.last)

    def test_data_file(self):
        for mode in (0, 0o400):
            with self.subTest(mode=oct(mode)):
                box, data = self.new_area()
                self.judge_as_nobody(box, data, mode)

    def test_state(self):
        for mode in (0, 0o500):
            with self.subTest(mode=oct(mode)):
                box, _ = self.new_area()
                os.unlink(os.path.join(box.area, self.data_file))
                self.judge_as_nobody(box, os.path.join(box.area, "state"), mode)

    def test_area(self):
        for mode in (0, 0o500):
            with self.subTest(mode=oct(mode)):
                box, _ = self.new_area()
                shutil.rmtree(os.path.join(box.area, "state"))
                self.judge_as_nobody(box, box.area, mode)


class Area(unittest.TestCase):
    def test_area_is_a_file(self):
        box = Box()
        self.addCleanup(box.stop)
        with open(box.area, "wb") as file:
            file.write(b"not a directory")
        result = box.run()
        self.assertGreater(result.returncode, 0)
        self.assertIn(box.area, result.stdout)
        with open(box.area, "rb") as file:
            self.assertEqual(file.read(), b"not a directory")

    def test_run_directory_and_area_are_made(self):
        box = Box()
        self.addCleanup(box.stop)
        parent = box.rundir
        self.addCleanup(shutil.rmtree, parent, True)
        inner = Box("--area", os.path.join(parent, "made", "area"),
                    rundir=os.path.join(parent, "made"))
        self.addCleanup(inner.stop)
        inner.log_file = os.path.join(parent, "inner.log")
        inner.start()
        self.assertEqual(inner.log().count("terminate"), 0)
        inner.process.send_signal(signal.SIGTERM)
        self.assertEqual(inner.process.wait(10), 0)


if __name__ == "__main__":
    unittest.main()
