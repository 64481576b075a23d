#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Plays a recorded series against a daemon: every request in the recorded order, each after the
answer to the one before, and compares all that each connection is sent with what was recorded.

`Replay` plays it as it was. `KillReplay` kills the server (SIGKILL) after chosen steps and does
then what clients do: sockets connect, register their watches and run an interrupted transaction
again; guests, and domain 0's kernel, on their rings notice nothing but that a transaction's end
says EAGAIN, and retry it. Recorded answers must come back all the same.

As a program: `replay.py [--kills all|none|N] [--offset K] [SERIES...]` plays with a kill after
every step (default), after none, or after every Nth, beginning with step K."""

import argparse
import collections
import contextlib
import dataclasses
import os
import pathlib
import signal
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import recorded  # noqa: E402
import xs  # noqa: E402

_SPARE_DOMID = 1000  # domains that stand in for shutdowns: far from any recorded domid
_NAME = {getattr(xs, name): name for name in (
    "DIRECTORY", "READ", "GET_PERMS", "WATCH", "UNWATCH", "TRANSACTION_START", "TRANSACTION_END",
    "INTRODUCE", "GET_DOMAIN_PATH", "WRITE", "MKDIR", "RM", "SET_PERMS", "WATCH_EVENT", "ERROR",
    "RESET_WATCHES", "RESUME", "CONTROL")}

# The differences that are legal, with their reasons. The tests assert how often each occurs.
CONFLICT = "EAGAIN recorded, aborted in its place: we refuse only if an answer would now differ"
MERGED = "event recorded as dropped, because an equal one was queued: we had delivered that one"
LOST = "event sent to a socket that a kill closed: the client's new watch fires instead"


class Difference(AssertionError):
    """The daemon did something else than what was recorded."""


def printed(frame):
    """A frame in the trace's form: the operation's name, and the payload with spaces for NULs."""
    op, _, _, payload = frame
    return _NAME[op], payload.replace(b"\0", b" ").decode("latin-1")


@dataclasses.dataclass
class Transaction:
    """An open one: its id with our server, what was asked in it, and whether a kill aborted it."""
    id: int
    steps: list = dataclasses.field(default_factory=list)
    doomed: bool = False


class Peer:
    """One recorded connection, as its client sees it."""

    def __init__(self, name, daemon, outputs):
        self.name, self.daemon, self.outputs = name, daemon, outputs
        self.domid = 0 if name == recorded.DOM0_KERNEL else recorded.domid_of(name)
        self.position = 0  # in outputs
        self.frames = []  # received and not yet compared
        self.watches = []  # payloads, in order of registration
        self.open = {}  # transactions, by recorded number
        self.again = 0  # transactions run again because of kills
        self._connect()

    def call(self, op, payload, tx=0):
        """Sends a request and returns its printed reply; events that come first become frames."""
        self.client.send(getattr(xs, op), payload, tx)
        while (frame := printed(self.client.recv()))[0] == "WATCH_EVENT":
            self.frames.append(frame)
        if frame[0] not in (op, "ERROR"):
            raise Difference(f"{self.name} asked {op} ({payload}) and was sent {frame}")
        return frame

    def ask(self, step):
        """Makes the step's request, and its reply a frame. Commits that a kill doomed are
        retried, and those that C xenstored refuses."""
        inside = self.open.get(step.tx)
        reply = self.call(step.op, step.payload, inside.id if inside else 0)
        if inside and step.op == "TRANSACTION_END" and step.payload == b"T\0":
            refused = ("ERROR", "EAGAIN ")
            if inside.doomed:
                self._expect(step, reply, refused)
            if inside.doomed or (self.daemon.peer == "c" and reply == refused):
                self.run_again(inside)
                reply = self.call(step.op, step.payload, inside.id)
        self._remember(step, inside, reply)
        if step.op == "TRANSACTION_START":
            reply = (reply[0], step.answer.text)  # ids are the server's business
        self.frames.append(reply)
        return reply

    def _remember(self, step, inside, reply):
        if step.op == "TRANSACTION_END":
            self.open.pop(step.tx, None)
        elif inside:
            inside.steps.append(step)
        elif reply[0] == "ERROR":
            pass
        elif step.op == "WATCH":
            self.watches.append(step.payload)
        elif step.op == "UNWATCH":
            self.watches.remove(step.payload)
        elif step.op == "TRANSACTION_START":
            self.open[step.starts] = Transaction(int(reply[1]))

    @staticmethod
    def _expect(step, reply, expected):
        if reply != expected:
            raise Difference(f"{step}\n  answered {reply}\n  not      {expected}")

    def run_again(self, transaction):
        self.again += 1
        transaction.doomed = False
        transaction.id = int(self.call("TRANSACTION_START", b"\0")[1])
        for step in transaction.steps:
            reply = self.call(step.op, step.payload, transaction.id)
            self._expect(step, reply, (step.answer.op, step.answer.text))

    def take_in(self):
        """Makes frames of all that has been sent. To a guest it comes by its ring and a bridge, so
        what was published may still be on its way: the guest asks something to know."""
        if self.client and self.domid is not None:
            self.barrier()
        while self.client and not self.client.quiet():
            self.frames.append(printed(self.client.recv()))

    def gather_rest(self):
        """Makes frames of all that still arrives on a connection that the server closed."""
        try:
            while self.client:
                self.frames.append(printed(self.client.recv()))
        except xs.Closed:
            self.close()

    def close(self):
        if self.client:
            self.client.close()
            self.client = None

    def come_back(self):
        """Restores what a kill takes from this kind of client."""
        if self.domid is None:
            self.gather_rest()
            self._connect()
            self._watch_again()
            for transaction in self.open.values():
                self.run_again(transaction)
        else:
            for transaction in self.open.values():
                transaction.doomed = True
            self.barrier()

    def barrier(self):
        """Takes in all that the server had for this client before it answers this."""
        self.call("GET_DOMAIN_PATH", b"0\0")

    def _watch_again(self):
        for payload in self.watches:
            self.client.send(xs.WATCH, payload)
        for payload in self.watches:
            if printed(self.client.recv()) != ("WATCH", "OK "):
                raise Difference(f"{self.name}: cannot watch {payload} again")
            first = self.client.recv()
            if first[0] != xs.WATCH_EVENT or first[3] != payload:
                raise Difference(f"{self.name}: no first event for {payload}, but {first}")

    def _connect(self):
        """Connects, and waits until a server answers."""
        deadline = time.monotonic() + 10
        while True:
            try:
                self.client = self.daemon.client(self.domid)
                self.call("GET_DOMAIN_PATH", b"0\0")
                return
            except (OSError, xs.Closed):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.001)


class Replay:
    """Plays a trace on a running daemon. `received` tells afterwards, step by step, which frames
    each connection got because of it; `allowed` how often which legal difference occurred."""

    def __init__(self, trace, daemon):
        self.trace, self.daemon = trace, daemon
        self.control = daemon.client()  # for barriers
        self.peers = {}
        self.received = []
        self.kills = 0
        self.allowed = collections.Counter()
        self.again = collections.Counter()  # transactions run again because of kills, by client
        self._merged = collections.Counter(trace.merged)
        self._spare = _SPARE_DOMID
        for number in range(sum(step.kind == "shutdown" for step in trace.steps)):
            self._control(xs.INTRODUCE, self._introduction(_SPARE_DOMID + number))
        for step in trace.steps:  # they exist before they are introduced
            if step.kind == "introduced":
                daemon.machine.ring_of(recorded.domid_of(step.conn))

    def run(self, progress=lambda done: None):
        """Plays all; raises Difference."""
        try:
            for index, step in enumerate(self.trace.steps):
                self._play(index, step)
                progress(index + 1)
            for peer in self.peers.values():
                self._finish(peer)
        finally:
            for peer in self.peers.values():
                peer.close()
            self.control.close()

    def _play(self, index, step):
        getattr(self, f"_{step.kind}")(step)
        self._settle(index)
        self.received.append({peer.name: peer.frames for peer in self.peers.values()
                              if peer.frames})
        for peer in self.peers.values():
            self._compare(peer, step)
        if step.kind in ("disconnect", "gone"):
            self._finish(self.peers.pop(step.conn))

    def _settle(self, _index):
        """Waits until everything that the step caused has been sent, and takes it in: a server
        that answers this later request has published all of the earlier one's effects."""
        for _ in range(2):  # a death may be noticed in the same turn as the first request, after it
            self._control(xs.GET_DOMAIN_PATH, b"0\0")
        for peer in self.peers.values():
            peer.take_in()

    def _control(self, op, payload):
        reply = self.control.call(op, payload)
        if isinstance(reply, str):
            raise Difference(f"{_NAME.get(op, op)} ({payload}) answered {reply}")

    def _introduction(self, domid):
        return b"%d\0%d\0%d\0" % (domid, *self.daemon.machine.ring_of(domid))

    # What each kind of step does.

    def _request(self, step):
        if step.op == "INTRODUCE":
            domid = int(step.payload.split(b"\0")[0])
            step = dataclasses.replace(step, payload=self._introduction(domid))
        refused = ("ERROR", "EAGAIN ")
        if (step.answer.op, step.answer.text) != refused:
            self.peers[step.conn].ask(step)
            return
        self.peers[step.conn].ask(dataclasses.replace(step, payload=b"F\0"))
        self.peers[step.conn].frames[-1] = refused
        self.allowed[CONFLICT] += 1

    def _connect(self, step):
        self.peers[step.conn] = Peer(
            step.conn, self.daemon, self.trace.outputs[step.conn])

    _introduced = _connect

    def _disconnect(self, step):
        """The client closes once what came until then has been compared: see _play."""

    def _gone(self, step):
        self.peers[step.conn].close()
        self.daemon.machine.destroy(recorded.domid_of(step.conn))

    def _shutdown(self, _step):
        """The trace does not tell which domain it was: one that nobody knows."""
        self.daemon.machine.shut_down(self._spare)
        self._spare += 1

    def _finish(self, peer):
        self._complete(peer)
        self.again["guests" if peer.domid is not None else "sockets"] += peer.again
        peer.close()

    # Comparing.

    def _compare(self, peer, step):
        for frame in peer.frames:
            if peer.position < len(peer.outputs):
                output = peer.outputs[peer.position]
                if frame == (output.op, output.text):
                    peer.position += 1
                    continue
            if frame[0] == "WATCH_EVENT" and self._merged[frame[1]]:
                self._merged[frame[1]] -= 1
                self.allowed[MERGED] += 1
                continue
            self._fail(peer, step, frame)
        peer.frames = []

    @staticmethod
    def _fail(peer, step, frame):
        rest = peer.outputs[peer.position:peer.position + 3]
        raise Difference(f"{step}\n  {peer.name} was sent {frame}\n  recorded is  " + "\n".join(
            f"{output.where}: {output.op} ({output.text})" for output in rest))

    @staticmethod
    def _complete(peer):
        if peer.position < len(peer.outputs):
            output = peer.outputs[peer.position]
            raise Difference(f"{peer.name} was never sent {output}")


