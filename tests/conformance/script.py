# SPDX-License-Identifier: MIT
"""Scripts of rows and the world that runs them.

A row is `(who, tx, request, expected, events)`; the last may be left out:
- who: "s", "s2", ... are privileged socket clients, "g3" is the guest of domid 3;
- tx: 0, a number, or the name given to a transaction by Bind;
- request: "OP payload" where every "|" stands for a NUL, or (OP or number, bytes). "$9" in it
  stands for "9|<gfn>|<port>", what INTRODUCE needs to know of domain 9, and "$port9" for its port;
  the domain is created if there is none;
- expected: the error's name, or the payload ("|" again a NUL), or one of the matchers below;
- events: {who: ["path|token", ...]}; a list is in order, a set is not. No other event may
  arrive at any client. Events of the requester come before its reply, WATCH's after it.
A row can also be a list of rows, or a function that is given the world. With who "x" it is the
hypervisor that acts: ("x", 0, "shutdown 3", OK, events).

The same rows run on Debian's C xenstored 4.17. Where that answers otherwise, the row says so with
Differs or ours_only, and names the reason, a key of the table in differences.py.

That nothing else arrived is known without waiting: after every row each client makes a round
trip of its own, and what was queued for it before comes first.
"""

import os
import re
import sys
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "support"))
import differences  # noqa: E402
import xs  # noqa: E402

PEER = os.environ.get("XENSTORED_PEER", "ours")  # or "c": Debian's xenstored 4.17
ERRORS = set("EINVAL EACCES EEXIST EISDIR ENOENT ENOMEM ENOSPC EIO ENOTEMPTY ENOSYS EROFS "
             "EBUSY EAGAIN EISCONN E2BIG EPERM".split())
ALIASES = {"START": xs.TRANSACTION_START, "END": xs.TRANSACTION_END,
           "PART": xs.DIRECTORY_PART, "IS_INTRODUCED": xs.IS_DOMAIN_INTRODUCED}
CLOSED = "(connection closed)"
SERIAL_OF_BARRIERS = 0x80000001  # rows count theirs up from 1


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


class Differs:
    """What we answer (or send), and what 4.17 does; `why` is a key of differences.REASONS.

    Stands for a row's expectation, or for its events. Both are asserted, each on its daemon."""

    def __init__(self, ours, c, why):
        assert why in differences.REASONS and (ours != c), why
        self.ours, self.c, self.why = ours, c, why


class OursOnly:
    """Rows that are not played to 4.17; `why` as in Differs."""

    def __init__(self, why, rows):
        assert why in differences.REASONS, why
        self.why, self.rows = why, rows


def ours_only(why, *rows):
    return OursOnly(why, rows)


