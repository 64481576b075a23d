#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""xs-history restore on a running daemon of ours; its history is made here, by stock git."""

import json
import os
import pty
import subprocess
import threading
import unittest

import made
import scene
import xs
from scene import GUEST, HISTORY


class Restore(scene.Scene):
    def setUp(self):
        super().setUp()
        self.daemon = self.make_daemon()
        self.addCleanup(self.daemon.stop)
        self.daemon.start(stderr=subprocess.DEVNULL)
        self.client = self.daemon.client()
        self.addCleanup(self.client.close)
        self.socket = os.path.join(self.daemon.rundir, "socket")

    def make_daemon(self):
        return xs.Daemon()

    def write(self, path, value, perms=None):
        self.assertEqual(self.client.call(xs.WRITE, path.encode() + b"\0" + value), b"OK\0")
        if perms:
            payload = "\0".join([path, *perms.split(","), ""]).encode()
            self.assertEqual(self.client.call(xs.SET_PERMS, payload), b"OK\0")

    def read(self, path):
        return self.client.call(xs.READ, path.encode() + b"\0")

    def perms(self, path):
        return self.client.call(xs.GET_PERMS, path.encode() + b"\0")

    def restore(self, *arguments):
        return scene.run(self.area, "restore", "--socket", self.socket, *arguments)

    def test_makes_values_nodes_and_permissions_what_they_were(self):
        self.write(GUEST, b"", "n3,r0")
        self.write(f"{GUEST}/name", b"other", "n0")
        self.write(f"{GUEST}/new/below", b"1", "n0")
        done = self.restore(GUEST, "--at", "HEAD~2", "--yes")
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        self.assertEqual(done.stdout, f"""\
{GUEST} becomes what it was at {self.ids[3]} (2025-11-21T16:05:14.123456+00:00):
  - {GUEST}/new = ""  (n3,r0)
  - {GUEST}/new/below = "1"  (n0)
  + {GUEST}/memory = ""  (n3,r0)
  + {GUEST}/memory/target = "262144"  (n3,r0)
  ~ {GUEST}/name  "other" -> "a\\\\b \\"c\\"\\n\\x00\\x01\\xff<script>alert(1)</script>"  (n0) -> (n3,r0)
done: 5 nodes in one transaction
""")
        self.assertEqual(self.read(f"{GUEST}/name"), scene.HOSTILE)
        self.assertEqual(self.perms(f"{GUEST}/name"), b"n3\0r0\0")
        self.assertEqual(self.read(f"{GUEST}/memory/target"), b"262144")
        self.assertEqual(self.read(f"{GUEST}/new"), "ENOENT")
        again = self.restore(GUEST, "--at", "HEAD~2", "--yes")
        self.assertEqual((again.returncode, again.stdout), (1, ""))
        self.assertEqual(again.stderr, f"xs-history: {GUEST} is as it was at {self.ids[3]} "
                         "(2025-11-21T16:05:14.123456+00:00): nothing to do\n")

    def test_is_one_event_for_a_watcher_of_each_node_and_one_transaction(self):
        watcher = self.daemon.client()
        watcher.call(xs.WATCH, f"{GUEST}\0token\0".encode())
        watcher.recv()
        self.restore(GUEST, "--at", "HEAD~2", "--yes")
        # Nodes are there at the first event: nobody sees a half.
        watcher.recv()
        self.assertEqual(watcher.call(xs.READ, f"{GUEST}/name\0".encode(), events=[]),
                         scene.HOSTILE)
        watcher.close()

    def test_removes_what_was_not_there(self):
        self.write("/x/y", b"1")
        done = self.restore("/x", "--at", "HEAD", "--yes")
        self.assertIn('  - /x/y = "1"  (n0)\ndone: 2 nodes in one transaction\n', done.stdout)
        self.assertEqual(self.read("/x"), "ENOENT")

    def test_removes_a_node_beside_one_whose_name_goes_on(self):
        self.write("/tool/x/y", b"1")
        self.write("/tool/x-y", b"1")  # between /tool/x and /tool/x/y as bytes are sorted
        done = self.restore("/tool", "--at", "HEAD~2", "--yes")
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        self.assertIn("done: 4 nodes in one transaction\n", done.stdout)

    def test_without_a_terminal_it_only_shows(self):
        self.write("/x", b"1")
        done = self.restore("/x", "--at", "HEAD")
        self.assertEqual((done.returncode, done.stderr),
                         (1, "xs-history: nothing was done; --yes does it\n"))
        self.assertIn('  - /x = "1"  (n0)\n', done.stdout)
        self.assertEqual(self.read("/x"), b"1")

    def test_json_tells_the_plan_and_whether_it_was_done(self):
        self.write("/x", b"1")
        plan = json.loads(self.restore("/x", "--at", "HEAD", "--json").stdout)
        self.assertEqual(plan, {
            "path": "/x", "commit": self.history.ids[5], "time": "2025-11-21T16:05:16.123456+00:00",
            "is_done": False, "changes": [{"path": "/x", "kind": "removed",
                                           "before": {"value": "1", "perms": ["n0"]}}]})
        self.assertEqual(self.read("/x"), b"1")
        done = json.loads(self.restore("/x", "--at", "HEAD", "--json", "--yes").stdout)
        self.assertEqual(done, {**plan, "is_done": True})
        self.assertEqual(self.read("/x"), "ENOENT")

    def answer(self, reply, meanwhile=lambda: None):
        """Runs it on a terminal, and says so when it asks. Its output, and status."""
        ours, theirs = pty.openpty()
        with subprocess.Popen([HISTORY, "--area", self.area, "--color", "never", "restore", "/x",
                               "--at", "HEAD", "--socket", self.socket],
                              stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True) as process:
            self.addCleanup(os.close, ours)
            question = ""
            while not question.endswith("[y/N] "):
                question += process.stderr.read(1)
            meanwhile()
            os.write(ours, reply)
            os.close(theirs)
            stdout, stderr = process.communicate(timeout=30)
        return stdout, stderr, process.returncode

    def test_on_a_terminal_it_asks(self):
        self.write("/x", b"1")
        self.assertEqual(self.answer(b"n\n")[1:], ("xs-history: nothing was done\n", 1))
        self.assertEqual(self.read("/x"), b"1")
        self.assertEqual(self.answer(b"y\n")[1:], ("", 0))
        self.assertEqual(self.read("/x"), "ENOENT")

    def test_what_was_not_agreed_to_is_asked_anew(self):
        self.write("/x", b"1")
        stdout, stderr, _ = self.answer(b"y\nn\n", meanwhile=lambda: self.write("/x", b"2"))
        self.assertEqual(stderr, "Do this? [y/N] xs-history: nothing was done\n")
        self.assertIn('- /x = "2"', stdout)
        self.assertEqual(self.read("/x"), b"2")

    def test_goes_on_when_others_are_in_the_way(self):
        for n in range(300):
            self.write(f"/busy/node{n:03}{'x' * 20}", b"1")
        stop = threading.Event()

        def disturb():
            client = self.daemon.client()
            count = 0
            while count < 400 and not stop.wait(0.002):  # for a second: it is tried for two at least
                count += 1
                client.call(xs.WRITE, b"/busy/node000%s\0%d" % (b"x" * 20, count))
            client.close()
        thread = threading.Thread(target=disturb)
        thread.start()
        done = self.restore("/busy", "--at", "HEAD", "--yes")
        stop.set()
        thread.join()
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        self.assertTrue(done.stdout.endswith("done: 301 nodes in one transaction\n"))

    def test_more_children_than_a_reply_holds(self):
        tree = {"/wide": (b"", "n0")}
        tree.update({f"/wide/{'c' * 40}{n:04}": (b"v", "n0") for n in range(600)})
        self.history.commit(made.XENSTORED, "wide", tree)
        self.assertTrue(self.restore("/wide", "--at", "HEAD", "--yes").stdout.endswith(
            "done: 601 nodes in one transaction\n"))
        self.assertIn("nothing to do", self.restore("/wide", "--at", "HEAD", "--yes").stderr)

    def test_no_daemon_is_a_sentence(self):
        self.daemon.kill()
        done = self.restore("/tool", "--at", "HEAD~2", "--yes")
        self.assertEqual((done.returncode, done.stderr),
                         (1, f"xs-history: cannot connect to {self.socket}: Connection refused\n"))


class Orphans(Restore):
    """On a machine without a domain 3."""

    def make_daemon(self):
        return xs.HostedDaemon()

    def setUp(self):
        super().setUp()
        self.history.commit(made.XENSTORED, "stale", {"/s": (b"1", "n0,r3 stale,r0")})

    def test_a_node_whose_owner_is_dead_can_go_to_domain_0(self):
        done = self.restore(f"{GUEST}/name", "--at", "HEAD~3", "--yes")
        self.assertEqual((done.returncode, done.stderr), (1, (
            f"xs-history: the owner of {GUEST}/name, domain 3, does not exist any more; "
            "--orphans-to-dom0 gives such nodes to domain 0; nothing was done\n")))
        self.assertEqual(self.read(f"{GUEST}/name"), "ENOENT")

    def test_entries_of_the_dead_are_left_out(self):
        done = self.restore("/s", "--at", "HEAD", "--yes")
        self.assertEqual(done.stderr, "")
        self.assertEqual(self.perms("/s"), b"n0\0r0\0")


for name in dir(Restore):  # those of the class above are not for this machine
    if name.startswith("test_") and name not in vars(Orphans):
        setattr(Orphans, name, None)

if __name__ == "__main__":
    unittest.main()
