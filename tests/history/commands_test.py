#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""xs-history's log, show, diff, blame and follow, as a user reads them and as JSON."""

import json
import os
import shutil
import subprocess
import unittest

import made
import scene
from scene import GUEST, HISTORY

HOSTILE_TEXT = r'"a\\b \"c\"\n\x00\x01\xff<script>alert(1)</script>"'
HOSTILE_JSON = r'a\\b "c"\n\x00\x01\xff<script>alert(1)</script>'


def at(second):
    return f"2025-11-21T16:05:{second}.123456+00:00"


class Log(scene.Scene):
    def test_tells_who_changed_what_and_from_what_to_what_newest_first(self):
        ids = self.ids
        self.assertEqual(self.text("log"), f"""\
{ids[5]}  {at(16)}  xenstored  domain 3 is gone
  ~ /local/domain  (n0,r3) -> (n0,r3 stale)
  - {GUEST} = ""  (n3,r0)
  - {GUEST}/memory = ""  (n3,r0)
  - {GUEST}/memory/target = "262144"  (n3,r0)
  - {GUEST}/name = "web03"  (n3,r0)
{ids[4]}  {at(15)}  a by /b (c) (pid 99, uid 1000)  3 requests: 2 WRITE, 1 RM
  ~ {GUEST}/name  {HOSTILE_TEXT} -> "web03"
  - /tool = ""  (n0)
{ids[3]}  {at(14)}  domain 3  WRITE {GUEST}/name
  ~ {GUEST}/name  "web01" -> {HOSTILE_TEXT}
{ids[2]}  {at(13)}  xl (pid 1234)  TRANSACTION_END {GUEST}/memory/target {GUEST}/name
  + {GUEST}/memory = ""  (n3,r0)
  + {GUEST}/memory/target = "262144"  (n3,r0)
  + {GUEST}/name = "web01"  (n3,r0)
{ids[1]}  {at(12)}  domain 0  MKDIR {GUEST}
  + {GUEST} = ""  (n3,r0)
{ids[0]}  {at(11)}  xenstored  the whole tree: a fresh repository
  the first commit that is kept
""")

    def test_of_a_path_shows_only_what_concerns_it(self):
        self.assertEqual(self.text("log", f"{GUEST}/memory/"), f"""\
{self.ids[5]}  {at(16)}  xenstored  domain 3 is gone
  - {GUEST}/memory = ""  (n3,r0)
  - {GUEST}/memory/target = "262144"  (n3,r0)
{self.ids[2]}  {at(13)}  xl (pid 1234)  TRANSACTION_END {GUEST}/memory/target {GUEST}/name
  + {GUEST}/memory = ""  (n3,r0)
  + {GUEST}/memory/target = "262144"  (n3,r0)
""")

    def test_of_a_path_as_json(self):
        document = self.json("log", f"{GUEST}/name")
        self.assertEqual([document["path"], document["older_was_dropped"]],
                         [f"{GUEST}/name", False])
        self.assertEqual([commit["commit"] for commit in document["commits"]],
                         [self.history.ids[i] for i in (5, 4, 3, 2)])
        last, coalesced, own, first = document["commits"]
        self.assertEqual(last["author"], {"kind": "daemon", "name": "xenstored"})
        self.assertEqual(own, {
            "commit": self.history.ids[3], "time": at(14), "time_us": made.START_US + 3_000_000,
            "author": {"kind": "domain", "name": "domain 3", "domid": 3},
            "subject": f"WRITE {GUEST}/name", "first_entry": 4, "last_entry": 4,
            "changes": [{"path": f"{GUEST}/name", "kind": "changed",
                         "before": {"value": "web01", "perms": ["n3", "r0"]},
                         "after": {"value": HOSTILE_JSON, "perms": ["n3", "r0"]}}]})
        self.assertEqual(coalesced["author"],
                         {"kind": "socket", "name": "a by /b (c)", "pid": 99, "uid": 1000})
        self.assertEqual([coalesced["first_entry"], coalesced["last_entry"],
                          len(coalesced["notes"])], [5, 7, 3])
        self.assertEqual(first["changes"][0]["kind"], "created")

    def test_is_bounded_by_count_and_times(self):
        def seen(*options):
            return [line[:12] for line in self.text("log", *options).splitlines()
                    if not line.startswith(" ")]
        ids = self.ids
        self.assertEqual(seen("-n", "2"), [ids[5], ids[4]])
        self.assertEqual(seen("--at", at(13), "-n", "1"), [ids[2]])
        self.assertEqual(seen("--at", "HEAD~3"), [ids[2], ids[1], ids[0]])
        self.assertEqual(seen("--since", "2025-11-21 16:05:15.1Z"), [ids[5], ids[4]])
        self.assertEqual(seen("--since", "@1763741115.2"), [ids[5]])

    def test_of_many_changes_at_once_tells_how_many_more(self):
        self.history.commit(made.domain(0), "TRANSACTION_END /many",
                            {"/many": (b"", "n0"),
                             **{f"/many/{n:02}": (b"v" * 300, "n0") for n in range(30)}})
        lines = self.text("log", "-n", "1").splitlines()
        self.assertEqual(lines[2], f"  + /many/00 = \"{'v' * 200}\"... (300 bytes)  (n0)")
        self.assertEqual(lines[21:], [f"  and 11 more nodes: xs-history show {lines[0][:12]}"])
        self.assertEqual(len(self.json("log", "-n", "1")["commits"][0]["changes"]), 31)
        shown = self.text("show", "HEAD").splitlines()
        self.assertEqual(len(shown), 1 + 1 + 31)
        self.assertEqual(shown[3], f"  + /many/00 = \"{'v' * 300}\"  (n0)")

    def test_says_at_its_end_that_older_history_was_dropped(self):
        self.history.drop_before(self.history.ids[3])
        last = [f"{self.ids[3]}  {at(14)}  domain 3  WRITE {GUEST}/name",
                "  the first commit that is kept", "  older history was dropped"]
        self.assertEqual(self.text("log").splitlines()[-3:], last)
        last[2:2] = [f"  + {GUEST}/name = {HOSTILE_TEXT}  (n3,r0)"]
        self.assertEqual(self.text("log", f"{GUEST}/name").splitlines()[-4:], last)
        document = self.json("log")
        self.assertEqual((len(document["commits"]), document["older_was_dropped"]), (3, True))
        self.assertTrue(document["commits"][2]["is_first_kept"])

    def test_says_when_there_is_nothing(self):
        where = os.path.join(self.area, "history.git")
        self.assertEqual(self.refusal("log", "/nope"),
                         f"{where}: no change of /nope in the history that is kept")
        self.assertEqual(self.refusal("log", "/tool", "--since", "-1m"),
                         f"{where}: no change of /tool since then")
        self.assertEqual(self.refusal("log", "--since", "soon"), "soon: not a time")
        self.assertEqual(scene.run(self.area, "log", "no path").returncode, 105)


