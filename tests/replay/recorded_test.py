# SPDX-License-Identifier: MIT
"""Every line of the recorded traces is understood; no daemon is needed."""

import collections
import pathlib
import tempfile
import unittest

import recorded

# Recorded requests of each series (preludes not counted), as `grep -c -- '<-'` counts them.
_REQUESTS = {"traffic": 1681, "devices": 3202, "remus-sender": 1534, "remus-destroy": 673,
             "scenarios": 7232}


def parse(text):
    with tempfile.TemporaryDirectory() as directory:
        pathlib.Path(directory, "made-01-up.txt").write_text(text)
        return recorded.load("made", pathlib.Path(directory))


class Traces(unittest.TestCase):
    def test_every_request_is_there_and_answered(self):
        for series in recorded.SERIES:
            steps = [step for step in recorded.load(series).steps
                     if step.kind == "request" and "-00-before" not in step.where]
            self.assertEqual(len(steps), _REQUESTS[series], series)
            self.assertTrue(all(step.answer for step in steps), series)

    def test_every_commit_has_something_inside(self):
        for series in recorded.SERIES:
            asked = collections.Counter()
            for step in recorded.load(series).steps:
                if step.tx and step.op != "TRANSACTION_END":
                    asked[step.conn, step.tx] += 1
                elif step.tx:
                    self.assertTrue(asked.pop((step.conn, step.tx), 0) or step.text == "F ", step)

    def test_deaths_and_shutdowns_of_domains(self):
        found = {series: collections.Counter(step.kind for step in recorded.load(series).steps)
                 for series in recorded.SERIES}
        self.assertEqual({series: (kinds["gone"], kinds["shutdown"])
                          for series, kinds in found.items()},
                         {"traffic": (5, 5), "devices": (2, 1),
                          "remus-sender": (2, 44), "remus-destroy": (2, 1),
                          "scenarios": (14, 15)})


class Payloads(unittest.TestCase):
    def test_rebuilt_by_operation(self):
        for op, text, payload in [
                ("READ", "/a/b ", b"/a/b\0"),
                ("WRITE", "/a one two ", b"/a\0one two "),
                ("WRITE", "/a ", b"/a\0"),
                ("SET_PERMS", "/a n0 r1 ", b"/a\0n0\0r1\0"),
                ("WATCH", "/a 3/0 ", b"/a\0003/0\0"),
                ("INTRODUCE", "1 376833 1 ", b"1\000376833\0001\0"),
                ("TRANSACTION_START", " ", b"\0")]:
            self.assertEqual(recorded.request_payload(op, text), payload, op)

    def test_what_cannot_be_rebuilt_is_refused(self):
        for op, text in [("READ", "/a"), ("READ", "/a b "), ("WATCH", "/a "), ("WRITE", "/a"),
                         ("SET_PERMS", "/a "), ("PRAY", "/a ")]:
            with self.assertRaises(recorded.BadTrace, msg=f"{op} ({text})"):
                recorded.request_payload(op, text)


class Lines(unittest.TestCase):
    def test_unknown_lines_are_refused(self):
        for text in ["nonsense\n", "00:00:00 c1   <- READ (/a\n", "00:00:00 c1   -> READ ()\n",
                     "00:00:00 c1   <- READ (/a )\n00:00:00 c1   -> WRITE (OK )\n",
                     "00:00:00 c1   <- READ (/a )\n"]:
            with self.assertRaises(recorded.BadTrace, msg=text):
                parse(text)

    def test_another_threads_request_is_outside_the_transaction(self):
        steps = parse(
            "00:00:00 dom1 <- TRANSACTION_START ( )\n"
            "00:00:00 dom1 <- READ (early )\n"
            "00:00:00 dom1 -> TRANSACTION_START (1 )\n"
            "00:00:00 dom1 -> ERROR (ENOENT )\n"
            "00:00:00 dom1 <- READ (inside )\n"
            "00:00:00 dom1 <- READ (meanwhile )\n"
            "00:00:00 dom1 -> READ ()\n"
            "00:00:00 dom1 -> READ ()\n"
            "00:00:00 dom1 <- TRANSACTION_END (T )\n"
            "00:00:00 dom1 -> TRANSACTION_END (OK )\n").steps
        self.assertEqual([step.text for step in steps if step.tx], ["inside ", "T "])

    def test_a_shutdown_comes_before_the_watch_that_missed_it(self):
        steps = parse(
            "00:00:00 c6   <- WATCH (@releaseDomain domlist )\n"
            "00:00:00 c6   -> WATCH (OK )\n"
            "00:00:00 c6   -> WATCH_EVENT (@releaseDomain domlist )\n"
            "00:00:00 c7   <- WATCH (@releaseDomain 3/f )\n"
            "00:00:00 c6   -> WATCH_EVENT (@releaseDomain domlist )\n"
            "00:00:00 c7   -> WATCH (OK )\n"
            "00:00:00 c7   -> WATCH_EVENT (@releaseDomain 3/f )\n"
            "00:00:00 c7   <- UNWATCH (@releaseDomain 3/f )\n"
            "00:00:00 c7   -> UNWATCH (OK )\n").steps
        self.assertEqual([(step.kind, step.conn) for step in steps],
                         [("request", "c6"), ("shutdown", "c6"), ("request", "c7"),
                          ("request", "c7")])


if __name__ == "__main__":
    unittest.main()
