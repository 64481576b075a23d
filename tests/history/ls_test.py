#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""xs-history ls beside Debian's xenstore-ls on a daemon of ours that holds the same tree."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
import unittest

import made
import scene
import xs


def nodes():
    """Values, names, depths and permissions at every limit that xenstore-ls has. Siblings are made
    in the order of their names, in which we list them."""
    tree = {"/a": (b"", "n0"), "/a/bytes": (bytes(range(256)), "n0"),
            "/a/digits": (b"\x011\x079\x000\xffz", "n0"), "/a/empty": (b"", "n0"),
            "/a/long": (b"x" * 100, "n0"), "/b": (b"1", "n0")}
    for length in range(40, 80):
        tree[f"/b/n{length}"] = (b"y" * length, "n0,r3")
    tree["/b/z-1"] = tree["/b/z"] = (b"", "n0")  # git has these in the other order
    tree["/c"] = (b"", "n0")
    for length in range(68, 76):
        tree[f"/c/{'k' * length}"] = (b"val" * 5, "n0")
    tree["/d"] = (b"", "n0")
    path = "/d"
    for depth in range(90):
        path += f"/deep{depth}"
        tree[path] = (b"v" if depth % 3 else b"", "n0")
    tree["/e"] = (b"\x01" * 60, "n3,r4,b5,w6")
    return dict(sorted(tree.items(), key=lambda item: item[0].split("/")))


END = b"<end of what it wrote>\r\n"


def on_terminal(columns, command, env):
    """What a command writes to a terminal so wide. The terminal stays open until all of it was
    read: what stands in one that is closed can be lost."""
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=terminal) as process:
        def end():
            process.wait()
            os.write(terminal, END.replace(b"\r", b""))

        ender = threading.Thread(target=end)
        ender.start()
        output = b""
        while not output.endswith(END):
            output += os.read(reader, 65536)
        ender.join()
        os.close(terminal)
        os.close(reader)
        assert process.returncode == 0
    return output.removesuffix(END).replace(b"\r\n", b"\n")


class SameTree(scene.Area):
    def setUp(self):
        super().setUp()
        daemon = xs.Daemon()
        self.addCleanup(daemon.stop)
        daemon.start(stderr=subprocess.DEVNULL)
        client = daemon.client()
        tree = nodes()
        client.call(xs.RM, b"/tool\0")
        for path, (value, perms) in tree.items():
            wire = path.encode() + b"\0"
            self.assertEqual(client.call(xs.WRITE, wire + value), b"OK\0")
            entries = perms.replace(",", "\0").encode() + b"\0"
            self.assertEqual(client.call(xs.SET_PERMS, wire + entries), b"OK\0")
        client.close()
        made.History(self.area).commit(made.XENSTORED, "first commit", tree, whole="a test")
        self.env = {"PATH": "/usr/bin:/bin",
                    "XENSTORED_PATH": os.path.join(daemon.rundir, "socket")}

    def commands(self, *options):
        return (["xenstore-ls", *options], [scene.HISTORY, "--area", self.area, "ls", *options])

    def test_every_byte_is_that_of_xenstore_ls(self):
        for options in ([], ["-f"], ["-p"], ["-fp"], ["-p", "/b"], ["-fp", "/d/deep0"], ["/e"]):
            with self.subTest(options=options):
                theirs, ours = (subprocess.run(command, env=self.env, capture_output=True,
                                               timeout=30, check=True).stdout
                                for command in self.commands(*options))
                self.assertEqual(ours.splitlines(), theirs.splitlines())
                self.assertEqual(ours, theirs)

    def test_also_on_terminals_of_any_width(self):
        for columns in (11, 30, 61, 62, 63, 82, 200):
            for options in ([], ["-p"], ["-fp"]):
                with self.subTest(columns=columns, options=options):
                    theirs, ours = (on_terminal(columns, command, self.env)
                                    for command in self.commands(*options))
                    self.assertEqual(ours.splitlines(), theirs.splitlines())


class Moments(scene.Scene):
    def test_shows_the_tree_of_the_last_commit_at_or_before_a_time(self):
        name = "name = \"web01\"\n"
        for moment in (self.ids[2], "@1763741113.123456", "2025-11-21T16:05:13.9Z",
                       "2025-11-21T17:05:13.9+01:00", "2025-11-21 16:05:14", "HEAD~3"):
            self.assertIn(name, self.text("ls", scene.GUEST, "--at", moment), moment)
        self.assertEqual(self.text("ls", "-f", "/local"), "/local/domain = \"\"\n")

    def test_stale_permissions_look_as_the_daemon_tells_them(self):
        self.assertEqual(self.text("ls", "-fp", "/local", "--at", "HEAD"),
                         "/local/domain = \"\"   (n0,r3)\n")

    def test_json_has_values_and_permissions_whole(self):
        document = self.json("ls", scene.GUEST, "--at", "HEAD~2")
        self.assertEqual(document["commit"], self.history.ids[3])
        self.assertEqual(document["nodes"][-1], {
            "path": f"{scene.GUEST}/name",
            "value": r'a\\b "c"\n\x00\x01\xff<script>alert(1)</script>', "perms": ["n3", "r0"]})

    def test_no_such_node_is_a_sentence(self):
        self.assertEqual(self.refusal("ls", "/nope", "--at", "HEAD~5"),
                         f"no node /nope at {self.ids[0]} (2025-11-21T16:05:11.123456+00:00)")


if __name__ == "__main__":
    unittest.main()
