# SPDX-License-Identifier: MIT
"""Xen's own test-xenstore: all twelve of its tests, by themselves and mixed at random."""

import os
import unittest

import stock

PROGRAM = os.path.join(stock.XEN_BIN, "test-xenstore")


class TestXenstore:
    """Goes before a kind of stock test: the way in which the program comes to the daemon."""

    def test_all_twelve_pass(self):
        listed = self.run_client(PROGRAM, "--list-tests")
        names = [line[:10].strip() for line in listed.stdout.splitlines()]
        self.assertEqual(len(names), 12)
        for name in names:
            done = self.run_client(PROGRAM, "--iterations", "20", "--test", name)
            self.assertEqual((done.returncode, done.stderr), (0, ""), name + "\n" + done.stdout)
            self.assertNotIn("failed", done.stdout)
            self.assertIn("avg:", done.stdout)

    def test_mixed_at_random(self):
        done = self.run_client(PROGRAM, "--random", "2")
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)

    def test_it_leaves_nothing_behind(self):
        self.expect("xenstore-write name me")
        before = self.run_client("xenstore-ls", "-f", self.home).stdout
        self.assertEqual(self.run_client(PROGRAM).returncode, 0)
        self.assertEqual(self.run_client("xenstore-ls", "-f", self.home).stdout, before)


class OverTheSocket(TestXenstore, stock.StockTest):
    home = "/"


class OverDomain0sRing(TestXenstore, stock.OnRingTest):
    home = "/"


class InAGuest(TestXenstore, stock.OnRingTest):
    domid = 3
    home = "/local/domain/3"


if __name__ == "__main__":
    unittest.main()
