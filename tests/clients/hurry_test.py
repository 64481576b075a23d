#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Beyond --sure-rate requests a second, kept clients are served by system calls that cost less and
leave a crash in doubt of one of them; strace sees by which."""

import collections
import os
import time
import unittest

import kept
from kept import KeptBox, Trace, eventually, read, watch

SURE_RATE = 300  # also with strace beside it, a client that does not pause is faster
PAUSE = 0.02
NOTED, PLAIN = {"recvmmsg", "sendmmsg"}, {"recvfrom", "sendto"}


class Hurry(unittest.TestCase):
    def setUp(self):
        kept.say_seed()
        self.box = KeptBox(f"--sure-rate={SURE_RATE}")
        self.addCleanup(self.box.stop)
        self.box.start()
        self.client = self.box.client()
        watch(self.client, "/watched")
        self.box.wait_until_all_kept()
        self.traces = 0

    def calls(self, seconds, pause):
        """Which calls serve a client that asks so often."""
        self.traces += 1
        trace = Trace(self.box.server_pid(), os.path.join(self.box.rundir, f"strace{self.traces}"))
        self.addCleanup(trace.stop)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.assertEqual(read(self.client, "/"), b"")
            time.sleep(pause)
        trace.stop()
        return collections.Counter(call["name"] for call in trace.calls()
                                   if call["name"] in NOTED | PLAIN)

    def test_of_few_requests_each_is_noted(self):
        calls = self.calls(1, PAUSE)
        self.assertEqual(set(calls), NOTED, calls)

    def test_many_are_not_until_they_are_few_again(self):
        calls = self.calls(1, 0)
        self.assertTrue(PLAIN <= set(calls), calls)
        self.assertGreater(calls["recvfrom"], calls["recvmmsg"])
        eventually(lambda: set(self.calls(0.5, PAUSE)) == NOTED, "noted calls again")


if __name__ == "__main__":
    unittest.main()
