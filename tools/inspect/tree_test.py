#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""xs-inspect export and import, between daemons of ours."""

import json
import os
import subprocess
import threading
import unittest

from inspecting import area_of, as_json, inspect, socket_of, write, xs

ALL_BYTES = bytes(range(256))
FRESH = '/ = ""  (n0)\n/tool = ""  (n0)\n/tool/xenstored = ""  (n0)\n'


class Daemons(unittest.TestCase):
    """One with a tree, and a fresh one."""

    make = xs.Daemon

    def setUp(self):
        self.one, self.client = self.start()
        self.fresh, self.fresh_client = self.start()
        for path, value, perms in [
                ("/all", ALL_BYTES, "n0"), ("/all/below", b"\\ \"\n(n0)", "r1,w2,b3"),
                ("/all-too", b"", "n5,r0"), ("/all@/_", b" = \"x\"  (n0)", "b32000"),
                ("/long", b"v" * 4000, "w0"), ("/p" * 60, b"deep", "n0"),
                ("/" + "n" * 2000, b"", "n0")]:
            write(self.client, path, value, perms)
        for number in range(300):
            write(self.client, f"/wide/{'c' * 40}{number}", b"%d" % number)

    def start(self):
        daemon = self.make()
        self.addCleanup(daemon.stop)
        daemon.start(stderr=subprocess.DEVNULL)
        client = daemon.client()
        self.addCleanup(client.close)
        return daemon, client

    def text_of(self, *options):
        done = inspect("export", *options)
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        return done.stdout

    def tree_of(self, daemon, *options):
        return self.text_of("--socket", socket_of(daemon), *options)

    def load(self, daemon, text, *options):
        done = inspect("import", "--socket", socket_of(daemon), "-", *options, stdin=text)
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        return done.stdout

    def refusal(self, text, *options):
        before = self.tree_of(self.fresh)
        done = inspect("import", "--socket", socket_of(self.fresh), "-", *options, stdin=text)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(self.tree_of(self.fresh), before)
        return done.stderr[len("xs-inspect: "):].rstrip("\n")


