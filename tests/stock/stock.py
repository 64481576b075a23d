# SPDX-License-Identifier: MIT
"""Runs Debian's xenstore clients against a daemon of ours."""

import contextlib
import os
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", folder) for folder in ("support", "simxen")]
import simxen  # noqa: E402
import xs  # noqa: E402

# The wrappers in /usr/bin refuse to start xenstore-control where no Xen runs.
XEN_BIN = "/usr/lib/xen-4.17/bin"


class StockTest(unittest.TestCase):
    """Each test has a daemon of its own, empty but for what the daemon itself makes."""

    daemon_options = ()
    socket = "socket"  # in the daemon's directory: where the clients connect

    def setUp(self):
        self.daemon = self.make_daemon()
        self.addCleanup(self.daemon.stop)
        self.daemon.start()

    def make_daemon(self):
        return xs.Daemon(*self.daemon_options)

    def environment(self):
        return {"PATH": "/usr/bin:/bin",
                "XENSTORED_PATH": os.path.join(self.daemon.rundir, self.socket)}

    def run_client(self, *command):
        """The finished process of one client; its output is text."""
        return subprocess.run(command, env=self.environment(), capture_output=True,
                              stdin=subprocess.DEVNULL, text=True, timeout=60, check=False)

    def expect(self, line, stdout="", stderr="", code=0):
        """Runs `line` (words, split at spaces) and compares all that it does."""
        done = self.run_client(*line.split(" "))
        self.assertEqual((done.stdout, done.stderr, done.returncode), (stdout, stderr, code), line)


class OnRingTest(StockTest):
    """The clients use the ring of a domain, as those in a guest do by /dev/xen/xenbus."""

    domid = 0
    socket = "ring"

    def make_daemon(self):
        return xs.HostedDaemon(*self.daemon_options)

    def setUp(self):
        super().setUp()
        if self.domid:
            self.introduce()
        bridge = simxen.start_bridge(
            self.daemon.machine, os.path.join(self.daemon.rundir, self.socket), self.domid)
        self.addCleanup(bridge.stop)

    def introduce(self):
        with contextlib.closing(self.daemon.client()) as client:
            home = b"/local/domain/%d" % self.domid
            ring = b"%d\0%d\0%d\0" % (self.domid, *self.daemon.machine.create(self.domid))
            for op, payload in ((xs.INTRODUCE, ring), (xs.WRITE, home + b"/domid\0%d" % self.domid),
                                (xs.SET_PERMS, home + b"\0n%d\0" % self.domid)):
                self.assertEqual(client.call(op, payload), b"OK\0")
