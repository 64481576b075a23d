# SPDX-License-Identifier: MIT
"""What tools/bench is made of: servers to measure, runs of xs-load, and the table."""

import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

XEN_BIN = pathlib.Path("/usr/lib/xen-4.17/bin")
PATIENCE_S = 30
NO_MEASUREMENT = 2  # exit status of xs-load; Debian's servers may be slower than its patience


class CannotStart(Exception):
    pass


class Server:
    """A daemon on a directory of its own, its serving thread pinned to `core`, as are others unless
    they are to be `free`; stopped and cleared by stop().

    `kind`: null, C (Debian's xenstored) or OCaml (its oxenstored); any other is ours. With `on_machine` it serves
    the domains of a stand-in machine in that directory as well (tests/simxen).
    """

    def __init__(self, bin_dir, kind, core, base, options=(), on_machine=False, free=False):
        self.kind = kind
        self.directory = tempfile.mkdtemp(prefix=kind + ".", dir=base)
        self.socket = os.path.join(self.directory, "socket")
        self.area = os.path.join(self.directory, "area") if kind == "ours" else None
        self.machine = os.path.join(self.directory, "machine") if on_machine else None
        environment = {"XENSTORED_RUNDIR": self.directory}
        if on_machine:
            subprocess.run([bin_dir / "simxen", self.machine, "init"], check=True)
            environment["SIMXEN"] = self.machine
            environment["LD_PRELOAD"] = str(bin_dir.parent / "lib/libsimxen.so")
        self.log = open(os.path.join(base, kind + ".log"), "ab")
        self.process = subprocess.Popen(
            self.command(bin_dir, options),
            env=os.environ | environment,
            stdout=self.log,
            stderr=self.log,
            preexec_fn=None if free else lambda: os.sched_setaffinity(0, {core}),
        )
        self.wait_until_serving()
        os.sched_setaffinity(self.process.pid, {core})  # the thread of this number alone

    def cpu_ticks(self):
        """What all its threads have taken so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def command(self, bin_dir, options):
        if self.kind == "null":
            rings = ["--rings"] if self.machine else []
            return [bin_dir / "xs-null", "--socket", self.socket, *rings]
        if self.kind == "C":
            return [XEN_BIN / "xenstored", "-N", "--pid-file", os.path.join(self.directory, "pid")]
        if self.kind == "OCaml":
            return [XEN_BIN / "oxenstored", "--no-fork"]
        no_domains = [] if self.machine else ["-D"]
        return [bin_dir / "xenstored", "-N", *no_domains, *options]

    def wait_until_serving(self):
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise CannotStart(f"{self.kind} ended at its start; see {self.log.name}")
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(self.socket) == 0:
                    return
            time.sleep(0.01)
        self.stop()
        raise CannotStart(f"{self.kind} does not listen on {self.socket}")

    def stop(self):
        if self.log.closed:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory)


class Bench:
    """Runs xs-load and keeps every line it prints, by the measurement's name and round."""

    def __init__(self, arguments, base, out):
        cores = sorted(os.sched_getaffinity(0))
        self.server_core = cores[-1]
        self.client_core = cores[0] if arguments.placement == "apart" else cores[-1]
        self.bin = arguments.bin
        self.quick = arguments.quick
        self.base = base
        self.out = out
        self.lines = {}
        self.wrong = []
        self.servers = []

    def start(self, kind, *options, on_machine=False, free=False):
        server = Server(self.bin, kind, self.server_core, self.base, options, on_machine, free)
        self.servers.append(server)
        return server

    def stop_all(self):
        for server in self.servers:
            server.stop()

    def load(self, name, server, arguments):
        command = [self.bin / "xs-load", "--socket", server.socket, *arguments.split()]
        if server.area:
            command += ["--area", server.area]
        if server.machine:
            command += ["--machine", server.machine]
        if server.kind == "null":
            command += ["--no-check"]
        name = ("ring " if server.machine else "") + name
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {self.client_core}),
        )
        if done.returncode == NO_MEASUREMENT and server.kind not in ("ours", "null"):
            print(f"bench: no {name} of {server.kind}", file=sys.stderr)
        elif done.returncode != 0:
            self.wrong.append(f"{name} on {server.kind}: exit status {done.returncode}")
        for text in done.stdout.splitlines():
            line = {"name": name, "server": server.kind} | json.loads(text)
            self.out.write(json.dumps(line) + "\n")
            self.lines.setdefault((name, server.kind), []).append(line)
        self.out.flush()

    def column(self, name, kind, field):
        return [line[field] for line in self.lines.get((name, kind), []) if field in line]


def ratios(above, below):
    return [a / b for a, b in zip(above, below) if b]


def differences(a, b):
    return [x - y for x, y in zip(a, b)]


def microseconds(rates):
    return [1e6 / rate for rate in rates]


class Table:
    """Rows of figure, what each server showed, compared value with spread, target, verdict.
    `middle` makes one value of those of all rounds."""

    def __init__(self, servers, middle=statistics.median):
        self.rows = [("figure", *servers, "compared", "spread", "target", "")]
        self.middle = middle

    def add(self, figure, shown, compared, relation=None, target=None, digits=2):
        """`shown`: a text for each server. `compared` are the per-round values whose middle is
        held against the target."""
        middle = self.middle(compared) if compared else None
        verdict = ""
        if target is not None:
            is_met = compared and (middle >= target if relation == ">=" else middle <= target)
            verdict = "met" if is_met else "missed"
        self.rows.append(
            (
                figure,
                *shown,
                f"{middle:,.{digits}f}" if compared else "-",
                f"{min(compared):,.{digits}f}..{max(compared):,.{digits}f}" if compared else "",
                f"{relation} {target:,g}" if target is not None else "",
                verdict,
            )
        )

    def print(self):
        widths = [max(len(row[i]) for row in self.rows) for i in range(len(self.rows[0]))]
        for row in self.rows:
            cells = [row[0].ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
            print("  ".join(cells).rstrip())


def median_text(values, digits):
    return f"{statistics.median(values):,.{digits}f}" if values else "-"


def paired_table(bench, servers, names, limit):
    """Rates and p99 of two servers, measured in turn: the first may lose as much as `limit`.

    A third server is like the second and says what the comparison is worth: how much of a
    difference there is between two servers that do not differ, "same" in the table.

    Ratios of rounds have two modes some 6 % apart, also between equal servers (how a process comes
    to lie in memory), so their median jumps from the one to the other: what counts is the mean."""
    table = Table((*servers[:2], *(["same"] if servers[2:] else [])), statistics.geometric_mean)
    for name in names:
        for field, what, digits in (("rate", "rate", 0), ("p99_us", "p99", 1)):
            first, second, *third = [bench.column(name, kind, field) for kind in servers]
            shown = [median_text(column, digits) for column in (first, second)]
            shown += [f"{statistics.geometric_mean(ratios(x, second)):.2f}" for x in third]
            bound = (">=", 1 - limit) if field == "rate" else ("<=", 1 + limit)
            table.add(f"{name}: {what}", shown, ratios(first, second), *bound)
    return table


def rounds_in_turn(part, servers, rounds):
    """Yields the servers in the order of each round: each comes first, and last, as often."""
    for number in range(rounds):
        print(f"{part}: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        first = number % len(servers)
        order = servers[first:] + servers[:first]
        yield order if number // len(servers) % 2 == 0 else tuple(reversed(order))
