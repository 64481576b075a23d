# SPDX-License-Identifier: MIT
"""The figures of tools/bench that clients on the socket see."""

import sys

from benching import Table, differences, median_text, microseconds, ratios

# What is measured in each round: name, which servers, xs-load's arguments.
ROUNDS, SECONDS = 5, 1

ROUND = [
    ("read", ("null", "ours"), "--scenario read"),
    ("read-idle", ("ours",), "--scenario read --idle 1000"),
    ("write", ("null", "ours"), "--scenario write"),
    ("write-watches", ("ours",), "--scenario write --watches 100000"),
    ("pipelined", ("null", "ours"), "--scenario write --inflight 16"),
    ("rmw", ("ours",), "--scenario rmw"),
    ("siblings", ("ours",), "--scenario siblings"),
    ("mixed", ("null", "ours"), "--scenario mixed"),
    ("oneshot", ("null", "ours"), "--scenario oneshot"),
]


def run_rounds(bench, rounds, seconds):
    servers = {kind: bench.start(kind) for kind in ("null", "ours")}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for name, kinds, arguments in ROUND:
            # Every second round the other way about, so that drift favours neither.
            for kind in kinds if number % 2 == 0 else reversed(kinds):
                bench.load(name, servers[kind], f"{arguments} --seconds {seconds}")
    for server in servers.values():
        server.stop()


def run_growth(bench, runs, nodes):
    for number in range(runs):
        print(f"insert, {number + 1} of {runs}", file=sys.stderr, flush=True)
        server = bench.start("ours")
        bench.load("insert", server, f"--scenario insert --inflight 16 --nodes {nodes}")
        server.stop()
    server = bench.start("ours")
    scattered = "--scenario insert --inflight 16 --nodes 100000 --scattered"
    bench.load("insert-scattered", server, scattered)
    server.stop()


def run_restart(bench, kills):
    print(f"restart, {kills} kills", file=sys.stderr, flush=True)
    server = bench.start("ours", "--supervise")
    bench.load("restart", server, f"--scenario restart --nodes 100000 --kills {kills}")
    server.stop()


def add_speed_rows(table, bench):
    def pair(name, field):
        return bench.column(name, "ours", field), bench.column(name, "null", field)

    def against_null(figure, name, target=None):
        ours, null = pair(name, "rate")
        shown = median_text(ours, 0), median_text(null, 0)
        table.add(figure, shown, ratios(ours, null), ">=", target)

    def cpu(what, name, most, most_above_null):
        ours, null = pair(name, "server_cpu_us_per_op")
        shown = median_text(ours, 2), median_text(null, 2)
        table.add(f"server us a {what}", shown, ours, "<=", most)
        table.add("  above null's", shown, differences(ours, null), "<=", most_above_null)

    def beside(what, with_load, without):
        def compare(figure, loaded, plain):
            table.add(figure, (median_text(loaded, 2), ""), ratios(loaded, plain), "<=", 1.15)

        names = with_load, without
        cpus = [bench.column(name, "ours", "server_cpu_us_per_op") for name in names]
        trips = [microseconds(bench.column(name, "ours", "rate")) for name in names]
        compare(f"server us a {what}", *cpus)
        compare(f"round trip us, {what}", *trips)

    against_null("reads/s, one client", "read", 0.75)
    cpu("read", "read", 3.5, 1.0)
    against_null("writes/s, one client", "write", 0.60)
    cpu("write", "write", 5.0, 2.5)
    ours, null = pair("pipelined", "rate")
    shown = median_text(ours, 0), median_text(null, 0)
    table.add("writes/s, 16 in flight", shown, ours, ">=", 400_000, digits=0)
    beside("read beside 1,000 silent", "read-idle", "read")
    beside("write beside 100,000 watches", "write-watches", "write")
    against_null("mixed ops/s, 16 clients", "mixed")
    against_null("connect, read, close /s", "oneshot")


def add_transaction_rows(table, bench):
    rate = bench.column("rmw", "ours", "rate")
    table.add("commits/s, 16 on one node", (median_text(rate, 0), ""), rate, ">=", 5000, digits=0)
    p99 = [us / 1000 for us in bench.column("rmw", "ours", "worst_client_p99_us")]
    table.add("  slowest client's p99, ms", (median_text(p99, 2), ""), p99, "<=", 50)
    tries = bench.column("rmw", "ours", "attempts_per_commit")
    table.add("  tries a commit", (median_text(tries, 2), ""), tries)
    rate = bench.column("siblings", "ours", "rate")
    table.add("commits/s, 16 creating siblings", (median_text(rate, 0), ""), rate, digits=0)
    conflicts = bench.column("siblings", "ours", "conflicts")
    table.add("  conflicts", (median_text(conflicts, 0), ""), conflicts, "<=", 0, digits=0)


def add_size_rows(table, bench):
    lines = bench.lines.get(("insert", "ours"), [])
    decades = sorted({line["to"] for line in lines if line["from"] > 0})
    cost = {
        decade: [line["server_cpu_us_per_op"] for line in lines if line["to"] == decade]
        for decade in decades
    }
    for decade in decades:
        figure = f"server us an insert, to {decade:,}"
        table.add(figure, (median_text(cost[decade], 2), ""), cost[decade])
    if len(decades) > 1:
        growth = ratios(cost[decades[-1]], cost[decades[0]])
        table.add("  last decade against first, times", ("", ""), growth, "<=", 1.5)
    for name, order in (("insert", "in order"), ("insert-scattered", "scattered")):
        at = [line for line in bench.lines.get((name, "ours"), []) if line["to"] == 100_000]
        for field, what, most in (
            ("anon_bytes_per_node", "anonymous bytes", 200),
            ("area_bytes_per_node", "tmpfs bytes", 300),
        ):
            values = [line[field] for line in at if field in line]
            figure = f"{what} a node of 10^5, {order}"
            table.add(figure, (median_text(values, 0), ""), values, "<=", most, digits=0)
    answers = [ms for times in bench.column("restart", "ours", "answer_ms") for ms in times]
    worst = [max(answers)] if answers else []
    middle = median_text(answers, 1)
    table.add("kill to answer, ms; compared: worst", (middle, ""), worst, "<=", 50, digits=1)


def measure(bench, quick, rounds, seconds):
    run_rounds(bench, rounds, seconds)
    run_growth(bench, 1 if quick else 2, 100_000 if quick else 1_000_000)
    run_restart(bench, 3 if quick else 10)


def table_of(bench):
    table = Table(("ours", "null"))
    add_speed_rows(table, bench)
    add_transaction_rows(table, bench)
    add_size_rows(table, bench)
    return table
