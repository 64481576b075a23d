# SPDX-License-Identifier: MIT
"""The recorded toolstack traffic gets the recorded answers and events, plainly and with the
server killed after a part of the steps. `replay.py` does the same with a kill after every step."""

import collections
import os
import pathlib
import random
import tempfile
import unittest

import recorded
import replay

# The only differences from the recordings, and how often each occurs (reasons: see replay.py).
_ALLOWED = {
    "traffic": {replay.MERGED: 1},
    "devices": {replay.CONFLICT: 1},
    "remus-sender": {replay.MERGED: 42},
    "remus-destroy": {},
    "scenarios": {},
}
_STRIDE = int(os.environ.get("REPLAY_STRIDE", 10))


class Recorded(unittest.TestCase):
    def test_comes_back(self):
        for series in recorded.SERIES:
            with self.subTest(series):
                self.assertEqual(replay.play(series).allowed, _ALLOWED[series])


class RecordedOfOurs(unittest.TestCase):
    """What our daemon once answered is what C xenstored answers."""

    def test_by_the_stock_daemon_as_well(self):
        for series in recorded.OURS:
            with self.subTest(series):
                self.assertEqual(replay.play(series, peer="c").allowed, _ALLOWED[series])


class RecordedWithKills(unittest.TestCase):
    def test_comes_back(self):
        offset = int(os.environ.get("REPLAY_OFFSET", random.randrange(_STRIDE)))
        print(f"again: REPLAY_OFFSET={offset}, or replay.py --kills {_STRIDE} --offset {offset}",
              flush=True)
        again = collections.Counter()
        for series in recorded.SERIES:
            with self.subTest(series):
                result = replay.play(series, lambda index: index % _STRIDE == offset)
                steps = len(result.trace.steps)
                again += result.again
                self.assertEqual(result.kills, len(range(offset, steps, _STRIDE)))
                del result.allowed[replay.LOST]
                self.assertEqual(result.allowed, _ALLOWED[series])
        self.assertGreater(again["sockets"], 0)
        self.assertGreater(again["guests"], 0)


class Comparison(unittest.TestCase):
    """The comparison is not blind: a recording that tells something else fails."""

    def _passes(self, old, new):
        boot = (recorded.DIRECTORY / "traffic-01-boot.txt").read_text()
        self.assertEqual(boot.count(old), 1)
        with tempfile.TemporaryDirectory() as directory:
            pathlib.Path(directory, "boot-01-edited.txt").write_text(boot.replace(old, new))
            trace = recorded.load("boot", pathlib.Path(directory))
        with replay.serve() as daemon:
            try:
                replay.Replay(trace, daemon).run()
                return True
            except replay.Difference:
                return False

    def test_what_was_recorded_passes(self):
        self.assertTrue(self._passes("***\n", ""))

    def test_another_answer_fails(self):
        self.assertFalse(self._passes("-> READ ()", "-> READ (x)"))

    def test_an_event_too_few_fails(self):
        self.assertFalse(self._passes(
            "02:41:15 c1   -> WATCH_EVENT (cpu FFFFFFFF82BB01A0 )\n", ""))

    def test_an_event_too_many_fails(self):
        event = "02:41:15 c1   -> WATCH_EVENT (cpu FFFFFFFF82BB01A0 )\n"
        self.assertFalse(self._passes(event, event + event))

    def test_events_in_another_order_fail(self):
        reply = "02:41:16 c6   -> WATCH (OK )\n"
        event = "02:41:16 c6   -> WATCH_EVENT (@introduceDomain domlist )\n"
        self.assertFalse(self._passes(reply + event, event + reply))


if __name__ == "__main__":
    unittest.main()
