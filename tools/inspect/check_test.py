#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""xs-inspect check and stat: on what a killed daemon left, on copies of it that were changed, and on
a running daemon."""

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
import unittest

from inspecting import area_of, as_json, digest, inspect, socket_of, write, xs

HOSTILE = b"\x1b[2Jclear \"me\" \\\n\x00\xff"


def scribble(area):
    """A value is another, on each page of the database that has it."""
    with open(os.path.join(area, "state/data.mdb"), "r+b") as file:
        content = file.read()
        at = content.find(b"web01")
        while at != -1:
            file.seek(at)
            file.write(b"web02")
            at = content.find(b"web01", at + 1)


class Scene(unittest.TestCase):
    """A daemon with a history, in which a few nodes are."""

    options = ["--history=on"]

    def setUp(self):
        self.daemon = xs.Daemon(*self.options)
        self.addCleanup(self.daemon.stop)
        self.area, self.socket = area_of(self.daemon), socket_of(self.daemon)
        self.start()
        with_perms = [("/a", b"1", "n0"), ("/a/deep/node", HOSTILE, "n3,r0"), ("/b", b"", "b5"),
                      ("/local/domain/3/name", b"web01", "n3,r0")]
        for path, value, perms in with_perms:
            write(self.client, path, value, perms)
        if self.options:
            self.eventually(self.is_settled, "history to keep up")

    def is_settled(self):
        """A history that begins is behind; a copy of the state tells when it is no more. (While
        nothing is asked the daemon writes nothing but that.)"""
        write(self.client, "/mark", b"%d" % time.monotonic_ns())
        with tempfile.TemporaryDirectory(dir=self.daemon.rundir) as copy:
            shutil.copytree(self.area, copy, dirs_exist_ok=True)
            os.unlink(os.path.join(copy, "lock"))
            done = inspect("stat", "--json", "--area", copy)
            history = json.loads(done.stdout)["history"] if done.returncode == 0 else None
            return history is not None and history["setting"] == "on"

    def start(self):
        self.log = os.path.join(self.daemon.rundir, "log")
        with open(self.log, "ab") as log:
            self.daemon.start(stderr=log)
        self.client = self.daemon.client()
        self.addCleanup(self.client.close)

    def git(self, *arguments, area=None, **options):
        done = subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", os.path.join(area or self.area, "history.git"),
             *arguments], stdout=subprocess.PIPE, check=True, timeout=60, **options)
        return done.stdout.decode()

    def eventually(self, condition, what):
        deadline = time.monotonic() + 60
        while not condition():
            self.assertLess(time.monotonic(), deadline, f"not within a minute: {what}")
            time.sleep(0.02)

    def wait_until_written(self):
        """All that was done is in history: one more change is."""
        mark = b"%d" % time.monotonic_ns()
        write(self.client, "/mark", mark)

        def is_there():
            try:
                return self.git("cat-file", "blob", "HEAD:mark/.value",
                                stderr=subprocess.DEVNULL) == mark.decode()
            except subprocess.CalledProcessError:
                return False
        self.eventually(is_there, "the last change in history")

    def copy(self, name="copy"):
        where = os.path.join(self.daemon.rundir, name)
        shutil.copytree(self.area, where)
        return where

    def check(self, *options, status):
        """{part: (verdict, text, the lines of its differences)}; both outputs say the same."""
        done = inspect("check", *options)
        self.assertEqual((done.stderr, done.returncode), ("", status), done.stdout)
        self.assertTrue(all(c == "\n" or " " <= c <= "~" for c in done.stdout), done.stdout)
        parts = {}
        for line in done.stdout.splitlines():
            if line.startswith(" "):
                parts[name][2].append(line.strip())
                continue
            name, _, rest = line.partition(" ")
            verdict = next(one for one in ("agrees", "DIFFERS", "not compared")
                           if rest.strip().startswith(one))
            parts[name] = (verdict, rest.strip()[len(verdict):].strip(), [])
        return parts

    def verdicts(self, *options, status):
        return {name: part[0] for name, part in self.check(*options, status=status).items()}


class Stored(Scene):
    """A daemon that was killed."""

    def test_all_agrees_and_nothing_is_written(self):
        self.wait_until_written()
        self.daemon.kill()
        before = digest(self.area)
        parts = self.check("--area", self.area, status=0)
        self.assertEqual({name: part[0] for name, part in parts.items()},
                         {"state": "agrees", "history": "agrees", "daemon": "not compared"})
        self.assertIn("with 0 stored since", parts["history"][1])
        self.assertEqual(digest(self.area), before)
        os.unlink(os.path.join(self.copy(), "lock"))
        self.check("--area", os.path.join(self.daemon.rundir, "copy"), status=0)

    def test_entries_that_wait_explain_what_history_lacks(self):
        for _ in range(20):
            for number in range(300):
                self.client.send(xs.WRITE, b"/many/%d\0value" % number)
            self.client.send(xs.RM, b"/a/deep\0")
            for _ in range(301):
                self.client.recv()
            self.daemon.kill()
            waiting = as_json("stat", "--area", self.area)["history"]["entries_waiting"]
            text = self.check("--area", self.area, status=0)["history"][1]
            self.assertIn(f"with {waiting} stored since", text)
            if waiting:
                return
            self.start()
        self.fail("history was written at once, 20 times")

    def test_other_bytes_in_the_database(self):
        self.daemon.kill()
        area = self.copy()
        scribble(area)
        parts = self.check("--area", area, status=1)
        self.assertEqual((parts["state"][0], parts["history"][0]), ("DIFFERS", "not compared"))
        self.assertIn("can be read; there is no state", parts["history"][1])
        self.assertEqual(self.verdicts("--area", self.area, status=0)["state"], "agrees")

    def change_tip(self, area):
        """In place of the last commit stands another: of /a the value and of /b the permissions
        are others, /local is missing, /new is there."""
        env = {**os.environ, "GIT_INDEX_FILE": os.path.join(area, "index"),
               "GIT_AUTHOR_NAME": "xenstored", "GIT_AUTHOR_EMAIL": "xenstored@xenstore",
               "GIT_COMMITTER_NAME": "xenstored", "GIT_COMMITTER_EMAIL": "xenstored@xenstore"}

        def git(*arguments, stdin=None):
            return self.git(*arguments, area=area, env=env, input=stdin).strip()

        def put(path, content):
            blob = git("hash-object", "-w", "--stdin", stdin=content)
            git("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}")
        git("read-tree", "main")
        put("a/.value", b"\x1b2")
        put("b/.perms", b"n0\n")
        put("new/.perms", b"n0\n")
        removed = git("ls-files", "local").splitlines()
        git("update-index", "--index-info",
            stdin="".join(f"0 {'0' * 40}\t{path}\n" for path in removed).encode())
        message = git("log", "-1", "--format=%B", "main").encode()
        commit = git("commit-tree", git("write-tree"), "-p", "main~1", "-F", "-", stdin=message)
        git("update-ref", "refs/heads/main", commit)

    def test_a_tip_that_differs(self):
        self.wait_until_written()
        self.daemon.kill()
        area = self.copy()
        self.change_tip(area)
        parts = self.check("--area", area, status=1)
        self.assertEqual((parts["state"][0], parts["history"][0]), ("agrees", "DIFFERS"))
        self.assertEqual(parts["history"][2], [
            '~ /a  "\\x1b2" -> "1"', '~ /b  (n0) -> (b5)', '+ /local = ""  (n0)',
            '+ /local/domain = ""  (n0)', '+ /local/domain/3 = ""  (n0)',
            '+ /local/domain/3/name = "web01"  (n3,r0)', '- /new = ""  (n0)'])
        done = inspect("check", "--area", area, "--json")
        self.assertEqual(done.returncode, 1)
        self.assertIn('"count": 7', done.stdout)
        self.assertIn('"kind": "removed"', done.stdout)

    def test_of_many_differences_some_are_shown(self):
        self.wait_until_written()
        history = os.path.join(self.copy("early"), "history.git")
        for number in range(120):
            write(self.client, f"/many/{number}")
        self.wait_until_written()
        self.daemon.kill()
        area = self.copy()
        self.git("update-ref", "refs/heads/main", self.swap_tree(area, history), area=area)
        lines = self.check("--area", area, status=1)["history"][2]
        self.assertEqual((len(lines), lines[-1]), (51, "and 72 more nodes"))

    def swap_tree(self, area, history):
        """A commit with the message of the last and the tree of an earlier repository."""
        early = self.git("rev-parse", "main", area=os.path.dirname(history)).strip()
        message = self.git("log", "-1", "--format=%B", "main", area=area).encode()
        env = {**os.environ, "GIT_AUTHOR_NAME": "x", "GIT_AUTHOR_EMAIL": "x@x",
               "GIT_COMMITTER_NAME": "x", "GIT_COMMITTER_EMAIL": "x@x"}
        return self.git("commit-tree", early + "^{tree}", "-F", "-", area=area, env=env,
                        input=message).strip()

    def test_history_that_is_not_this_states(self):
        self.wait_until_written()
        self.daemon.kill()
        early = self.copy("early")
        self.start()
        for _ in range(3):
            write(self.client, "/later", b"%d" % time.monotonic_ns())
        for _ in range(3):  # what came first is erased from the journal by then
            self.wait_until_written()
        self.daemon.kill()
        late = self.copy("late")
        for area in (early, late):
            os.rename(os.path.join(area, "history.git"), area + ".git")
        shutil.copytree(late + ".git", os.path.join(early, "history.git"))
        shutil.copytree(early + ".git", os.path.join(late, "history.git"))
        ahead = self.check("--area", early, status=1)["history"]
        self.assertEqual(ahead[0], "DIFFERS")
        self.assertRegex(ahead[1], "it ends with entry [0-9]+, but the state's last is [0-9]+")
        gap = self.check("--area", late, status=1)["history"]
        self.assertEqual(gap[0], "DIFFERS")
        self.assertRegex(gap[1], "after entry [0-9]+ comes [0-9]+")

    def test_damaged_history(self):
        self.wait_until_written()
        self.daemon.kill()
        objects = os.path.join(self.area, "history.git/objects/pack")
        for name in os.listdir(objects):
            os.truncate(os.path.join(objects, name), 100)
        self.assertEqual(self.verdicts("--area", self.area, status=1)["history"], "DIFFERS")

    def test_a_state_that_says_history_is_behind(self):
        self.wait_until_written()
        self.daemon.kill()
        history = os.path.join(self.area, "history.git")
        os.rename(history, history + ".away")
        with open(history, "wb"):
            pass  # no repository can be there now

        def is_given_up():
            write(self.client, "/unwritten", b"%d" % time.monotonic_ns())
            with open(self.log, encoding="utf-8") as log:
                return "no history is written" in log.read()
        self.start()
        self.eventually(is_given_up, "history to be given up")
        for number in range(10):
            write(self.client, "/unwritten", b"%d" % number)
        self.daemon.kill()
        self.assertIn("there is none", self.check("--area", self.area, status=0)["history"][1])
        os.unlink(history)
        os.rename(history + ".away", history)
        parts = self.check("--area", self.area, status=0)
        self.assertEqual(parts["history"][0], "not compared")
        self.assertIn("it had fallen behind", parts["history"][1])

    def test_nothing_to_check(self):
        self.daemon.kill()
        empty = os.path.join(self.daemon.rundir, "empty")
        os.mkdir(empty)
        self.assertEqual(set(self.verdicts("--area", empty, status=2).values()), {"not compared"})

    def test_a_state_against_a_daemon(self):
        self.daemon.kill()
        area = self.copy()
        self.start()
        self.assertEqual(self.verdicts("--area", area, "--socket", self.socket, status=0)["daemon"],
                         "agrees")
        write(self.client, "/a", HOSTILE)
        self.client.call(xs.RM, b"/b\0")
        daemon = self.check("--area", area, "--socket", self.socket, status=1)["daemon"]
        self.assertEqual((daemon[0], daemon[2]), ("DIFFERS", [
            '~ /a  "1" -> "\\x1b[2Jclear \\"me\\" \\\\\\n\\x00\\xff"', '- /b = ""  (b5)']))

    def test_sizes(self):
        self.wait_until_written()
        self.daemon.kill()
        sizes = as_json("stat", "--area", self.area)
        owners = [(one["domid"], one["nodes"]) for one in sizes["owners"]]
        self.assertEqual([one for one in owners if one[0] != 0], [(3, 2), (5, 1)])
        self.assertEqual(sum(nodes for _, nodes in owners), sizes["nodes"])
        self.assertEqual(sum(one["value_bytes"] for one in sizes["owners"]), sizes["value_bytes"])
        database = sizes["database"]
        self.assertEqual(database["bytes"],
                         os.path.getsize(os.path.join(self.area, "state/data.mdb")))
        self.assertTrue(2 < database["pages_used"] < database["pages"])
        history = sizes["history"]
        self.assertEqual(history["commits"], int(self.git("rev-list", "--count", "main")))
        self.assertEqual(history["last"]["commit"], self.git("rev-parse", "main").strip())
        self.assertEqual(history["entries_waiting"], 0)
        self.assertGreater(history["bytes"], 100)
        text = inspect("stat", "--area", self.area).stdout
        self.assertRegex(text, f"nodes +{sizes['nodes']}\n")
        self.assertRegex(text, "\n5 +0 +1 +0\n")


class WithoutHistory(Scene):
    options = []

    def test_the_state_alone(self):
        self.daemon.kill()
        parts = self.check("--area", self.area, status=0)
        self.assertEqual(parts["history"][:2], ("not compared", f"there is none in {self.area}"))
        self.assertIsNone(as_json("stat", "--area", self.area)["history"])


class Running(Scene):
    def test_agrees_while_others_write(self):
        stop = threading.Event()
        client = self.daemon.client()
        self.addCleanup(client.close)

        def disturb():
            number = 0
            while not stop.wait(0.002):
                number += 1
                write(client, f"/busy/{number % 10}", b"%d" % number)
        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            parts = self.check("--socket", self.socket, status=0)
        finally:
            stop.set()
            thread.join()
        self.assertEqual({name: part[0] for name, part in parts.items()},
                         {"state": "agrees", "history": "agrees"})
        self.assertEqual(self.verdicts("--area", self.area, status=0), {
            "state": "agrees", "history": "agrees"})

    def test_another_daemons_tree(self):
        self.wait_until_written()  # the fresh tree of the other was this one's, too
        other = xs.Daemon()
        self.addCleanup(other.stop)
        other.start(stderr=subprocess.DEVNULL)
        parts = self.check("--area", self.area, "--socket", socket_of(other), status=1)
        self.assertEqual(parts["history"][0], "DIFFERS")
        self.assertIn('- /local/domain/3/name = "web01"  (n3,r0)', parts["history"][2])

    def test_bytes_that_change_below_the_daemon(self):
        scribble(self.area)
        parts = self.check("--area", self.area, status=1)
        self.assertEqual((parts["state"][0], parts["history"][0]), ("DIFFERS", "agrees"))
        self.assertIn("logged them", parts["state"][1])

    def test_a_daemon_that_nobody_can_ask(self):
        parts = self.check("--area", self.area, "--socket", self.socket + ".none", status=2)
        self.assertEqual({part[0] for part in parts.values()}, {"not compared"})
        self.assertIn("cannot connect", parts["state"][1])

    def test_sizes(self):
        self.wait_until_written()
        sizes = as_json("stat", "--socket", self.socket)
        self.daemon.kill()
        stored = as_json("stat", "--area", self.area)
        for name in ("nodes", "value_bytes", "owners", "watches", "transactions"):
            self.assertEqual(sizes[name], stored[name])
        self.assertEqual(sizes["history"]["last"], stored["history"]["last"])
        self.assertEqual(sizes["database"]["bytes"], stored["database"]["bytes"])


if __name__ == "__main__":
    del Scene
    unittest.main()
