#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""State of an earlier boot is set aside with a message; state of a newer format is refused."""

import os
import unittest

from box import Box, read, tree, write

BOOT_ID = "/proc/sys/kernel/random/boot_id"


class EarlierBoot(unittest.TestCase):
    def setUp(self):
        self.box = Box()
        self.addCleanup(self.box.stop)

    def boot(self, number):
        """From now on the daemon sees another boot id."""
        path = os.path.join(self.box.rundir, f"boot{number}")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"0badc0de-0000-4000-8000-{number:012}\n")
        self.box.prefix = ("unshare", "-m", "sh", "-c",
                           f'mount --bind "$0" {BOOT_ID} && exec "$@"', path)

    def run_once(self, path):
        """Starts, writes `path`, kills -9; returns the tree as it was found."""
        self.box.start()
        client = self.box.client()
        found = tree(client)
        self.assertEqual(write(client, path, b"x"), b"OK\0")
        self.box.kill()
        return found

    def test_same_boot_goes_on(self):
        self.boot(1)
        self.run_once("/one")
        self.assertIn("/one", self.run_once("/two"))
        self.assertEqual(os.listdir(self.box.area).count("state"), 1)

    def test_earlier_boot_is_set_aside(self):
        self.boot(1)
        fresh = self.run_once("/one")
        before = set(os.listdir(self.box.area))
        self.boot(2)
        self.assertEqual(self.run_once("/two"), fresh)
        new = set(os.listdir(self.box.area)) - before
        self.assertTrue(any(name in self.box.log() for name in new), self.box.log())
        self.assertIn("boot", self.box.log())
        self.assertIn("/two", self.run_once("/three"))

    def test_many_boots_do_not_fill_the_area(self):
        for number in range(12):
            self.boot(number)
            self.assertNotIn("/one", self.run_once("/one"))
        self.assertLess(len(os.listdir(self.box.area)), 12)

    def test_earlier_boot_under_a_keeper(self):
        self.boot(1)
        self.run_once("/one")
        self.boot(2)
        self.box.options.append("--supervise")
        self.box.start()
        self.assertEqual(read(self.box.client(), "/one"), "ENOENT")


if __name__ == "__main__":
    unittest.main()
