#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A full tmpfs: changes answer ENOSPC, reads and removals go on, nothing acknowledged is lost."""

import errno
import os
import subprocess
import tempfile
import unittest

from box import Box, alive, eventually, read, write, xs

MEGABYTES = 12
VALUE = 3900


def value_of(path, salt=b"v"):
    return (salt + path.encode()) * (VALUE // (len(path) + 1))


class Full(unittest.TestCase):
    def setUp(self):
        self.mount = tempfile.mkdtemp(prefix="xs.full.", dir="/dev/shm")
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "badluck", self.mount],
                       check=True)
        self.addCleanup(self.unmount)
        self.box = Box("--area", os.path.join(self.mount, "area"))
        self.addCleanup(self.box.stop)
        self.acknowledged = {}

    def unmount(self):
        subprocess.run(["umount", self.mount], check=True)
        os.rmdir(self.mount)

    def start(self):
        self.box.start()
        self.client = self.box.client()

    def kill_and_start(self):
        self.box.kill()
        self.start()

    def write(self, path, value):
        answer = write(self.client, path, value)
        if answer == b"OK\0":
            self.acknowledged[path] = value
        return answer

    def write_until_full(self, prefix, limit=100000):
        """Creates nodes until one is refused, and a few more; returns how many there are."""
        refused = count = 0
        while refused < 20:
            self.assertLess(count, limit, "the file system never fills")
            path = f"{prefix}/{count % 200}/{count}"
            answer = self.write(path, value_of(path))
            if answer != b"OK\0":
                self.assertEqual(answer, "ENOSPC")
                refused += 1
            count += 1
        return len(self.acknowledged)

    def fill_with_something_else(self):
        filler = os.path.join(self.mount, "filler")
        with open(filler, "ab", buffering=0) as file:
            for chunk in (1 << 20, 4096, 1):
                try:
                    while True:
                        file.write(b"f" * chunk)
                except OSError as error:
                    self.assertEqual(error.errno, errno.ENOSPC)
        return filler

    def check_all_there(self):
        for path, value in self.acknowledged.items():
            if value is None:
                self.assertEqual(read(self.client, path), "ENOENT", path)
            else:
                self.assertEqual(read(self.client, path), value, path)
        self.assertTrue(alive(self.box.process.pid))

    def remove(self, path):
        self.assertEqual(self.client.call(xs.RM, path.encode() + b"\0"), b"OK\0")
        if path in self.acknowledged:
            self.acknowledged[path] = None
        else:  # a directory
            for known in self.acknowledged:
                if known.startswith(path + "/"):
                    self.acknowledged[known] = None

    def test_writes_are_refused_reads_and_removals_go_on(self):
        self.start()
        self.assertGreater(self.write_until_full("/fill"), 100)
        self.assertEqual(self.box.log().count("no room in "), 1, "told once")
        self.check_all_there()
        self.remove("/fill/0/0")
        for number in range(100, 200):
            self.remove(f"/fill/{number}")
        for number in range(300):
            path = f"/again/{number}"
            self.assertEqual(self.write(path, value_of(path)), b"OK\0", path)
        self.check_all_there()
        self.kill_and_start()
        self.check_all_there()

    def test_killed_while_full_everything_acknowledged_is_there(self):
        self.start()
        self.write_until_full("/fill")
        self.kill_and_start()
        self.check_all_there()
        self.remove("/fill/7")
        self.kill_and_start()
        self.check_all_there()
        for number in range(10, 110):
            self.remove(f"/fill/{number}")
        self.assertEqual(self.write("/after", b"x"), b"OK\0")
        self.kill_and_start()
        self.check_all_there()

    def test_all_can_be_removed_node_by_node_while_full(self):
        self.start()
        self.write_until_full("/fill")
        for path in [path for path, value in self.acknowledged.items() if value is not None]:
            self.remove(path)
        self.check_all_there()
        self.assertEqual(self.write("/after", b"x"), b"OK\0")

    def test_transactions_are_refused_whole(self):
        self.start()
        self.write_until_full("/fill")
        before = read(self.client, "/fill/0/0")
        tx = int(self.client.call(xs.TRANSACTION_START, b"\0")[:-1])
        answers = [write(self.client, "/fill/0/0", b"changed", tx)]
        answers += [write(self.client, f"/tx/{number}", b"x" * VALUE, tx) for number in range(2000)]
        self.assertLessEqual(set(answers), {b"OK\0", "ENOSPC"})
        end = self.client.call(xs.TRANSACTION_END, b"T\0", tx)
        self.assertEqual(end, "ENOSPC")
        self.assertEqual(read(self.client, "/fill/0/0"), before)
        self.assertEqual(read(self.client, "/tx/0"), "ENOENT")
        self.kill_and_start()
        self.check_all_there()
        self.assertEqual(read(self.client, "/tx/0"), "ENOENT")

    def test_somebody_else_fills_the_file_system(self):
        self.start()
        for number in range(100):
            path = f"/before/{number}"
            self.assertEqual(self.write(path, value_of(path)), b"OK\0")
        filler = self.fill_with_something_else()
        self.write_until_full("/fill")
        self.check_all_there()
        for number in range(100):  # changes of equal size: done or refused, never lost
            path = f"/before/{number}"
            self.assertIn(self.write(path, value_of(path, b"w")), (b"OK\0", "ENOSPC"))
        self.check_all_there()
        self.kill_and_start()
        self.check_all_there()
        self.remove("/before/1")
        os.unlink(filler)
        eventually(lambda: self.write("/after", b"x") == b"OK\0", "room again")
        self.write_until_full("/more")
        self.check_all_there()

    def test_watches_and_clients_live_on(self):
        self.start()
        self.write_until_full("/fill")
        other = self.box.client()
        self.assertEqual(other.call(xs.WATCH, b"/fill\0t\0"), b"OK\0")
        self.assertEqual(other.recv()[3], b"/fill\0t\0")
        self.assertEqual(write(self.client, "/fill/none/of/it", b"x" * VALUE), "ENOSPC")
        self.assertTrue(other.quiet(0.1), "an event of a refused change")
        self.remove("/fill/3")
        self.assertEqual(other.recv()[3], b"/fill/3\0t\0")

    def test_first_start_on_a_full_file_system_says_so(self):
        self.fill_with_something_else()
        result = self.box.run()
        self.assertNotEqual(result.returncode, 0)
        self.assertRegex(result.stdout.lower(), "space|full")
        self.assertIn(self.mount, result.stdout)


class Roomy(unittest.TestCase):
    def test_a_transaction_that_makes_a_large_tree_is_not_refused(self):
        box = Box()
        self.addCleanup(box.stop)
        box.start()
        client = box.client()
        tx = int(client.call(xs.TRANSACTION_START, b"\0").rstrip(b"\0"))
        for number in range(15000):
            path = f"/restored/tree/of/{number // 100}/several/levels/{number}"
            self.assertEqual(write(client, path, b"x" * 20, tx), b"OK\0")
        self.assertEqual(client.call(xs.TRANSACTION_END, b"T\0", tx), b"OK\0")
        self.assertEqual(read(client, "/restored/tree/of/149/several/levels/14999"), b"x" * 20)


if __name__ == "__main__":
    unittest.main()