class Areas(scene.Scene):
    def test_a_copy_of_the_area_or_of_the_repository_alone_will_do(self):
        text = self.text("log")
        for copied, name in ((self.area, "copy"), (self.history.path, "alone")):
            there = os.path.join(self.area, name)
            shutil.copytree(copied, there, ignore=shutil.ignore_patterns("copy"))
            self.assertEqual(scene.run(there, "log").stdout, text)

    def test_where_no_history_is_a_sentence_says_so(self):
        empty = os.path.join(self.area, "empty")
        os.mkdir(empty)
        done = scene.run(empty, "log")
        self.assertEqual((done.returncode, done.stderr),
                         (1, f"xs-history: {empty}: no history.git is in it\n"))
        done = scene.run(empty + "/nope", "log")
        self.assertEqual((done.returncode, done.stderr),
                         (1, f"xs-history: {empty}/nope: no such directory\n"))
        subprocess.run(["git", "init", "-q", "--bare", empty + "/history.git"], check=True)
        done = scene.run(empty, "log")
        self.assertEqual(
            (done.returncode, done.stderr),
            (1, f"xs-history: {empty}/history.git: there is no commit yet\n"))

    def test_the_area_is_found_as_the_daemon_does(self):
        os.rename(self.history.path, self.area + "/h")
        os.mkdir(self.area + "/area")
        os.rename(self.area + "/h", self.area + "/area/history.git")
        done = subprocess.run([HISTORY, "log", "-n", "1"], capture_output=True, text=True,
                              env={**os.environ, "XENSTORED_RUNDIR": self.area}, check=True)
        self.assertTrue(done.stdout.startswith(self.ids[5]))


