# SPDX-License-Identifier: MIT
"""A small history, as of a host on which a guest was made, renamed itself and died; and xs-history
on it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import made  # noqa: E402
import xs  # noqa: E402

HISTORY = os.path.join(xs.BIN, "xs-history")
HOSTILE = b"a\\b \"c\"\n\x00\x01\xff<script>alert(1)</script>"
GUEST = "/local/domain/3"


def run(area, *arguments, **options):
    """The finished process; its output is text."""
    return subprocess.run([HISTORY, "--area", area, *arguments], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=60, check=False, **options)


class Area(unittest.TestCase):
    def setUp(self):
        self.area = tempfile.mkdtemp(prefix="xs.history.", dir="/dev/shm")
        self.addCleanup(shutil.rmtree, self.area, ignore_errors=True)

    def text(self, *arguments):
        done = run(self.area, *arguments)
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        return done.stdout

    def json(self, *arguments):
        return json.loads(self.text("--json", *arguments))

    def refusal(self, *arguments):
        done = run(self.area, *arguments)
        self.assertEqual((done.stdout, done.returncode), ("", 1))
        self.assertTrue(done.stderr.startswith("xs-history: "), done.stderr)
        return done.stderr[len("xs-history: "):].rstrip("\n")


class Scene(Area):
    def setUp(self):
        super().setUp()
        self.history = make(self.area)
        self.ids = [commit[:12] for commit in self.history.ids]


def make(area):
    """Six commits, a second apart, from 2025-11-21T16:05:11.123456 on."""
    history = made.History(area)
    history.commit(made.XENSTORED, "the whole tree: a fresh repository",
                   {"/local": (b"", "n0"), "/local/domain": (b"", "n0,r3"), "/tool": (b"", "n0")},
                   whole="a fresh repository")
    history.commit(made.domain(0), f"MKDIR {GUEST}", {GUEST: (b"", "n3,r0")})
    history.commit(made.client("xl", 1234), f"TRANSACTION_END {GUEST}/memory/target {GUEST}/name",
                   {f"{GUEST}/memory": (b"", "n3,r0"),
                    f"{GUEST}/memory/target": (b"262144", "n3,r0"),
                    f"{GUEST}/name": (b"web01", "n3,r0")})
    history.commit(made.domain(3), f"WRITE {GUEST}/name", {f"{GUEST}/name": (HOSTILE, "n3,r0")})
    history.commit(made.client("a by /b (c)", 99, 1000), "3 requests: 2 WRITE, 1 RM",
                   {f"{GUEST}/name": (b"web03", "n3,r0"), "/tool": None}, requests=3,
                   body=[f"WRITE {GUEST}/name by domain 3 (domain-3)",
                         f"WRITE {GUEST}/name by domain 3 (domain-3)",
                         "RM /tool by a by /b (c) (pid-99.uid-1000)"])
    history.commit(made.XENSTORED, "domain 3 is gone",
                   {GUEST: None, "/local/domain": (b"", "n0,r3 stale")})
    return history
