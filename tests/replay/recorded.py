# SPDX-License-Identifier: MIT
"""Reads recorded traces of xenstored 4.17: what was asked, in which order, and what was answered.

A trace line shows a payload with its NULs printed as spaces. Answers are compared in that printed
form; only requests are rebuilt, for which the operation says where the NULs were. C xenstored does
not show the transaction ids of requests either, see `_TransactionGuess`; our daemon does."""

import collections
import dataclasses
import pathlib
import re

DIRECTORY = pathlib.Path(__file__).resolve().parent.parent / "traces"

# Phases of one series happened on one host one after the other. `before` phases are not recorded
# but written by us (see ../traces/README.md).
OURS = ("scenarios",)  # recorded of our daemon, with tests/xen/run; the others of C xenstored
SERIES = ("traffic", "devices", "remus-sender", "remus-destroy", *OURS)

_MESSAGE = re.compile(
    r"\d\d:\d\d:\d\d (c\d+|dom\d+) +(<-|->) ([A-Z_]+) \((.*)\)(?: tx (\d+))?")
_SHOWN_ID = re.compile(r"\) tx \d+$", re.MULTILINE)
_LIFE = re.compile(r" +(CREATE|DESTROY) (connection|watch|transaction) (\w+)")
_DROPPED = re.compile(r"dropping duplicate watch (\S+) (\S+) for domain \d+")
_NOISE = re.compile(r"### PHASE .*|\*\*\*|Checking store \.\.\.|Checking store complete\.")

# Operations whose payload is a fixed number of NUL-terminated strings (None: any number).
_STRINGS = {
    "DIRECTORY": 1, "READ": 1, "GET_PERMS": 1, "MKDIR": 1, "RM": 1, "GET_DOMAIN_PATH": 1,
    "TRANSACTION_START": 1, "TRANSACTION_END": 1, "RESUME": 1, "RESET_WATCHES": 1, "WATCH": 2,
    "UNWATCH": 2, "INTRODUCE": 3, "SET_PERMS": None, "CONTROL": 1,
}


class BadTrace(Exception):
    """A line that the parser does not understand."""


@dataclasses.dataclass
class Output:
    """Something the recorded server sent: a reply or a watch event, payload as printed."""
    op: str
    text: str
    where: str


@dataclasses.dataclass
class Step:
    """One thing that happened. Kinds: request, connect, disconnect, introduced (a guest's
    connection appears), gone (a domain died), shutdown (a domain stopped, but still exists)."""
    kind: str
    conn: str
    where: str
    op: str = ""
    text: str = ""
    payload: bytes = b""
    tx: int | None = None  # the transaction that it is part of, and
    starts: int | None = None  # the one that it starts: numbers of one connection
    answer: Output | None = None

    def __str__(self):
        asked = f" {self.op} ({self.text})" if self.op else ""
        return f"{self.where}: {self.conn} {self.kind}{asked}"


@dataclasses.dataclass
class Trace:
    """A series: its steps in order, and for each connection all that was sent to it, in order.
    `merged` lists the events that the recorded server dropped, because an equal one was still
    queued, in order."""
    series: str
    steps: list
    outputs: dict
    merged: list


DOM0_KERNEL = "c1"  # always the first connection the server makes


def domid_of(conn):
    """The domid of a guest's connection, None for a socket or dom0's kernel."""
    return int(conn[3:]) if conn.startswith("dom") else None


def is_kernel(conn):
    """True for a connection that a kernel shares among its threads: a guest's, and dom0's own."""
    return conn == DOM0_KERNEL or conn.startswith("dom")


def request_payload(op, text):
    """The bytes of a request that was printed as `text`."""
    data = text.encode("latin-1")
    if op == "WRITE":
        if b" " not in data:
            raise BadTrace(f"WRITE without a value: {text}")
        return data.replace(b" ", b"\0", 1)
    if op not in _STRINGS:
        raise BadTrace(f"unknown request {op}")
    count, spaces = _STRINGS[op], data.count(b" ")
    if not data.endswith(b" ") or (spaces < 2 if count is None else spaces != count):
        raise BadTrace(f"{op} with {spaces} strings: {text}")
    return data.replace(b" ", b"\0")


class _TransactionGuess:
    """Tells whether a request belonged to its connection's open transaction.

    In these traces no connection ever has two transactions open at once, and a socket client does
    one thing after the other: all its requests between START's reply and END are inside. A kernel
    shares its connection among threads. A thread waits for each reply, so what is asked while the
    transaction's own request is unanswered is another thread's; so are the announcements under
    control/feature-, which Linux never makes in a transaction. Watches know no transactions."""

    NUMBER = 1

    def __init__(self):
        self._open = {}  # conn -> the transaction's request that is unanswered, or None

    def asked(self, step):
        if step.conn not in self._open or step.op in ("WATCH", "UNWATCH"):
            return
        if step.op == "TRANSACTION_END":
            del self._open[step.conn]
            step.tx = self.NUMBER
        elif not is_kernel(step.conn):
            step.tx = self.NUMBER
        elif self._open[step.conn] is None and not step.text.startswith("control/feature-"):
            step.tx = self.NUMBER
            self._open[step.conn] = step

    def answered(self, step):
        if step.op == "TRANSACTION_START" and step.answer.op != "ERROR":
            step.starts = self.NUMBER
            self._open[step.conn] = None
        elif self._open.get(step.conn) is step:
            self._open[step.conn] = None


