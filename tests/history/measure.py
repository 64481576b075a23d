#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What history takes of the tmpfs for each commit, and how many requests a second have commits of
their own.

First the requests of tests/traces that change something are made again and again, all on one
socket, on a host with no other domain and on one with a thousand; then single writes at the paces
that must be kept up with. Exit status 1: a target was missed."""

import argparse
import collections
import itertools
import os
import pathlib
import subprocess
import sys
import time
from contextlib import closing

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "support"), str(HERE.parent / "replay")]
import recorded  # noqa: E402
import xs  # noqa: E402

CHANGING = {"WRITE": xs.WRITE, "MKDIR": xs.MKDIR, "RM": xs.RM, "SET_PERMS": xs.SET_PERMS}
BYTES_MAX = 2048
PACES = ((100, 5000), (1000, 1000))  # domains, requests a second
TRACES_PACE = 2000

# What a toolstack makes of a domain with a disk, a network card and a console, about.
GUEST_NODES = """name domid vm cpu/0/availability memory/static-max memory/target memory/videoram
control/shutdown control/feature-poweroff control/feature-reboot control/feature-suspend
data drivers feature attr error console/backend console/backend-id console/limit console/type
console/output console/tty console/port console/ring-ref store/port store/ring-ref
device/vbd/51712/backend device/vbd/51712/backend-id device/vbd/51712/state
device/vbd/51712/virtual-device device/vbd/51712/device-type device/vbd/51712/event-channel
device/vif/0/backend device/vif/0/backend-id device/vif/0/state device/vif/0/handle
device/vif/0/mac device/vif/0/mtu device/vif/0/tx-ring-ref device/vif/0/rx-ring-ref""".split()


class Host:
    """A daemon with a history that is dropped by nobody, and one socket."""

    def __init__(self, domains):
        self.daemon = xs.Daemon("--history=on", "--history-limit=4096")
        self.daemon.start()
        self.client = self.daemon.client()
        self.repository = os.path.join(self.daemon.rundir, "area/history.git")
        for domid in range(100, 100 + domains):
            for node in GUEST_NODES:
                self.client.call(xs.WRITE, f"/local/domain/{domid}/{node}\0{domid}".encode())
            if domid % 50 == 0:
                self.wait_until_written()  # or too much waits, and is summed up
        self.wait_until_written()
        self.begin = self.bytes(), self.commits(), self.requests()

    def close(self):
        self.client.close()
        self.daemon.stop()

    def git(self, *arguments):
        return subprocess.run(["git", "-C", self.repository, *arguments], check=True, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout

    def wait_until_written(self):
        mark = f"{time.monotonic()}"
        self.client.call(xs.WRITE, b"/mark\0" + mark.encode())
        while True:
            try:
                if self.git("cat-file", "blob", "HEAD:mark/.value") == mark:
                    return
            except subprocess.CalledProcessError:  # nothing there yet, or just being replaced
                pass
            time.sleep(0.02)

    def bytes(self):
        return sum(entry.stat().st_blocks * 512 for entry in
                   [pathlib.Path(self.repository), *pathlib.Path(self.repository).rglob("*")])

    def commits(self):
        return int(self.git("rev-list", "--count", "HEAD"))

    def requests(self):
        """The number of the last one in the repository."""
        return int(self.git("log", "-1", "--format=%(trailers:key=Xenstore-Entry,valueonly)"))

    def grown(self):
        """(bytes, commits, requests) since the beginning."""
        self.wait_until_written()
        now = self.bytes(), self.commits(), self.requests()
        return tuple(after - before for after, before in zip(now, self.begin))


def paced(things, rate):
    """Yields each of `things` when its time has come."""
    begin = time.perf_counter()
    for number, thing in enumerate(things):
        ahead = number / rate - (time.perf_counter() - begin)
        if ahead > 0.001:
            time.sleep(ahead)
        yield thing


def recorded_changes():
    """[(connection, operation, payload, in a transaction)] of all traces, paths from the root."""
    changes = []
    for series in recorded.SERIES:
        for step in recorded.load(series).steps:
            if step.kind != "request":
                continue
            if step.op.startswith("TRANSACTION"):
                changes.append((step.conn, step.op, step.payload, False))
            elif step.op in CHANGING:
                payload = step.payload
                if not payload.startswith(b"/"):
                    payload = b"/local/domain/%d/" % (recorded.domid_of(step.conn) or 0) + payload
                changes.append((step.conn, step.op, payload, step.in_tx))
    return changes


def make_changes(host, changes):
    transactions = collections.defaultdict(int)
    for conn, op, payload, is_in_transaction in paced(changes, TRACES_PACE):
        if op == "TRANSACTION_START":
            answer = host.client.call(xs.TRANSACTION_START, b"\0")
            transactions[conn] = int(answer.rstrip(b"\0"))
        elif op == "TRANSACTION_END":
            host.client.call(xs.TRANSACTION_END, payload, transactions.pop(conn))
        else:
            host.client.call(CHANGING[op], payload, transactions[conn] if is_in_transaction else 0)


def measure_bytes(domains, rounds):
    host = Host(domains)
    with closing(host):
        changes = recorded_changes()
        for number in range(rounds):
            print(f"\r{domains} domains: {number + 1} of {rounds}", end="", file=sys.stderr)
            make_changes(host, changes)
        taken, commits, requests = host.grown()
    print(file=sys.stderr)
    each = taken / commits
    print(f"traces {rounds} times, {domains} other domains: {requests} requests changed the tree, "
          f"{commits} commits, {taken / 2**20:.1f} MiB: {each:.0f} bytes a commit")
    return each <= BYTES_MAX


def measure_pace(domains, rate, seconds):
    """True: each request has a commit of its own."""
    host = Host(domains)
    with closing(host):
        nodes = itertools.cycle(f"/local/domain/{100 + number * 7 % domains}/{node}\0".encode()
                                for number, node in enumerate(GUEST_NODES * domains))
        begin = time.perf_counter()
        for number, node in enumerate(paced(itertools.islice(nodes, rate * seconds), rate)):
            host.client.call(xs.WRITE, node + b"%d" % number)
        taken_s = time.perf_counter() - begin
        _, commits, requests = host.grown()
    print(f"{domains} domains: {rate * seconds / taken_s:.0f} writes a second for {taken_s:.0f} s: "
          f"{requests} requests, {commits} commits")
    return commits == requests and taken_s < seconds * 1.02


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=100, help="of the traces")
    parser.add_argument("--seconds", type=int, default=20, help="at each pace")
    arguments = parser.parse_args()
    is_met = [measure_bytes(domains, arguments.rounds) for domains in (0, 1000)]
    is_met += [measure_pace(domains, rate, arguments.seconds) for domains, rate in PACES]
    sys.exit(0 if all(is_met) else 1)


if __name__ == "__main__":
    main()