class Trees(Daemons):
    def test_there_and_back_is_the_same(self):
        text = self.tree_of(self.one)
        self.assertTrue(all(c == "\n" or " " <= c <= "~" for c in text))
        self.assertTrue(self.load(self.fresh, text).endswith(" in one transaction\n"))
        self.assertEqual(self.tree_of(self.fresh), text)
        self.assertEqual(self.fresh_client.call(xs.READ, b"/all\0"), ALL_BYTES)
        self.assertEqual(self.fresh_client.call(xs.GET_PERMS, b"/all/below\0"), b"r1\0w2\0b3\0")
        self.assertEqual(self.load(self.fresh, text), "nothing to do: the daemon has these nodes\n")

    def test_a_file_does_as_well(self):
        file = os.path.join(self.one.rundir, "tree")
        with open(file, "w", encoding="ascii") as out:
            out.write(self.tree_of(self.one, "/all"))
        done = inspect("import", "--socket", socket_of(self.fresh), file)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.tree_of(self.fresh, "/all"), self.tree_of(self.one, "/all"))
        missing = inspect("import", "--socket", socket_of(self.fresh), file + ".none")
        self.assertEqual((missing.returncode, missing.stderr),
                         (1, f"xs-inspect: cannot read {file}.none\n"))

    def test_each_node_is_a_line_and_lines_are_sorted(self):
        text = self.tree_of(self.one)
        lines = text.splitlines()
        self.assertEqual(lines, sorted(lines))
        self.assertIn("/all/below = \"\\\\ \\\"\\n(n0)\"  (r1,w2,b3)", lines)
        self.assertIn('/all@/_ = " = \\"x\\"  (n0)"  (b32000)', lines)
        below = [line for line in lines if line.startswith(("/wide/", "/wide "))]
        self.assertEqual(len(below), 301)
        self.assertEqual(self.tree_of(self.one, "/wide").splitlines(), below)

    def test_json_has_the_same(self):
        nodes = as_json("export", "--socket", socket_of(self.one), "/all")["nodes"]
        self.assertEqual([(node["path"], node["perms"]) for node in nodes],
                         [("/all", ["n0"]), ("/all/below", ["r1", "w2", "b3"])])

    def test_the_state_has_the_same_tree(self):
        running = self.tree_of(self.one)
        refused = inspect("export", "--area", area_of(self.one))
        self.assertEqual((refused.returncode, refused.stdout), (1, ""))
        self.assertIn("ask it, without --area", refused.stderr)
        wide = self.tree_of(self.one, "/wide")
        self.one.kill()
        self.assertEqual(self.text_of("--area", area_of(self.one)), running)
        self.assertEqual(self.text_of("--area", area_of(self.one), "/wide"), wide)

    def test_what_is_not_there(self):
        for where in (["--socket", socket_of(self.one)], ["--area", area_of(self.fresh)]):
            if where[0] == "--area":
                self.fresh.kill()
            done = inspect("export", *where, "/all/none")
            self.assertEqual((done.returncode, done.stderr),
                             (1, "xs-inspect: no node /all/none\n"))

    def test_only_what_differs_is_shown_and_done(self):
        write(self.fresh_client, "/x/kept", b"1")
        write(self.fresh_client, "/x/same", b"2")
        write(self.fresh_client, "/x/other", b"3")
        text = ('/x = ""  (n0)\n/x/new = "\\x1b"  (n3)\n/x/other = "4"  (n0,r3)\n'
                '/x/same = "2"  (n0)\n')
        plan = ('  + /x/new = "\\x1b"  (n3)\n  ~ /x/other  "3" -> "4"  (n0) -> (n0,r3)\n')
        self.assertEqual(self.load(self.fresh, text, "--dry-run"),
                         plan + "2 nodes; nothing was done\n")
        self.assertEqual(self.fresh_client.call(xs.READ, b"/x/other\0"), b"3")
        self.assertEqual(self.load(self.fresh, text), plan + "done: 2 nodes in one transaction\n")
        self.assertEqual(self.fresh_client.call(xs.READ, b"/x/new\0"), b"\x1b")
        self.assertEqual(self.fresh_client.call(xs.READ, b"/x/kept\0"), b"1")
        self.assertEqual(
            self.load(self.fresh, text, "--prune"),
            '  - /x/kept = "1"  (n0)\ndone: 1 nodes in one transaction\n')
        self.assertEqual(self.tree_of(self.fresh, "/x"), text)

    def test_prune_makes_all_of_it_the_same(self):
        write(self.fresh_client, "/mine/and/mine", b"1")
        text = self.tree_of(self.one)
        self.load(self.fresh, text, "--prune")
        self.assertEqual(self.tree_of(self.fresh), text)
        self.load(self.fresh, FRESH, "--prune")
        self.assertEqual(self.tree_of(self.fresh), FRESH)

    def test_json_tells_what_was_done(self):
        text = '/x = "1"  (n0)\n'
        plan = json.loads(self.load(self.fresh, text, "--dry-run", "--json"))
        self.assertEqual(plan, {"is_done": False, "transactions": 1, "changes": [
            {"path": "/x", "kind": "created", "after": {"value": "1", "perms": ["n0"]}}]})
        self.assertEqual(json.loads(self.load(self.fresh, text, "--json")),
                         {**plan, "is_done": True})
        self.assertEqual(json.loads(self.load(self.fresh, text, "--json")),
                         {"is_done": False, "transactions": 0, "changes": []})

    def test_lines_that_are_none(self):
        good = '/x = "1"  (n0)\n'
        for line in ('x = "1"  (n0)', '/x/ = "1"  (n0)', '/x y = "1"  (n0)', "/x", "", " ",
                     '/x = "1"', '/x = "1" (n0)', '/x = "1"  ()', '/x = "1"  (q0)',
                     '/x = "1"  (n0,)', '/x = "1"  (n0', '/x = "1"  (n0) ', '/x = "1"  (n70000)',
                     '/x = "1  (n0)', '/x = "\\"  (n0)', '/x = "\\q"  (n0)', '/x = "\\x1"  (n0)',
                     '/x = "\\xg1"  (n0)', '/x = "\t"  (n0)', '/x = "é"  (n0)', '/x = "\\x'):
            with self.subTest(line=line):
                self.assertRegex(self.refusal(good + line + "\n"), "^line 2 is no node")
        self.assertRegex(self.refusal(good + good), "^line 2 is no node, or one that was there")
        self.assertEqual(self.refusal('/x/y/z = "1"  (n0)\n/x = "1"  (n0)\n'),
                         "/x is there, and /x/y/z, but not /x/y between them")

    def test_what_the_daemon_refuses(self):
        self.assertEqual(self.refusal(f'/x = "1"  (n0)\n/y = "{"v" * 4094}"  (n0)\n'),
                         "4097 bytes are more than a request may have; nothing was done")
        self.assertIn("no --area", self.refusal('/x = "1"  (n0)\n', "--area",
                                                area_of(self.fresh)))

    def test_goes_on_when_others_are_in_the_way(self):
        text = "".join(f'/busy/{number:04} = "{number}"  (n0)\n' for number in range(300))
        stop = threading.Event()
        other = self.fresh.client()
        self.addCleanup(other.close)
        write(other, "/busy/0000")

        def disturb():
            for number in range(300):
                if stop.wait(0.002):
                    break
                write(other, "/busy/0000", b"%d" % number)
        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            self.assertIn("in one transaction", self.load(self.fresh, text))
        finally:
            stop.set()
            thread.join()
        self.assertEqual(self.fresh_client.call(xs.READ, b"/busy/0299\0"), b"299")

    def test_too_much_for_one_transaction(self):
        text = FRESH + '/x = ""  (n0)\n' + "".join(f'/x/{number:05} = "{number}"  (n0)\n'
                                                 for number in range(5_100))
        dry = self.load(self.fresh, text, "--dry-run").splitlines()
        self.assertEqual(dry[-2:], [
            "too much for one transaction: 2, between which others see a part",
            "5101 nodes; nothing was done"])
        done = self.load(self.fresh, text).splitlines()
        self.assertEqual(done[-1], "done: 5101 nodes in 2 transactions")
        self.assertEqual(self.tree_of(self.fresh), text)
        self.load(self.fresh, FRESH, "--prune")
        self.assertEqual(self.tree_of(self.fresh), FRESH)

    def test_a_path_of_a_thousand_names(self):
        write(self.client, "/q" * 1000, b"deep")
        text = self.tree_of(self.one, "/q")
        self.assertRegex(self.load(self.fresh, text), "done: 1000 nodes in [0-9]+ transactions")
        self.assertEqual(self.tree_of(self.fresh, "/q"), text)


