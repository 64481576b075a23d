# SPDX-License-Identifier: MIT
"""Runs Debian's xenstore clients against a daemon of ours."""

import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import xs  # noqa: E402

# The wrappers in /usr/bin refuse to start xenstore-control where no Xen runs.
XEN_BIN = "/usr/lib/xen-4.17/bin"


class StockTest(unittest.TestCase):
    """Each test has a daemon of its own, empty but for what the daemon itself makes."""

    daemon_options = ()

    def setUp(self):
        self.daemon = xs.Daemon(*self.daemon_options)
        self.addCleanup(self.daemon.stop)
        self.daemon.start()

    def environment(self):
        return {"PATH": "/usr/bin:/bin",
                "XENSTORED_PATH": os.path.join(self.daemon.rundir, "socket")}

    def run_client(self, *command):
        """The finished process of one client; its output is text."""
        return subprocess.run(command, env=self.environment(), capture_output=True,
                              stdin=subprocess.DEVNULL, text=True, timeout=60, check=False)

    def expect(self, line, stdout="", stderr="", code=0):
        """Runs `line` (words, split at spaces) and compares all that it does."""
        done = self.run_client(*line.split(" "))
        self.assertEqual((done.stdout, done.stderr, done.returncode), (stdout, stderr, code), line)