class ShowDiffBlame(scene.Scene):
    def test_show_lists_the_requests_of_a_coalesced_commit(self):
        self.assertEqual(self.text("show", self.ids[4]), f"""\
{self.ids[4]}  {at(15)}  a by /b (c) (pid 99, uid 1000)  3 requests: 2 WRITE, 1 RM
  entries 5-7
  WRITE {GUEST}/name by domain 3 (domain-3)
  WRITE {GUEST}/name by domain 3 (domain-3)
  RM /tool by a by /b (c) (pid-99.uid-1000)
  ~ {GUEST}/name  {HOSTILE_TEXT} -> "web03"
  - /tool = ""  (n0)
""")

    def test_show_of_the_first_commit_lists_the_tree(self):
        self.assertEqual(self.text("show", at(11)), f"""\
{self.ids[0]}  {at(11)}  xenstored  the whole tree: a fresh repository
  entry 1
  the first commit that is kept
  + / = ""  (n0)
  + /local = ""  (n0)
  + /local/domain = ""  (n0,r3)
  + /tool = ""  (n0)
""")
        document = self.json("show", self.history.ids[0])
        self.assertEqual(document["whole"], "a fresh repository")
        self.assertEqual([change["path"] for change in document["changes"]],
                         ["/", "/local", "/local/domain", "/tool"])

    def test_show_says_what_it_does_not_know(self):
        where = os.path.join(self.area, "history.git")
        self.assertEqual(self.refusal("show", "abcdef0123"),
                         f"abcdef0123: neither a commit of {where} nor a time")
        self.assertEqual(
            self.refusal("show", "@1763741100"),
            f"{where}: history does not reach back to @1763741100 (2025-11-21T16:05:00.000000+00:00)")

    def test_diff(self):
        self.assertEqual(self.text("diff", "HEAD~3", "HEAD~1", GUEST + "/name"),
                         f"  ~ {GUEST}/name  \"web01\" -> \"web03\"\n")
        self.assertEqual(self.text("diff", at(12), "now", "/tool"), "  - /tool = \"\"  (n0)\n")
        document = self.json("diff", "HEAD", "HEAD~5")
        self.assertEqual([document["from"]["commit"], document["to"]["time"]],
                         [self.history.ids[5], at(11)])
        self.assertEqual(document["changes"], [
            {"path": "/local/domain", "kind": "changed",
             "before": {"value": "", "perms": ["n0", "r3 stale"]},
             "after": {"value": "", "perms": ["n0", "r3"]}},
            {"path": "/tool", "kind": "created", "after": {"value": "", "perms": ["n0"]}}])

    def test_diff_of_the_same_says_so(self):
        self.assertEqual(
            self.text("diff", "HEAD~1", "HEAD", "/tool"),
            f"no difference of /tool between {self.ids[4]} ({at(15)}) and {self.ids[5]} ({at(16)})\n")
        self.assertEqual(self.json("diff", "HEAD~1", "HEAD", "/tool")["changes"], [])

    def test_blame_names_the_request_within_a_coalesced_commit(self):
        ids = self.ids
        self.assertEqual(self.text("blame", "/local", "--at", "HEAD~1"), f"""\
^{ids[0]}  {at(11)}  ?              /local = ""
^{ids[0]}  {at(11)}  ?              /local/domain = ""
 {ids[1]}  {at(12)}  domain 0       {GUEST} = ""
 {ids[2]}  {at(13)}  xl (pid 1234)  {GUEST}/memory = ""
 {ids[2]}  {at(13)}  xl (pid 1234)  {GUEST}/memory/target = "262144"
 {ids[4]}  {at(15)}  domain 3       {GUEST}/name = "web03"
  ^ set then or before: the first commit that is kept
""")
        nodes = {node["path"]: node for node in self.json("blame", "/", "--at", at(15))["nodes"]}
        self.assertEqual(nodes[f"{GUEST}/name"], {
            "path": f"{GUEST}/name", "value": "web03", "commit": self.history.ids[4],
            "time": at(15), "time_us": made.START_US + 4_000_000, "is_or_before": False,
            "author": {"kind": "domain", "name": "domain 3", "domid": 3},
            "request": f"WRITE {GUEST}/name by domain 3 (domain-3)"})
        self.assertTrue(nodes["/local"]["is_or_before"])

    def test_blame_does_not_accuse_the_last_of_many(self):
        self.history.commit(made.domain(5), "900 requests: 900 WRITE", {"/x": (b"1", "n0")},
                            requests=900, body=["WRITE /y by domain 4 (domain-4)",
                                                "and 899 more requests"])
        self.assertEqual(self.text("blame", "/x"),
                         f" {self.history.ids[6][:12]}  {at(17)}  domain 5 or one of 900 requests  "
                         "/x = \"1\"\n")
        self.assertEqual(self.json("blame", "/x")["nodes"][0]["one_of_requests"], 900)

    def test_blame_of_no_node_says_so(self):
        self.assertEqual(self.refusal("blame", GUEST),
                         f"no node {GUEST} at {self.ids[5]} ({at(16)})")

    def test_colours_are_for_terminals(self):
        self.assertNotIn("\x1b", self.text("log"))
        self.assertIn("\x1b[32m\"web03\"\x1b[0m",
                      scene.run(self.area, "--color", "always", "log").stdout)


