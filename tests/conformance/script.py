# SPDX-License-Identifier: MIT
"""Scripts of rows and the world that runs them.

A row is `(who, tx, request, expected, events)`; the last may be left out:
- who: "s", "s2", ... are privileged socket clients, "g3" is the guest of domid 3;
- tx: 0, a number, or the name given to a transaction by Bind;
- request: "OP payload" where every "|" stands for a NUL, or (OP or number, bytes);
- expected: the error's name, or the payload ("|" again a NUL), or one of the matchers below;
- events: {who: ["path|token", ...]}; a list is in order, a set is not. No other event may
  arrive at any client. Events of the requester come before its reply, WATCH's after it.
A row can also be a list of rows, or a function that is given the world.

That nothing else arrived is known without waiting: after every row each client makes a round
trip of its own, and what was queued for it before comes first.
"""

import os
import re
import sys
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "support"))
import xs  # noqa: E402

BINARY = "xenstored-with-guests"
ERRORS = set("EINVAL EACCES EEXIST EISDIR ENOENT ENOMEM ENOSPC EIO ENOTEMPTY ENOSYS EROFS "
             "EBUSY EAGAIN EISCONN E2BIG EPERM".split())
ALIASES = {"START": xs.TRANSACTION_START, "END": xs.TRANSACTION_END,
           "PART": xs.DIRECTORY_PART, "IS_INTRODUCED": xs.IS_DOMAIN_INTRODUCED}
CLOSED = "(connection closed)"


def wire(text):
    """Bytes of a payload written with "|" for NUL."""
    return text if isinstance(text, bytes) else text.replace("|", "\0").encode("latin-1")


def shown(data):
    """The reverse of wire(), for people; long payloads are cut."""
    start = data[:120] if len(data) > 160 else data
    text = start if isinstance(start, str) else "".join(
        "|" if b == 0 else chr(b) if 32 <= b < 127 else f"\\x{b:02x}" for b in start)
    return text if len(start) == len(data) else f"{text}...({len(data)} bytes)"


def op_number(name):
    return name if isinstance(name, int) else ALIASES.get(name) or getattr(xs, name)


def parse(request):
    if isinstance(request, tuple):
        return op_number(request[0]), wire(request[1])
    name, _, payload = request.partition(" ")
    return op_number(name), wire(payload)


class Check:
    """Matches a successful reply whose payload satisfies `test(payload, world)`."""

    def __init__(self, what, test):
        self.what, self.test = what, test

    def matches(self, got, world):
        return isinstance(got, bytes) and bool(self.test(got, world))

    def __repr__(self):
        return f"<{self.what}>"


class OneOf:
    """Matches any of several expectations, where our rules leave the choice open."""

    def __init__(self, *choices):
        self.choices = choices

    def matches(self, got, world):
        return any(matches(choice, got, world) for choice in self.choices)

    def __repr__(self):
        return " or ".join(show_expected(choice) for choice in self.choices)


class Bind:
    """Matches a new transaction's id and gives it a name."""

    def __init__(self, name, number=None):
        self.name, self.number = name, number

    def matches(self, got, world):
        if not isinstance(got, bytes) or not re.fullmatch(rb"[1-9][0-9]*\0", got):
            return False
        world.transactions[self.name] = int(got[:-1])
        return self.number is None or world.transactions[self.name] == self.number

    def __repr__(self):
        return f"<id of transaction {self.name}{f' = {self.number}' if self.number else ''}>"


OK = "OK|"
EMPTY_PART = Check("generation, then the end", lambda got, _: re.fullmatch(rb"[0-9]+\0\0", got))
ANYTHING = Check("any successful reply", lambda payload, world: True)


def matches(expected, got, world):
    if hasattr(expected, "matches"):
        return expected.matches(got, world)
    if expected in ERRORS or expected == CLOSED:
        return got == expected
    return got == wire(expected)


def show_expected(expected):
    if hasattr(expected, "matches") or expected in ERRORS or expected == CLOSED:
        return str(expected)
    return repr(shown(wire(expected)))


