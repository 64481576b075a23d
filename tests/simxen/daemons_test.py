# SPDX-License-Identifier: MIT
"""Debian's daemons serve guests on the stand-in: what it claims to be, they believe."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "support"))
import simxen  # noqa: E402
import xs  # noqa: E402

XEN_BIN = "/usr/lib/xen-4.17/bin"


class Daemons:
    """What both must do; a machine, a daemon and a bridge for each test."""

    def setUp(self):
        self.rundir = tempfile.mkdtemp(prefix="simxen.", dir="/dev/shm")
        self.addCleanup(shutil.rmtree, self.rundir)
        self.machine = simxen.Machine(os.path.join(self.rundir, "machine"))
        self.bridge = simxen.start_bridge(self.machine, os.path.join(self.rundir, "guests"))
        self.addCleanup(self.bridge.stop)
        self.process = None
        self.start()
        self.addCleanup(self.kill)

    def start(self):
        environment = {**self.machine.environment(), "XENSTORED_RUNDIR": self.rundir}
        self.process = subprocess.Popen(self.command, env=environment, stdout=subprocess.DEVNULL)
        self.toolstack = self.wait_for(lambda: xs.Client(self.rundir))
        # They listen before they bind dom0's port.
        self.assertEqual(self.call(xs.IS_DOMAIN_INTRODUCED, 0), b"T\0")

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.toolstack.close()

    def client(self, domid=None):
        client = xs.Client(self.rundir, domid)
        self.addCleanup(client.close)
        return client

    def wait_for(self, action, seconds=10):
        """The result of `action` as soon as that is true and nothing was raised."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                result = action()
                if result:
                    return result
            except OSError:
                if time.monotonic() > deadline:
                    raise
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.005)

    def call(self, op, *words):
        return self.toolstack.call(op, b"".join(str(word).encode() + b"\0" for word in words))

    def introduce(self, domid):
        home = f"/local/domain/{domid}"
        gfn, port = self.machine.create(domid)
        self.call(xs.MKDIR, home)
        self.assertEqual(self.call(xs.SET_PERMS, home, f"n{domid}"), b"OK\0")
        return self.call(xs.INTRODUCE, domid, gfn, port)

    def next_event(self, client):
        self.assertFalse(client.quiet(10), "no event came")
        op, _, _, payload = client.recv()
        self.assertEqual(op, xs.WATCH_EVENT)
        return payload

    def test_a_guest_is_served(self):
        self.assertEqual(self.introduce(5), b"OK\0")
        self.assertEqual(self.machine.ports(), {0: "interdomain", 5: "interdomain"})
        guest = self.client(5)
        self.assertEqual(guest.call(xs.WRITE, b"key\0value"), b"OK\0")
        self.assertEqual(guest.call(xs.READ, b"key\0"), b"value")
        self.assertEqual(guest.call(xs.WRITE, b"/other\0value"), "EACCES")
        self.assertEqual(self.call(xs.READ, "/local/domain/5/key"), b"value")

    def test_values_longer_than_a_ring(self):
        self.introduce(5)
        guest = self.client(5)
        value = bytes(range(48, 112)) * 30
        self.assertEqual(guest.call(xs.WRITE, b"key\0" + value), b"OK\0")
        self.assertEqual(guest.call(xs.READ, b"key\0"), value)

    def test_many_requests_at_once(self):
        self.introduce(5)
        guest = self.client(5)
        guest.call(xs.WRITE, b"key\0" + b"x" * 100)
        for _ in range(500):
            guest.send(xs.READ, b"key\0")
        for _ in range(500):
            self.assertEqual(guest.recv()[3], b"x" * 100)

    def test_events_reach_whoever_is_there_for_the_guest(self):
        self.introduce(5)
        guest = self.client(5)
        guest.call(xs.WATCH, b"key\0token\0")
        self.assertEqual(self.next_event(guest), b"key\0token\0")
        guest.close()
        self.call(xs.WRITE, "/local/domain/5/key")
        self.assertEqual(self.next_event(self.client(5)), b"key\0token\0")

    def test_a_reply_is_for_who_asked(self):
        self.introduce(5)
        for _ in range(20):
            first = xs.Client(self.rundir, 5)
            first.send(xs.READ, b"nothing\0")
            first.close()
            second = xs.Client(self.rundir, 5)
            self.assertEqual(second.call(xs.GET_DOMAIN_PATH, b"5\0"), b"/local/domain/5\0")
            second.close()

    def test_the_end_of_a_domain_is_seen(self):
        self.introduce(5)
        guest = self.client(5)
        watcher = self.client()
        watcher.call(xs.WATCH, b"@releaseDomain\0token\0")
        self.assertEqual(self.next_event(watcher), b"@releaseDomain\0token\0")
        self.machine.shut_down(5, 1)
        self.assertEqual(self.next_event(watcher), b"@releaseDomain\0token\0")
        self.machine.destroy(5)
        self.assertEqual(self.next_event(watcher), b"@releaseDomain\0token\0")
        self.assertEqual(self.call(xs.IS_DOMAIN_INTRODUCED, 5), b"F\0")
        with self.assertRaises(xs.Closed):
            guest.recv()
        with self.assertRaises(xs.Closed):
            self.client(5).recv()

    def test_a_domid_is_used_again(self):
        self.introduce(5)
        self.machine.destroy(5)
        self.wait_for(lambda: self.call(xs.IS_DOMAIN_INTRODUCED, 5) == b"F\0")
        self.assertEqual(self.introduce(5), b"OK\0")
        self.assertEqual(self.client(5).call(xs.WRITE, b"key\0value"), b"OK\0")

    def test_a_domain_whose_ring_cannot_be_mapped(self):
        gfn, port = self.machine.create(5)
        self.machine.fail_map(5, True)
        self.assertIsInstance(self.call(xs.INTRODUCE, 5, gfn, port), str)
        self.assertEqual(self.machine.ports()[5], "unbound")
        self.machine.fail_map(5, False)
        self.assertEqual(self.call(xs.INTRODUCE, 5, gfn, port), b"OK\0")

    def test_a_daemon_after_one_that_was_killed(self):
        gfn, port = self.machine.create(5)
        self.call(xs.INTRODUCE, 5, gfn, port)
        self.kill()
        self.assertEqual(self.machine.ports(), {0: "unbound", 5: "unbound"})
        self.start()
        self.assertEqual(self.machine.ports(), {0: "interdomain", 5: "unbound"})
        self.assertEqual(self.call(xs.INTRODUCE, 5, gfn, port), b"OK\0")
        guest = self.client(5)
        self.assertEqual(guest.call(xs.GET_DOMAIN_PATH, b"5\0"), b"/local/domain/5\0")

    def test_clients_of_domain_zeros_kernel(self):
        path = os.path.join(self.rundir, "dom0")
        with simxen.start_bridge(self.machine, path, domid=0):
            environment = {**os.environ, "XENSTORED_PATH": path}
            subprocess.run(["xenstore-write", "/key", "value"], env=environment, check=True)
            read = subprocess.run(["xenstore-read", "/key"], env=environment, check=True,
                                  stdout=subprocess.PIPE, text=True)
            self.assertEqual(read.stdout, "value\n")
            done = subprocess.run([f"{XEN_BIN}/test-xenstore"], env=environment, timeout=60,
                                  stdout=subprocess.PIPE, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stdout)


class TestCXenstored(Daemons, unittest.TestCase):
    command = (f"{XEN_BIN}/xenstored", "-N")


class TestOXenstored(Daemons, unittest.TestCase):
    command = (f"{XEN_BIN}/oxenstored", "--no-fork")


if __name__ == "__main__":
    unittest.main()