class KillReplay(Replay):
    """Kills the server after each step whose index `kill_after` accepts. `expected` is the
    `received` of a plain replay. The daemon must be supervised."""

    def __init__(self, trace, daemon, expected, kill_after):
        super().__init__(trace, daemon)
        self._expected, self._kill_after = expected, kill_after
        self._killed_pid = 0

    def _settle(self, index):
        if not self._kill_after(index):
            super()._settle(index)
            return
        step = self.trace.steps[index]
        self._kill(gone=step.conn if step.kind == "gone" else None)
        self._account(index)

    def _kill(self, gone):
        pid = self._server_pid()
        os.kill(pid, signal.SIGKILL)
        self.kills, self._killed_pid = self.kills + 1, pid
        self.control.close()
        self.control = self.daemon.client()
        for peer in self.peers.values():
            if peer.name != gone:
                peer.come_back()

    def _server_pid(self):
        pid_file = pathlib.Path(self.daemon.rundir, "xenstored-server.pid")
        deadline = time.monotonic() + 10
        while True:
            text = pid_file.read_text() if pid_file.exists() else ""
            if text.endswith("\n") and int(text) != self._killed_pid:
                return int(text)
            if time.monotonic() > deadline:
                raise Difference(f"no new server: {pid_file} says {text!r}")
            time.sleep(0.0005)

    def _account(self, index):
        """What a kill kept from a socket is lost with it; a guest must have got everything."""
        for peer in self.peers.values():
            due = self._expected[index].get(peer.name, [])
            missing = due[len(peer.frames):]
            if peer.domid is None and missing and peer.frames == due[:len(peer.frames)]:
                self.allowed[LOST] += len(missing)
                peer.frames = due