class World:
    """A fresh daemon and the clients that talk to it."""

    def __init__(self, options=(), domains=(), **popen):
        self.daemon = xs.Daemon(*options, binary=BINARY)
        self.popen, self.domains = popen, domains
        self.clients, self.transactions = {}, {}
        self.serial = 0

    def __enter__(self):
        try:
            self.daemon.start(**self.popen)
            for domid in self.domains:
                self.introduce(domid)
        except BaseException:
            self.daemon.stop()
            raise
        return self

    def __exit__(self, *_):
        self.close_all()
        self.daemon.stop()

    @property
    def rundir(self):
        return self.daemon.rundir

    def create_domain(self, domid):
        """From now on this domid (20000 or more) exists; see tests/support/guests_main.cc."""
        with open(os.path.join(self.rundir, f"exists-{domid}"), "w", encoding="ascii"):
            return []

    def close_all(self):
        for client in self.clients.values():
            client.close()
        self.clients.clear()

    def client(self, who):
        """The client of that name, connected at its first use."""
        if who not in self.clients:
            domid = int(who[1:]) if who[0] == "g" else None
            self.clients[who] = self.daemon.client(domid)
        return self.clients[who]

    def close(self, who):
        self.clients.pop(who).close()

    def restart(self):
        """kill -9, then a new daemon on the same directory; all clients are gone."""
        self.daemon.kill()
        self.close_all()
        self.daemon.start(**self.popen)

    def alive(self):
        return self.daemon.process.poll() is None

    def call(self, who, request, tx=0):
        """One request; its payload, or the error's name. Events on the way are dropped."""
        op, payload = parse(request)
        return self.client(who).call(op, payload, tx=self.transactions.get(tx, tx))

    def ok(self, who, request, tx=0):
        """Like call, for requests that must succeed."""
        got = self.call(who, request, tx)
        assert isinstance(got, bytes), f"{who} {shown(str(request))}: {got}"
        return got

    def start(self, who, name):
        self.transactions[name] = int(self.ok(who, "START |")[:-1])

    def introduce(self, domid):
        """A domain with a home of its own, as the toolstack makes it."""
        self.ok("s", f"INTRODUCE {domid}|0|1|")
        self.ok("s", f"MKDIR /local/domain/{domid}|")
        self.ok("s", f"SET_PERMS /local/domain/{domid}|n{domid}|")

    def usage(self, domid):
        """What CONTROL quota <domid> says, as a dict."""
        text = self.ok("s", f"CONTROL quota|{domid}|").decode()
        return {name: int(count) for name, count in re.findall(r"([a-z-]+)[ \t]*:[ \t]*(\d+)", text)}

    def tree(self, path="/"):
        """{path: (value, permissions)} of everything below and including `path`."""
        found, todo = {}, [path]
        while todo:
            path = todo.pop()
            found[path] = (self.ok("s", f"READ {path}|"), self.ok("s", f"GET_PERMS {path}|"))
            names = self.ok("s", f"DIRECTORY {path}|").split(b"\0")[:-1]
            todo += [f"{path.rstrip('/')}/{name.decode()}" for name in names]
        return found

    def anonymous_kb(self):
        """The daemon's private memory. The map of its database is shared, so not in it."""
        with open(f"/proc/{self.daemon.process.pid}/status", encoding="ascii") as status:
            return int(re.search(r"RssAnon:\s+(\d+)", status.read()).group(1))

    # The rows.

    def exchange(self, who, tx, request):
        """Sends one request; (reply, {who: events}, problems found on the way)."""
        op, payload = parse(request)
        client = self.client(who)
        tx_id = self.transactions[tx] if isinstance(tx, str) else tx
        self.serial += 1
        problems, events = [], {}
        try:
            client.send(op, payload, tx_id, self.serial)
            got = self._reply(client, op, tx_id, events.setdefault(who, []), problems)
        except (xs.Closed, BrokenPipeError):
            self.close(who)
            return CLOSED, {}, problems
        early = len(events[who])
        if op != xs.WATCH and early < len(self._drain(who, op, events[who])):
            problems.append("events of the requester came after its reply")
        if op == xs.WATCH:
            if early:
                problems.append("an event came before WATCH's reply")
            self._drain(who, op, events[who])
        for other in [name for name in self.clients if name != who]:
            self._drain(other, op, events.setdefault(other, []))
        return got, {name: seen for name, seen in events.items() if seen}, problems

    def _reply(self, client, op, tx_id, events, problems):
        while True:
            kind, req, tx, data = client.recv()
            if kind == xs.WATCH_EVENT:
                events.append(data)
                if (req, tx) != (0, 0):
                    problems.append(f"rule 64: event with req_id {req}, tx_id {tx}")
                continue
            if (req, tx) != (self.serial, tx_id):
                problems.append(f"rule 4: reply has req_id {req}, tx_id {tx}; "
                                f"request had {self.serial}, {tx_id}")
            if kind == xs.ERROR:
                if data[-1:] != b"\0" or data[:-1].decode("latin-1") not in ERRORS:
                    problems.append(f"rule 4: strange ERROR payload {shown(data)}")
                return data.rstrip(b"\0").decode("latin-1")
            if kind != op:
                problems.append(f"rule 4: reply of type {kind} to a request of type {op}")
            return data

    def _drain(self, who, op, events):
        """Appends the events that are queued for `who`; returns `events`."""
        client = self.clients[who]
        self.serial += 1
        try:
            client.send(xs.GET_DOMAIN_PATH, b"0\0", 0, self.serial)
            while True:
                kind, req, _, data = client.recv()
                if kind != xs.WATCH_EVENT:
                    assert req == self.serial, f"{who} was sent a reply it did not wait for"
                    return events
                events.append(data)
        except (xs.Closed, BrokenPipeError):
            # A domain that goes, or is introduced again, may lose its stream; nobody else may.
            if who[0] != "g" or op not in (xs.RELEASE, xs.INTRODUCE):
                raise
            self.close(who)
            return events

    def run_row(self, row):
        """What is wrong with the answer to one row: a list of lines, empty if nothing."""
        who, tx, request, expected, *rest = row
        wanted = {name: seen for name, seen in (rest[0] if rest else {}).items() if seen}
        got, events, problems = self.exchange(who, tx, request)
        if not matches(expected, got, self):
            problems.append(f"reply:  expected {show_expected(expected)}\n"
                            f"              got      {shown(got)!r}")
        for name in sorted(set(wanted) | set(events)):
            seen = list(events.get(name, []))
            hoped = [wire(event + "|") for event in wanted.get(name, [])]
            any_order = isinstance(wanted.get(name), set)
            if (sorted(hoped) != sorted(seen)) if any_order else hoped != seen:
                problems.append(f"events of {name}:  expected {[shown(e) for e in hoped]}\n"
                                f"              got      {[shown(e) for e in seen]}")
        return problems


