#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes a series for ../replay of what `run --trace` recorded of our daemon or C xenstored, cut into
steps: the form of the traces in ../traces.

    to_traces.py SHARE SERIES DIRECTORY     SHARE: build/xen/<daemon>/share

Connections, watches and transactions are numbered anew, and domains' connections are named after
their domid; the transaction ids that our daemon shows stay."""

import collections
import pathlib
import re
import sys

_MESSAGE = re.compile(r"(IN|OUT) (0x\w+) \d+ (\S+) ([A-Z_]+) (\(.*\)(?: tx \d+)?)")
_MERGED = re.compile(r"MERGED 0x\w+ \d+ \S+ WATCH_EVENT \((\S+ \S+) \)")
_LIFE = re.compile(r"(CREATE|DESTROY) (connection|watch|transaction) (0x\w+)")
_INTRODUCE = re.compile(r"IN .* INTRODUCE \((\d+) ")
_OTHER = re.compile(r"\*\*\*|Checking store .*|dropping duplicate watch .*")
# How C xenstored limits the rate of writing, and whom it does not hear any more.
_LEFT_OUT = re.compile(r"|wrl: .*|CONN 0x\w+ ignored, .*")


class Names:
    """Names for a daemon's ids or addresses, which may come again for another thing. The first
    connection of all is dom0's kernel: c1."""

    def __init__(self):
        self._names = {}
        self._counts = collections.Counter()

    def created(self, kind, number, domid):
        if kind == "connection" and domid is not None:
            name = f"dom{domid}"
        else:
            self._counts[kind] += 1
            name = f"{kind[0]}{self._counts[kind]}"
        self._names[kind, number] = name
        return name

    def ended(self, kind, number):
        """C xenstored tells of transactions only when they end."""
        if (kind, number) not in self._names:
            self.created(kind, number, None)
        return self._names.pop((kind, number))

    def connection(self, number):
        return self._names["connection", number]


def converted(lines):
    """A line for each, None for those that say nothing of the protocol."""
    names, domid = Names(), None
    for line in lines:
        if match := _MESSAGE.fullmatch(line):
            direction, conn, time, op, rest = match.groups()
            arrow = "<-" if direction == "IN" else "->"
            yield f"{time} {names.connection(conn):<4} {arrow} {op} {rest}"
            introduced = _INTRODUCE.match(line)
            domid = introduced.group(1) if introduced else None
        elif match := _LIFE.fullmatch(line):
            verb, kind, number = match.groups()
            name = (names.created(kind, number, domid) if verb == "CREATE"
                    else names.ended(kind, number))
            yield f"         {verb} {kind} {name}"
        elif match := _MERGED.fullmatch(line):
            yield f"dropping duplicate watch {match.group(1)} for domain 0"  # as C says it
        elif _OTHER.fullmatch(line):
            yield line
        elif _LEFT_OUT.fullmatch(line):
            yield None
        else:
            sys.exit(f"unknown line: {line}")


def main():
    share, series, directory = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
    lines = list(converted((share / "trace").read_text("latin-1").removesuffix("\n").split("\n")))
    steps = [line.split() for line in (share / "phases").read_text().splitlines()]
    ends = [int(begin) for _, begin in steps[1:]] + [len(lines)]
    for number, ((step, begin), end) in enumerate(zip(steps, ends), 1):
        text = "".join(line + "\n" for line in lines[int(begin):end] if line is not None)
        (directory / f"{series}-{number:02}-{step}.txt").write_text(text, "latin-1")


if __name__ == "__main__":
    main()