class Dead(Daemons):
    """On a machine on which nobody is but domain 0, and of which domain 3 has died."""

    make = xs.HostedDaemon

    def setUp(self):
        self.fresh, self.fresh_client = self.start()

    def test_entries_of_the_dead(self):
        text = '/s = "1"  (n0,r3 stale,r0)\n'
        self.load(self.fresh, text)
        self.assertEqual(self.tree_of(self.fresh, "/s"), '/s = "1"  (n0,r0)\n')

    def test_nodes_of_the_dead(self):
        for text in ('/s = "1"  (n3)\n', '/s = "1"  (n3 stale)\n'):
            self.assertEqual(
                self.refusal(text), "the owner of /s, domain 3, does not exist any more; "
                "--orphans-to-dom0 gives such nodes to domain 0; nothing was done")
        self.load(self.fresh, text, "--orphans-to-dom0")
        self.assertEqual(self.tree_of(self.fresh, "/s"), '/s = "1"  (n0)\n')

    def test_a_state_marks_them(self):
        self.fresh.machine.create(3)
        write(self.fresh_client, "/s", b"1", "n0,r3")
        gfn, port = self.fresh.machine.ring_of(3)
        self.fresh_client.call(xs.INTRODUCE, f"3\0{gfn}\0{port}\0".encode())
        self.fresh_client.call(xs.RELEASE, b"3\0")
        self.assertEqual(self.tree_of(self.fresh, "/s"), '/s = "1"  (n0,r3)\n')
        self.fresh.kill()
        self.assertEqual(self.text_of("--area", area_of(self.fresh), "/s"),
                         '/s = "1"  (n0,r3 stale)\n')
        self.assertEqual(as_json("stat", "--area", area_of(self.fresh))["owners"][0]["dead"], 0)


if __name__ == "__main__":
    del Daemons
    unittest.main()