class Rule:
    def __init__(self, number, title, rows, domains, options):
        self.number, self.title, self.rows = number, title, rows
        self.domains, self.options = domains, options


RULES = []


def rule(number, title, *rows, domains=(), options=()):
    """Adds a script: `rows` on a fresh daemon in which `domains` are introduced."""
    RULES.append(Rule(number, title, rows, domains, options))


def write(path, perms=None, value=""):
    """Rows that make a node as a privileged client, with permissions."""
    rows = [("s", 0, f"WRITE {path}|{value}", OK)]
    return rows + [("s", 0, f"SET_PERMS {path}|{perms}|", OK)] if perms else rows


def each(who, requests, expected):
    """Rows for requests that all have the same answer."""
    return [(who, 0, request, expected) for request in requests]


def close(who):
    """A row: that client goes away."""
    return lambda world: world.close(who)


def flat(rows):
    for row in rows:
        if isinstance(row, list):
            yield from flat(row)
        else:
            yield row


def show_row(row):
    if callable(row):
        return f"(function {row.__name__})"
    who, tx, request = row[:3]
    inside = f"[{tx}] " if tx else ""
    if isinstance(request, tuple):
        request = f"{request[0]} {shown(wire(request[1]))}"
    return f"{who} {inside}{shown(request)}"


def run_rule(this):
    """The failures of one rule, as printable texts. Stops after three, or at a broken world."""
    failures = []

    def fail(place, row, problems):
        body = "".join(f"\n      {problem}" for problem in problems)
        failures.append(f"FAIL rule {this.number}: {this.title}\n"
                        f"      row {place}: {show_row(row)}{body}")

    try:
        with World(this.options, this.domains) as world:
            for place, row in enumerate(flat(this.rows), 1):
                try:
                    problems = row(world) or [] if callable(row) else world.run_row(row)
                except Exception as error:  # pylint: disable=broad-except
                    where = traceback.extract_tb(error.__traceback__)[-1]
                    fail(place, row, [f"{type(error).__name__}: {error} "
                                      f"({os.path.basename(where.filename)}:{where.lineno})"])
                    break
                if problems:
                    fail(place, row, problems)
                if len(failures) == 3:
                    break
            if not world.alive():
                fail("(end)", lambda: None, [f"the daemon died: {world.daemon.process.poll()}"])
    except Exception as error:  # pylint: disable=broad-except
        failures.append(f"FAIL rule {this.number}: {this.title}\n      world: "
                        f"{type(error).__name__}: {error}")
    return failures


def main():
    """Runs all rules, or those whose number or title contains one of the arguments."""
    chosen = [r for r in RULES if not sys.argv[1:] or
              any(word in f"{r.number} {r.title}" for word in sys.argv[1:])]
    bad = 0
    for this in chosen:
        failures = run_rule(this)
        bad += bool(failures)
        if failures:
            print("\n".join(failures), flush=True)
    rows = sum(len(list(flat(r.rows))) for r in chosen)
    print(f"{len(chosen)} rules, {rows} rows, {bad} rules failed")
    return 1 if bad or not chosen else 0
