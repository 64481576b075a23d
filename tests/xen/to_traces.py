#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes a series for ../replay of what `run --trace` recorded: our daemon's trace, cut into steps,
in the form of the recorded traces of C xenstored.

    to_traces.py SHARE SERIES DIRECTORY     SHARE: build/xen/<daemon>/share

Connections are numbered anew, and domains' are named after their domid; transaction ids stay."""

import pathlib
import re
import sys

_MESSAGE = re.compile(r"(IN|OUT) (0x\w+) \d+ (\S+) ([A-Z_]+) (\(.*\)(?: tx \d+)?)")
_LIFE = re.compile(r"(CREATE|DESTROY) (connection|watch|transaction) (0x\w+)")
_INTRODUCE = re.compile(r"IN .* INTRODUCE \((\d+) ")


class Names:
    """Names for our ids. The first connection of all is dom0's kernel: c1."""

    def __init__(self):
        self._names = {}
        self._sockets = 0

    def created(self, conn, domid):
        if domid is None:
            self._sockets += 1
        self._names[conn] = f"c{self._sockets}" if domid is None else f"dom{domid}"

    def __getitem__(self, conn):
        return self._names[conn]


def converted(lines):
    names, domid = Names(), None
    for line in lines:
        if match := _MESSAGE.fullmatch(line):
            direction, conn, time, op, rest = match.groups()
            arrow = "<-" if direction == "IN" else "->"
            yield f"{time} {names[conn]:<4} {arrow} {op} {rest}"
            introduced = _INTRODUCE.match(line)
            domid = introduced.group(1) if introduced else None
        elif match := _LIFE.fullmatch(line):
            verb, kind, number = match.groups()
            if kind == "connection":
                if verb == "CREATE":
                    names.created(number, domid)
                number = names[number]
            else:
                number = kind[0] + str(int(number, 16))
            yield f"         {verb} {kind} {number}"
        else:
            sys.exit(f"unknown line: {line}")


def main():
    share, series, directory = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
    lines = list(converted((share / "trace").read_text("latin-1").splitlines()))
    steps = [line.split() for line in (share / "phases").read_text().splitlines()]
    ends = [int(begin) for _, begin in steps[1:]] + [len(lines)]
    for number, ((step, begin), end) in enumerate(zip(steps, ends), 1):
        text = "".join(line + "\n" for line in lines[int(begin):end])
        (directory / f"{series}-{number:02}-{step}.txt").write_text(text, "latin-1")


if __name__ == "__main__":
    main()