class _DomainWatchers:
    """Finds the unrecorded causes of @releaseDomain events. The hypervisor told the recorded
    server of a domain's death (there is a DESTROY line) or shutdown (there is no line at all: a
    step is made up at the first event that nothing else explains)."""

    @dataclasses.dataclass
    class _Watch:
        step: Step
        due: int = 1  # the initial event

    def __init__(self, steps):
        self._steps = steps
        self._watches = {}  # (conn, token) -> _Watch
        self._last_cause = None

    def watch(self, step):
        self._watches[step.conn, step.text.split(" ")[1]] = self._Watch(step)

    def unwatch(self, step):
        """To be called when UNWATCH was answered: what is due by then was never sent, so its cause
        came before this watch was registered, although other watchers' events were seen later."""
        watch = self._watches.pop((step.conn, step.text.split(" ")[1]))
        if watch.due:
            self._steps.remove(self._last_cause)
            self._steps.insert(self._steps.index(watch.step), self._last_cause)

    def closed(self, conn):
        self._watches = {key: watch for key, watch in self._watches.items() if key[0] != conn}

    def cause(self, step):
        self._last_cause = step
        self._steps.append(step)
        for watch in self._watches.values():
            watch.due += 1

    def event(self, conn, output):
        watch = self._watches.get((conn, output.text.split(" ")[1]))
        if watch is None:
            raise BadTrace(f"{output.where}: an event for a watch that was never registered")
        if watch.due == 0:
            self.cause(Step("shutdown", conn, output.where))
        watch.due -= 1


class _TransactionIds:
    """The trace shows them: nothing has to be guessed."""

    def asked(self, step):
        pass

    def answered(self, step):
        if step.op == "TRANSACTION_START" and step.answer.op != "ERROR":
            step.starts = int(step.answer.text)


class _Parser:
    def __init__(self, series, shows_ids):
        self.trace = Trace(series, [], collections.defaultdict(list), [])
        self._unanswered = collections.defaultdict(collections.deque)
        self._transactions = _TransactionIds() if shows_ids else _TransactionGuess()
        self._watchers = _DomainWatchers(self.trace.steps)

    def line(self, line, where):
        if match := _MESSAGE.fullmatch(line):
            conn, arrow, op, text, tx = match.groups()
            if arrow == "<-":
                self._request(Step("request", conn, where, op, text, request_payload(op, text),
                                   tx=int(tx) if tx else None))
            else:
                self._output(conn, Output(op, text, where))
        elif match := _LIFE.fullmatch(line):
            self._life(*match.groups(), where)
        elif match := _DROPPED.fullmatch(line):
            self.trace.merged.append(" ".join(match.groups()) + " ")
        elif not _NOISE.fullmatch(line):
            raise BadTrace(f"{where}: {line}")

    def _request(self, step):
        self._transactions.asked(step)
        if step.op == "WATCH" and step.text.startswith("@releaseDomain "):
            self._watchers.watch(step)
        self._unanswered[step.conn].append(step)
        self.trace.steps.append(step)

    def _output(self, conn, output):
        self.trace.outputs[conn].append(output)
        if output.op == "WATCH_EVENT":
            if output.text.startswith("@releaseDomain "):
                self._watchers.event(conn, output)
            return
        if not self._unanswered[conn]:
            raise BadTrace(f"{output.where}: a reply to nothing")
        step = self._unanswered[conn].popleft()
        if output.op not in (step.op, "ERROR"):
            raise BadTrace(f"{output.where}: {output.op} answers {step}")
        step.answer = output
        self._transactions.answered(step)
        if step.op == "UNWATCH" and step.text.startswith("@releaseDomain "):
            self._watchers.unwatch(step)

    def _life(self, what, kind, name, where):
        if kind != "connection":
            return
        if domid_of(name) is None:
            self._watchers.closed(name)
            self.trace.steps.append(
                Step("connect" if what == "CREATE" else "disconnect", name, where))
        elif what == "CREATE":
            self.trace.steps.append(Step("introduced", name, where))
        else:
            self._watchers.cause(Step("gone", name, where))

    def finish(self):
        for conn, steps in self._unanswered.items():
            if steps:
                raise BadTrace(f"{conn}: no answer to {steps[0]}")
        return self.trace


def load(series, directory=DIRECTORY):
    """Parses all phases of a series, in order. Raises BadTrace."""
    phases = sorted(directory.glob(f"{series}-[0-9][0-9]-*.txt"))
    if not phases:
        raise BadTrace(f"no phase of {series} in {directory}")
    texts = [path.read_text("latin-1") for path in phases]
    parser = _Parser(series, any(_SHOWN_ID.search(text) for text in texts))
    for path, text in zip(phases, texts):
        for number, line in enumerate(text.splitlines(), 1):
            parser.line(line, f"{path.name}:{number}")
    return parser.finish()