def known(expected):
    """What this daemon is expected to do, where the two differ."""
    if not isinstance(expected, Differs):
        return expected
    differences.met(expected.why)
    return getattr(expected, PEER)


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
    """A fresh daemon on a machine of its own, and the clients that talk to it."""

    def __init__(self, options=(), domains=(), peer=PEER, **popen):
        self.daemon = xs.HostedDaemon(*options, peer=peer)
        self.peer, self.popen, self.domains = peer, popen, domains
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

    @property
    def machine(self):
        return self.daemon.machine

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
        client = self.clients.pop(who, None)
        if client is not None:
            client.close()

    def restart(self):
        """kill -9, then a new daemon on the same directory; all clients are gone."""
        self.daemon.kill()
        self.close_all()
        self.daemon.start(**self.popen)

    def alive(self):
        return self.daemon.process.poll() is None

    def call(self, who, request, tx=0):
        """One request; its payload, or the error's name. Events on the way are dropped."""
        op, payload = parse(self.with_domains(request))
        return self.client(who).call(op, payload, tx=self.transactions.get(tx, tx))

    def ok(self, who, request, tx=0):
        """Like call, for requests that must succeed."""
        got = self.call(who, request, tx)
        assert isinstance(got, bytes), f"{who} {shown(str(request))}: {got}"
        return got

    def start(self, who, name):
        self.transactions[name] = int(self.ok(who, "START |")[:-1])

    def with_domains(self, request):
        """The request with what INTRODUCE needs of the domains named with "$"."""
        if isinstance(request, tuple) or "$" not in request:
            return request
        request = re.sub(r"\$(\d+)", lambda found: "{}|{}|{}".format(
            found[1], *self.machine.ring_of(int(found[1]))), request)
        return re.sub(r"\$port(\d+)", lambda found: str(self.machine.ring_of(int(found[1]))[1]),
                      request)

    def introduce(self, domid):
        """A domain with a home of its own, as the toolstack makes it."""
        self.ok("s", f"INTRODUCE ${domid}|")
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

    def exchange(self, who, tx, request, meanwhile=None):
        """Sends one request; (reply, {who: events}, problems found on the way). `meanwhile` is
        called between request and reply."""
        if who == "x":
            return self._act(request)
        op, payload = parse(self.with_domains(request))
        client = self.client(who)
        tx_id = self.transactions[tx] if isinstance(tx, str) else tx
        self.serial += 1
        problems, events = [], {}
        try:
            client.send(op, payload, tx_id, self.serial)
            if meanwhile:
                meanwhile()
            got = self._reply(client, op, tx_id, events.setdefault(who, []), problems)
        except (xs.Closed, BrokenPipeError):
            self.close(who)
            return CLOSED, {}, problems
        if op in (xs.RELEASE, xs.INTRODUCE) and got == b"OK\0":
            self.close(f"g{payload.split(bytes(1))[0].decode()}")
        early = len(events[who])
        if op != xs.WATCH and early < len(self._drain(who, events[who])) and not (
                op == xs.RELEASE and self._differs("release-order")):
            problems.append("events of the requester came after its reply")
        if op == xs.WATCH:
            if early:
                problems.append("an event came before WATCH's reply")
            self._drain(who, events[who])
        self._drain_all_but(who, events)
        return got, {name: seen for name, seen in events.items() if seen}, problems

    def _differs(self, why):
        """True on 4.17, and notes that it is different there."""
        if self.peer == "c":
            differences.met(why)
        return self.peer == "c"

    def _act(self, request):
        """The hypervisor does something of which no client is told in a reply."""
        command, *rest = request.split()
        for domid in rest if command in ("destroy", "dying") else ():
            self.close(f"g{domid}")
        self.machine.act(request)
        events = {}
        for _ in range(2):  # it may be noticed in the same turn as the first barrier, but after it
            self.more_events(events)
        return wire(OK), {name: seen for name, seen in events.items() if seen}, []

    def more_events(self, events):
        """Appends what each client has been sent by now to its list in {who: events}."""
        self._drain_all_but(None, events)

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

    def _drain(self, who, events):
        """Appends the events that are queued for `who`; returns `events`."""
        self._ask_for_events(who)
        return self._take_events(who, events)

    def _drain_all_but(self, who, events):
        """The same for all others; `events` is {who: list}."""
        others = [name for name in self.clients if name != who]
        for name in others:
            self._ask_for_events(name)
        for name in others:
            self._take_events(name, events.setdefault(name, []))

    def _ask_for_events(self, who):
        self.clients[who].send(xs.GET_DOMAIN_PATH, b"0\0", 0, SERIAL_OF_BARRIERS)

    def _take_events(self, who, events):
        while True:
            kind, req, _, data = self.clients[who].recv()
            if kind != xs.WATCH_EVENT:
                assert req == SERIAL_OF_BARRIERS, f"{who} was sent a reply it did not wait for"
                return events
            events.append(data)

    def run_row(self, row):
        """What is wrong with the answer to one row: a list of lines, empty if nothing."""
        who, tx, request, expected, *rest = row
        expected, hoped_for = known(expected), known(rest[0] if rest else {})
        wanted = {name: seen for name, seen in hoped_for.items() if seen}
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
    def __init__(self, number, title, rows, domains, options, only):
        self.number, self.title, self.rows = number, title, rows
        self.domains, self.options, self.only = domains, options, only


RULES = []


def rule(number, title, *rows, domains=(), options=(), only=None):
    """Adds a script: `rows` on a fresh daemon in which `domains` are introduced.

    With `only`, a key of differences.REASONS, it is not played to 4.17."""
    assert only is None or only in differences.REASONS, only
    RULES.append(Rule(number, title, rows, domains, options, only))


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
    """The single rows, without those that this daemon is not asked."""
    for row in rows:
        if isinstance(row, list):
            yield from flat(row)
        elif isinstance(row, OursOnly):
            if PEER == "ours":
                yield from flat(row.rows)
            else:
                differences.met(row.why)
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
    for skipped in [r for r in chosen if r.only and PEER != "ours"]:
        differences.met(skipped.only)
        chosen.remove(skipped)
    bad = 0
    for this in chosen:
        failures = run_rule(this)
        bad += bool(failures)
        if failures:
            print("\n".join(failures), flush=True)
    rows = sum(len(list(flat(r.rows))) for r in chosen)
    print(f"{len(chosen)} rules, {rows} rows, {bad} rules failed")
    if PEER != "ours":
        print(differences.summary())
    return 1 if bad or not chosen else 0
