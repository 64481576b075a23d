#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A second daemon on one area refuses, names the first and leaves it alone; after kill -9 of
everything a new one starts at once."""

import os
import signal
import unittest

from box import Box, alive, eventually, open_fds, read, read_pid, read_text, write


class Second(unittest.TestCase):
    MODES = {"foreground": (), "keeper": ("--supervise",)}

    def first(self, *options, daemonised=False):
        """A serving daemon with a client that has written a node."""
        box = Box(*options)
        self.addCleanup(box.stop)
        if daemonised:
            box.mode = ("-D",)
            self.assertEqual(box.run().returncode, 0)
        else:
            box.start()
        self.client = box.client()
        self.assertEqual(write(self.client, "/first", b"here"), b"OK\0")
        return box

    def second_is_refused(self, box):
        """Tries every way to start another; the first one's processes and files must not change."""
        pids = box.processes()
        files = {name: read_text(os.path.join(box.rundir, name))
                 for name in ("test.pid", "xenstored-server.pid")}
        for mode in (("-D", "-N"), ("-D", "-N", "--supervise"), ("-D",)):
            for rundir in (box.rundir, None):
                with self.subTest(mode=mode, own_rundir=rundir is None):
                    other = Box("--area", box.area, mode=mode, rundir=rundir)
                    result = other.run()
                    if rundir is None:
                        other.stop()
                    self.assertGreater(result.returncode, 0, result.stdout)
                    self.assertTrue(any(str(pid) in result.stdout for pid in pids),
                                    f"names none of {pids}: {result.stdout}")
        self.assertEqual(sorted(box.processes()), sorted(pids))
        for name, text in files.items():
            self.assertEqual(read_text(os.path.join(box.rundir, name)), text, name)
        self.assertEqual(read(self.client, "/first"), b"here")
        self.assertEqual(read(box.client(), "/first"), b"here", "the first one's socket")
        self.assertEqual(write(self.client, "/first", b"here"), b"OK\0")

    def new_one_starts_at_once(self, box):
        box.kill_all()
        box.mode, box.options = ("-D", "-N"), ["--area", box.area]
        box.start()
        self.assertEqual(read(box.client(), "/first"), b"here")
        self.assertEqual(read_pid(box.pid_file), box.process.pid)

    def test_foreground(self):
        box = self.first()
        self.second_is_refused(box)
        self.new_one_starts_at_once(box)

    def test_keeper(self):
        box = self.first("--supervise")
        self.second_is_refused(box)
        self.new_one_starts_at_once(box)

    def test_daemonised(self):
        box = self.first(daemonised=True)
        self.second_is_refused(box)
        self.new_one_starts_at_once(box)

    def test_server_without_its_keeper(self):
        box = self.first("--supervise")
        server = box.server_pid()
        box.kill()
        self.assertTrue(alive(server))
        self.second_is_refused(box)
        self.new_one_starts_at_once(box)

    def test_same_under_kill_of_the_server_only(self):
        box = self.first()
        for _ in range(20):
            box.kill()
            box.start()
        self.assertEqual(read(box.client(), "/first"), b"here")

    def test_refused_ones_leak_nothing_into_the_first(self):
        box = self.first()
        before = open_fds(box.process.pid)
        for _ in range(20):
            self.assertGreater(Box("--area", box.area, rundir=box.rundir).run().returncode, 0)
        eventually(lambda: open_fds(box.process.pid) <= before, "no more descriptors than before")

    def test_clean_stop_frees_the_area(self):
        box = self.first()
        box.process.send_signal(signal.SIGTERM)
        self.assertEqual(box.process.wait(10), 0)
        box.start()
        self.assertEqual(read(box.client(), "/first"), b"here")


if __name__ == "__main__":
    unittest.main()