class Follow(scene.Scene):
    """Each reads from a pipe, as `xs-history follow | tee` does."""

    def follow(self, *options):
        process = subprocess.Popen([HISTORY, "--area", self.area, "follow", *options],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

        def end():
            process.kill()
            process.communicate()
        self.addCleanup(end)
        return process

    def test_shows_what_comes_while_packs_are_replaced(self):
        process = self.follow("-n", "1", "/x")
        self.history.commit(made.domain(7), "WRITE /y", {"/y": (b"0", "n7")})
        for n in range(5):
            before = [f'  ~ /x  "{n - 1}" -> "{n}"'] if n else ['  + /x = "0"  (n7)']
            commit = self.history.commit(made.domain(7), "WRITE /x", {"/x": (b"%d" % n, "n7")})
            subprocess.run(["git", "-C", self.history.path, "repack", "-adfq"], check=True)
            self.assertTrue(process.stdout.readline().startswith(commit[:12]))
            self.assertEqual(process.stdout.readline(), before[0] + "\n")

    def test_begins_with_the_last_few_oldest_first_and_as_json_has_one_a_line(self):
        process = self.follow("--json", "-n", "2")
        for number in (4, 5):
            self.assertEqual(json.loads(process.stdout.readline())["commit"],
                             self.history.ids[number])
        commit = self.history.commit(made.domain(7), "WRITE /x", {"/x": (b"0", "n7")})
        self.assertEqual(json.loads(process.stdout.readline())["commit"], commit)


if __name__ == "__main__":
    unittest.main()
