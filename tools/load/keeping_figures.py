# SPDX-License-Identifier: MIT
"""What it costs that socket clients live through a crash: a daemon whose keeper holds them, in turn
with the same daemon without a keeper, and once more with another such."""

import os
import shutil
import time

from benching import paired_table, rounds_in_turn

SERVERS = ("kept", "alone", "same")
LIMIT = 0.05
ROUNDS, SECONDS = 42, 0.3

STEADY = [
    ("read", "--scenario read"),
    ("write", "--scenario write"),
    ("writes in flight", "--scenario write --inflight 16"),
    ("mixed of 16", "--scenario mixed --clients 16"),
    ("rmw-own of 16", "--scenario rmw-own --clients 16"),
    ("oneshot", "--scenario oneshot"),
]
PROCESSES = "xenstore-read"
# Clients are kept from 50 ms on, and the choice of calls is made within 100 ms more.
WARMUP_S = 0.25


def run_processes(bench, server, seconds):
    """One-shot processes, one after the other."""
    program = shutil.which("xenstore-read")
    environment = os.environ | {"XENSTORED_PATH": server.socket}
    times = []
    end = time.perf_counter() + seconds
    with open(os.devnull, "wb") as nowhere:
        while time.perf_counter() < end:
            begin = time.perf_counter()
            pid = os.posix_spawn(program, [program, "/"], environment,
                                 file_actions=[(os.POSIX_SPAWN_DUP2, nowhere.fileno(), 1)])
            if os.waitpid(pid, 0)[1] != 0:
                bench.wrong.append(f"{PROCESSES} on {server.kind}")
                return
            times.append((time.perf_counter() - begin) * 1e6)
    times.sort()
    line = {"rate": len(times) / sum(times) * 1e6, "p99_us": times[len(times) * 99 // 100]}
    bench.lines.setdefault((PROCESSES, server.kind), []).append(line)


def measure(bench, quick, rounds, seconds):
    del quick
    for order in rounds_in_turn("keeping", SERVERS, rounds):
        # New ones in each round: what a process gains by how it lies in memory it keeps for life.
        servers = {kind: bench.start(kind, *(["--supervise"] if kind == "kept" else []))
                   for kind in SERVERS}
        for name, arguments in STEADY:
            for kind in order:
                bench.load(name, servers[kind],
                           f"{arguments} --seconds {seconds} --warmup {WARMUP_S}")
        for kind in order:
            run_processes(bench, servers[kind], seconds)
        for server in servers.values():
            server.stop()


def table_of(bench):
    return paired_table(bench, SERVERS, [name for name, _ in STEADY] + [PROCESSES], LIMIT)
