#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The page that xs-history report writes: its bytes, and what Debian's chromium makes of it.
Skipped where that is not installed (apt-get install chromium), but for its bytes."""

import html.parser
import os
import re
import shutil
import subprocess
import sys
import unittest

import made
import scene
from scene import GUEST

CHROMIUM = shutil.which("chromium")


class Elements(html.parser.HTMLParser):
    """What a page consists of."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.rows, self.cell = [], [], [], None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")
        self.cell = self.rows[-1] if tag == "td" else self.cell

    def handle_endtag(self, tag):
        if tag == "td":
            self.cell = None

    def handle_data(self, data):
        if self.cell:
            self.cell[-1] += data


class Page(scene.Scene):
    def write(self, *options):
        self.page_file = os.path.join(self.area, "page.html")
        self.said = self.text("report", "-o", self.page_file, *options)
        with open(self.page_file, encoding="ascii") as file:
            return file.read()

    def dom(self, fragment=""):
        """The page as a browser has it, after its script ran."""
        profile = os.path.join(self.area, "profile")
        done = subprocess.run(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
             "--no-first-run", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", f"--user-data-dir={profile}", "--dump-dom",
             f"file://{self.page_file}{fragment}"],
            capture_output=True, text=True, timeout=120, check=True)
        return done.stdout


class Bytes(Page):
    def test_it_has_the_moment_the_time_line_and_the_tree_before_and_after(self):
        rows = Elements(self.write("--at", "HEAD~1")).rows
        self.assertEqual(self.said, f"{self.page_file}: 6 commits; open it in a browser\n")
        self.assertIn([f"{GUEST}/name", r'"a\\b \"c\"\n\x00\x01\xff<script>alert(1)</script>" (n3,r0)',
                       '"web03" (n3,r0)'], rows)
        self.assertIn(["/tool", '"" (n0)', ""], rows)
        self.assertIn([GUEST, '"" (n3,r0)', "the same"], rows)
        self.assertEqual([row[0][-12:] for row in rows[1:7]], self.ids)

    def test_a_time_stands_between_two_commits(self):
        page = self.write("--at", "2025-11-21T16:05:15.5Z")
        self.assertIn(f'<a href="#c{self.ids[5]}">', page)
        self.assertIn([GUEST, '"" (n3,r0)', ""], Elements(page).rows)
        self.assertIn(f'<a href="#c{self.ids[5]}">', self.write("--at", "now"))

    def test_values_cannot_become_part_of_the_page(self):
        self.history.commit(made.client("x\"onload=alert(2)' &amp;", 1), "WRITE /h", {
            "/h": (b"</td></tr></table></script><script>alert(3)</script>'\"&", "n0")})
        page = self.write()
        elements = Elements(page)
        self.assertEqual(elements.tags.count("script"), 1)
        self.assertFalse([name for name, _ in elements.attributes if name.startswith("on")])
        self.assertIn(["/h", "", r'''"</td></tr></table></script><script>alert(3)</script>'\"&" (n0)'''],
                      elements.rows)

    def test_it_needs_nothing_from_elsewhere(self):
        elements = Elements(self.write())
        links = [value for name, value in elements.attributes if name in ("href", "src")]
        self.assertTrue(links)
        self.assertTrue(all(link.startswith("#c") for link in links))
        self.assertNotIn("link", elements.tags)

    def test_it_is_bounded(self):
        for n in range(40):
            self.history.commit(made.domain(4), "WRITE /x", {"/x": (b"%d" % n, "n0")})
        page = self.write("-n", "8", "--at", "HEAD~20")
        self.assertEqual(len(re.findall(r'<tr id="c', page)), 8)
        self.assertIn("there are older ones; 18 later ones are not shown", page)

    def test_json_tells_where_it_is(self):
        file = os.path.join(self.area, "p.html")
        self.assertEqual(self.json("report", "-o", file), {"file": file, "commits": 6})
        self.assertEqual(os.stat(file).st_mode & 0o777, 0o600)
        self.assertEqual(self.refusal("report", "-o", "/nope/p.html"),
                         "cannot write /nope/p.html: No such file or directory")


class Browser(Page):
    def setUp(self):
        if CHROMIUM is None:
            self.skipTest("no chromium is installed")
        super().setUp()

    def hidden_rows(self, dom):
        return len(re.findall(r'<tr[^>]*hidden=""', dom))

    def test_its_script_runs_and_no_other(self):
        self.write("--at", "HEAD~1")
        dom = self.dom()
        self.assertIn("6 of 6 commits, 8 of 8 nodes", dom)
        self.assertEqual(self.hidden_rows(dom), 0)
        self.assertEqual(dom.count("<script"), 1)

    def test_it_searches(self):
        self.write("--at", "HEAD~1")
        dom = self.dom("#search=web03%20name")
        self.assertIn("2 of 6 commits, 1 of 8 nodes", dom)
        self.assertEqual(self.hidden_rows(dom), 4 + 7)


if __name__ == "__main__":
    program = unittest.main(exit=False)
    if not program.result.wasSuccessful():
        sys.exit(1)
    sys.exit(77 if program.result.skipped else 0)
