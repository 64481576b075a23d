# SPDX-License-Identifier: MIT
"""The figures of tools/bench that domains on their rings see, on a stand-in machine."""

import sys

from benching import CannotStart, Table, median_text, microseconds, ratios

SERVERS = ("ours", "null", "C", "OCaml")

# What is measured in each round: name, which servers, xs-load's arguments.
ROUNDS, SECONDS = 5, 1

ROUND = [
    ("read", SERVERS, "--scenario read"),
    ("write", SERVERS, "--scenario write"),
    ("reads in flight", SERVERS, "--scenario read --inflight 16"),
    ("writes in flight", SERVERS, "--scenario write --inflight 16"),
    ("mixed", SERVERS, "--scenario mixed"),
    ("rmw", SERVERS, "--scenario rmw"),
    ("rmw-own", SERVERS, "--scenario rmw-own"),
    ("read beside idle", ("ours",), "--scenario read --idle 1000"),
    ("write beside idle", ("ours",), "--scenario write --idle 1000"),
]
DEATHS = (125, 250, 500, 1000)
# Debian's take much longer: they are asked for fewer.
DEATHS_OF_OTHERS = (125, 500)
RESTARTS = ((100, 5_000), (1_000, 100_000))


def start_all(bench):
    servers = {}
    for kind in SERVERS:
        try:
            servers[kind] = bench.start(kind, on_machine=True)
        except (CannotStart, FileNotFoundError) as problem:
            if kind in ("ours", "null"):
                raise
            print(f"bench: without {kind}: {problem}", file=sys.stderr)
    return servers


