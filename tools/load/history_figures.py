# SPDX-License-Identifier: MIT
"""What history costs those who are served: a daemon that writes it, in turn with the same daemon
without. The second thread may run on any core, as on a host."""

import time

from benching import paired_table, rounds_in_turn

SERVERS = ("on", "off")
LIMIT = 0.10
ROUNDS, SECONDS = 5, 1

LOADS = [
    ("write", "--scenario write"),
    ("writes in flight", "--scenario write --inflight 16"),
    ("mixed of 16", "--scenario mixed --clients 16"),
    ("rmw-own of 16", "--scenario rmw-own --clients 16"),
    ("read", "--scenario read"),
]
# More is waiting than may be stored by then: what is measured goes on for ever.
WARMUP_S = 2
# A measurement must be longer than the second thread rests (--seconds), and none may pay for what
# the one before left it to do.
STILL_S, PATIENCE_S = 0.5, 60


def measure(bench, quick, rounds, seconds):
    del quick
    servers = {kind: bench.start(kind, f"--history={kind}", free=True) for kind in SERVERS}
    for order in rounds_in_turn("history", SERVERS, rounds):
        for name, arguments in LOADS:
            for kind in order:
                bench.load(name, servers[kind],
                           f"{arguments} --seconds {seconds} --warmup {WARMUP_S}")
                wait_until_still(servers["on"])
    for server in servers.values():
        server.stop()


def wait_until_still(server):
    used, deadline = None, time.monotonic() + PATIENCE_S
    while used != server.cpu_ticks() and time.monotonic() < deadline:
        used = server.cpu_ticks()
        time.sleep(STILL_S)


def table_of(bench):
    return paired_table(bench, SERVERS, [name for name, _ in LOADS], LIMIT)
