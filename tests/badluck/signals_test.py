#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""SIGTERM, SIGINT, SIGHUP and SIGPIPE do what operators expect."""

import os
import signal
import unittest

from box import Box, alive, eventually, read, read_pid, read_text, tree, write, xs


class Stop(unittest.TestCase):
    def setUp(self):
        self.box = Box()
        self.addCleanup(self.box.stop)

    def start(self, *options):
        self.box.options = list(options)
        self.box.start()
        self.client = self.box.client()
        for number in range(50):
            self.assertEqual(write(self.client, f"/kept/{number}", b"v"), b"OK\0")
        self.assertEqual(self.client.call(xs.SET_PERMS, b"/kept/1\0n5\0r6\0"), b"OK\0")
        self.tree = tree(self.client)

    def assert_clean(self):
        """Exit 0, no process, pid file or socket left, and the next start has everything."""
        self.assertEqual(self.box.process.wait(10), 0, self.box.log())
        eventually(lambda: not self.box.processes(), "the end of all processes")
        left = {"test.pid", "socket", "xenstored-server.pid"} & set(os.listdir(self.box.rundir))
        self.assertEqual(left, set())
        self.box.options = []
        self.box.start()
        self.assertEqual(tree(self.box.client()), self.tree)

    def test_sigterm(self):
        self.start()
        self.box.process.send_signal(signal.SIGTERM)
        self.assert_clean()

    def test_sigint(self):
        self.start()
        self.box.process.send_signal(signal.SIGINT)
        self.assert_clean()

    def test_sigterm_to_the_keeper(self):
        self.start("--supervise")
        self.box.process.send_signal(signal.SIGTERM)
        self.assert_clean()

    def test_sigint_to_the_keeper(self):
        self.start("--supervise")
        self.box.process.send_signal(signal.SIGINT)
        self.assert_clean()

    def test_sigterm_to_keeper_and_server_as_systemd_does(self):
        self.start("--supervise")
        os.kill(self.box.server_pid(), signal.SIGTERM)
        self.box.process.send_signal(signal.SIGTERM)
        self.assert_clean()

    def test_sigterm_to_the_daemonised_one(self):
        self.start("--supervise")
        self.box.kill_all()
        self.box.mode = ("-D",)
        self.box.options = []
        self.assertEqual(self.box.run().returncode, 0)
        os.kill(read_pid(self.box.pid_file), signal.SIGTERM)
        eventually(lambda: not self.box.processes(), "the end of all processes")
        self.assertFalse(os.path.exists(self.box.pid_file))
        self.assertFalse(os.path.exists(os.path.join(self.box.rundir, "socket")))
        self.box.mode = ("-D", "-N")
        self.box.start()
        self.assertEqual(tree(self.box.client()), self.tree)

    def test_sigterm_amid_traffic_loses_nothing_acknowledged(self):
        self.start()
        tx = int(self.client.call(xs.TRANSACTION_START, b"\0")[:-1])
        self.assertEqual(write(self.client, "/open/transaction", b"x", tx), b"OK\0")
        self.assertEqual(self.client.call(xs.WATCH, b"/kept\0t\0"), b"OK\0")
        writer, acknowledged = self.box.client(), 0
        for number in range(200):
            writer.send(xs.WRITE, b"/count\0%d" % number)
        self.box.process.send_signal(signal.SIGTERM)
        try:
            while True:
                self.assertEqual(writer.recv()[3], b"OK\0")
                acknowledged += 1
                if acknowledged == 200:
                    break
        except xs.Closed:
            pass
        self.assertEqual(self.box.process.wait(10), 0)
        self.box.start()
        client = self.box.client()
        found = read(client, "/count")
        if acknowledged:
            self.assertGreaterEqual(int(found), acknowledged - 1)
        self.assertEqual(read(client, "/open/transaction"), "ENOENT")

    def test_two_sigterms(self):
        self.start()
        self.box.process.send_signal(signal.SIGTERM)
        self.box.process.send_signal(signal.SIGTERM)
        self.assert_clean()


class GoOn(unittest.TestCase):
    def setUp(self):
        self.box = Box()
        self.addCleanup(self.box.stop)
        self.trace = os.path.join(self.box.rundir, "trace")
        self.box.options = ["-T", self.trace]

    def start(self, *options):
        self.box.options += options
        self.box.start()
        self.client = self.box.client()

    def traced(self, path, word):
        self.assertEqual(write(self.client, f"/{word}", b"x"), b"OK\0")
        return word in read_text(path)

    def rotate(self, pid, number=0):
        """What logrotate does: rename, signal, and the next line is in a new file."""
        eventually(lambda: self.traced(self.trace, f"before-{number}"), "a traced request")
        os.rename(self.trace, self.trace + ".1")
        os.kill(pid, signal.SIGHUP)
        eventually(lambda: self.traced(self.trace, f"after-{number}"), "a new trace file")
        self.assertIn(f"before-{number}", read_text(self.trace + ".1"))
        self.assertEqual(read(self.client, f"/after-{number}"), b"x", "the same connection")
        eventually(lambda: self.traced(self.trace, f"later-{number}"), "a traced request")
        self.assertNotIn(f"later-{number}", read_text(self.trace + ".1"))

    def test_sighup_reopens_the_trace(self):
        self.start()
        for number in range(3):
            self.rotate(self.box.process.pid, number)

    def test_sighup_to_the_keeper_reopens_the_trace(self):
        self.start("--supervise")
        server = self.box.server_pid()
        self.rotate(read_pid(self.box.pid_file))
        self.assertEqual(self.box.server_pid(), server)

    def test_sighup_without_any_file_is_harmless(self):
        self.box.options = []
        self.start()
        for _ in range(10):
            self.box.process.send_signal(signal.SIGHUP)
            self.assertEqual(write(self.client, "/on", b"x"), b"OK\0")

    def test_sighup_when_the_file_cannot_be_opened(self):
        self.start()
        os.rename(self.trace, self.trace + ".1")
        os.mkdir(self.trace)
        self.box.process.send_signal(signal.SIGHUP)
        for _ in range(100):
            self.assertEqual(write(self.client, "/on", b"x"), b"OK\0")
        eventually(lambda: "trace file" in self.box.log(), "a word about it in the log")

    def test_sigpipe_has_no_effect(self):
        self.start("--supervise")
        server = self.box.server_pid()
        for pid in (server, self.box.process.pid):
            os.kill(pid, signal.SIGPIPE)
            self.assertEqual(write(self.client, "/on", b"x"), b"OK\0")
        for _ in range(200):  # gone before the reply can be sent
            client = self.box.client()
            for _ in range(10):
                client.send(xs.READ, b"/on\0")
            client.close()
        self.assertEqual(read(self.client, "/on"), b"x")
        self.assertEqual(self.box.server_pid(), server)
        self.assertTrue(alive(server) and alive(self.box.process.pid))


if __name__ == "__main__":
    unittest.main()