def run_rounds(bench, servers, rounds, seconds):
    for number in range(rounds):
        print(f"rings: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for name, kinds, arguments in ROUND:
            # Every second round the other way about, so that drift favours neither.
            for kind in kinds if number % 2 == 0 else reversed(kinds):
                if kind in servers:
                    bench.load(name, servers[kind], f"{arguments} --seconds {seconds}")


def run_deaths(bench, servers, repeats):
    print("rings: deaths", file=sys.stderr, flush=True)
    for number in range(repeats):
        for domains in DEATHS if number % 2 == 0 else reversed(DEATHS):
            arguments = f"--scenario deaths --clients {domains} --nodes 5"
            bench.load(f"deaths of {domains}", servers["ours"], arguments)
    for kind in ("C", "OCaml"):
        for domains in DEATHS_OF_OTHERS if kind in servers else ():
            arguments = f"--scenario deaths --clients {domains} --nodes 5"
            bench.load(f"deaths of {domains}", servers[kind], arguments)


def run_restarts(bench, kills):
    for guests, nodes in RESTARTS:
        print(f"rings: {kills} kills with {guests} guests", file=sys.stderr, flush=True)
        server = bench.start("ours", "--supervise", on_machine=True)
        arguments = f"--scenario restart --clients {guests} --nodes {nodes} --kills {kills}"
        bench.load(f"restart with {guests}", server, arguments)
        server.stop()


def measure(bench, quick, rounds, seconds):
    servers = start_all(bench)
    run_rounds(bench, servers, rounds, seconds)
    run_deaths(bench, servers, 1 if quick else 5)
    for server in servers.values():
        server.stop()
    run_restarts(bench, 3 if quick else 15)


class Rows:
    """Rows of one table, all of measurements on rings."""

    def __init__(self, bench):
        self.bench = bench
        self.table = Table(SERVERS)

    def column(self, name, kind, field):
        return self.bench.column("ring " + name, kind, field)

    def shown(self, name, field, digits, only=SERVERS, scale=1):
        return [
            median_text([value * scale for value in self.column(name, kind, field)], digits)
            if kind in only
            else ""
            for kind in SERVERS
        ]

    def rate(self, figure, name, targets):
        """One row for each other server that ours is held against; `targets`: their factors."""
        ours = self.column(name, "ours", "rate")
        shown = self.shown(name, "rate", 0)
        for kind, target in targets:
            compared = ratios(ours, self.column(name, kind, "rate"))
            self.table.add(f"{figure}; of {kind}'s", shown, compared, ">=", target)
            figure, shown = " " * len(figure), [""] * len(SERVERS)

    def transactions(self, figure, name):
        self.rate(figure, name, (("null", None), ("C", None)))
        p99 = [us / 1000 for us in self.column(name, "ours", "worst_client_p99_us")]
        shown = self.shown(name, "worst_client_p99_us", 2, scale=0.001)
        self.table.add("  slowest guest's p99, ms", shown, p99, "<=", 2)
        tries = self.column(name, "ours", "attempts_per_commit")
        self.table.add("  tries a commit", self.shown(name, "attempts_per_commit", 2), tries)

    def beside_idle(self, what):
        busy = what + " beside idle"
        cpu = [self.column(name, "ours", "server_cpu_us_per_op") for name in (busy, what)]
        trip = [microseconds(self.column(name, "ours", "rate")) for name in (busy, what)]
        for figure, (loaded, plain) in (("server us", cpu), ("round trip us", trip)):
            shown = [median_text(loaded, 2), "", "", ""]
            figure = f"{figure}, {what} beside 1,000 idle guests"
            self.table.add(figure, shown, ratios(loaded, plain), "<=", 1.15)

    def deaths(self):
        per_domain = {}
        for domains in DEATHS:
            name = f"deaths of {domains}"
            cpu = self.column(name, "ours", "server_cpu_us_per_domain")
            per_domain[domains] = cpu
            told = self.column(name, "ours", "told_ms")
            others = SERVERS if domains in DEATHS_OF_OTHERS else ("ours",)
            others = tuple(kind for kind in others if kind != "null")
            figure = f"{domains} domains destroyed, ms until told of all"
            self.table.add(figure, self.shown(name, "told_ms", 1, others), told)
            shown = self.shown(name, "server_cpu_us_per_domain", 1, others)
            self.table.add("  server us a domain", shown, cpu)
        growth = ratios(per_domain[DEATHS[-1]], per_domain[DEATHS[0]])
        figure = f"  a domain of {DEATHS[-1]} against one of {DEATHS[0]}, times"
        self.table.add(figure, [""] * len(SERVERS), growth, "<=", 1.5)

    def restarts(self):
        for (guests, nodes), most in zip(RESTARTS, (10, 100)):
            name = f"restart with {guests}"
            answers = [ms for run in self.column(name, "ours", "answer_ms") for ms in run]
            cpu = [ms for run in self.column(name, "ours", "server_cpu_ms") for ms in run]
            shown = [median_text(answers, 1), "", "", ""]
            figure = f"kill to reply on {guests:,} rings, {nodes:,} nodes, ms"
            self.table.add(figure, shown, answers, "<=", most, digits=1)
            worst = [max(answers)] if answers else []
            self.table.add("  worst kill", shown, worst, "<=", most, digits=1)
            self.table.add("  server ms until then", [median_text(cpu, 1), "", "", ""], cpu)


def table_of(bench):
    rows = Rows(bench)
    rows.rate("reads/s, one guest", "read", (("null", 0.65), ("C", None)))
    rows.rate("writes/s, one guest", "write", (("null", 0.55), ("C", None)))
    rows.rate("reads/s, 16 in flight", "reads in flight", (("C", 2), ("null", None)))
    rows.rate("writes/s, 16 in flight", "writes in flight", (("C", 2), ("null", None)))
    rows.rate("mixed ops/s, 16 guests", "mixed", (("C", 1.5), ("null", None)))
    rows.transactions("commits/s, 16 guests on one node", "rmw")
    rows.transactions("commits/s, 16 guests on their own", "rmw-own")
    rows.beside_idle("read")
    rows.beside_idle("write")
    rows.deaths()
    rows.restarts()
    return rows.table