@contextlib.contextmanager
def serve(*options, peer="ours"):
    """A daemon for one replay. What it logged is shown if the replay fails."""
    with tempfile.TemporaryFile("w+") as log:
        daemon = xs.HostedDaemon(*options, peer=peer)
        try:
            yield daemon.start(stderr=log)
        except BaseException:
            log.seek(0)
            sys.stderr.writelines(log.readlines()[-20:])
            raise
        finally:
            daemon.stop()


def play(series, kill_after=None, progress=lambda done: None, peer="ours"):
    """Plays a series plainly, and once more with kills if `kill_after` is given; returns the last
    of the two replays. `peer`: as HostedDaemon's."""
    trace = recorded.load(series)
    with serve(peer=peer) as daemon:
        plain = Replay(trace, daemon)
        plain.run()
    if kill_after is None:
        return plain
    with serve("--supervise", "--close-clients") as daemon:
        killing = KillReplay(trace, daemon, plain.received, kill_after)
        killing.run(progress)
    return killing


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", default="all", help="all (default), none, or N: every Nth step")
    parser.add_argument("--offset", type=int, default=0, help="of the first step with a kill")
    parser.add_argument("--peer", choices=("ours", "c"), default="ours",
                        help="c: Debian's xenstored, without kills")
    parser.add_argument("series", nargs="*", default=recorded.SERIES)
    options = parser.parse_args()
    kills = "none" if options.peer == "c" else options.kills
    stride = int({"all": 1, "none": 0}.get(kills, kills))
    for series in options.series:
        count = len(recorded.load(series).steps)

        def progress(done):
            if done % 100 == 0 or done == count:
                print(f"\r{series}: {done} of {count} steps", end="", flush=True)

        begin = time.monotonic()
        kill_after = (lambda index: index % stride == options.offset) if stride else None
        result = play(series, kill_after, progress, options.peer)
        print(f"\r{series}: {count} steps, {result.kills} kills, "
              f"{time.monotonic() - begin:.1f} s; transactions run again: {dict(result.again)}")
        for reason, times in result.allowed.items():
            print(f"  {times:4} x {reason}")


if __name__ == "__main__":
    main()
