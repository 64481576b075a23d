# SPDX-License-Identifier: MIT
"""The recorded toolstack traffic gets the recorded answers and events, plainly and with the
server killed after a part of the steps. `replay.py` does the same with a kill after every step."""

import os
import random
import unittest

import recorded
import replay

# The only differences from the recordings, and how often each occurs (reasons: see replay.py).
_ALLOWED = {
    "traffic": {replay.MERGED: 1},
    "devices": {replay.CONFLICT: 1},
    "remus-sender": {replay.MERGED: 42},
    "remus-destroy": {},
}
_STRIDE = 10


class Recorded(unittest.TestCase):
    def test_comes_back(self):
        for series in recorded.SERIES:
            with self.subTest(series):
                self.assertEqual(replay.play(series).allowed, _ALLOWED[series])


class RecordedWithKills(unittest.TestCase):
    def test_comes_back(self):
        offset = int(os.environ.get("REPLAY_OFFSET", random.randrange(_STRIDE)))
        print(f"again: REPLAY_OFFSET={offset}, or replay.py --kills {_STRIDE} --offset {offset}",
              flush=True)
        for series in recorded.SERIES:
            with self.subTest(series):
                result = replay.play(series, lambda index: index % _STRIDE == offset)
                steps = len(result.trace.steps)
                self.assertEqual(result.kills, len(range(offset, steps, _STRIDE)))
                del result.allowed[replay.LOST]
                self.assertEqual(result.allowed, _ALLOWED[series])


if __name__ == "__main__":
    unittest.main()
