#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Shows that xs-load's checks can fail: runs it against a small model server, once honest and
then with one fault at a time, each of which xs-load has to notice.

usage: selfcheck.py PATH-OF-XS-LOAD
"""

import ctypes
import json
import os
import pathlib
import pickle
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile

from ring_model import Rings

DIRECTORY, READ, WATCH, UNWATCH, TRANSACTION_START, TRANSACTION_END = 1, 2, 4, 5, 6, 7
INTRODUCE, RELEASE, WRITE, RM, SET_PERMS, WATCH_EVENT, ERROR = 8, 9, 11, 13, 14, 15, 16
IS_DOMAIN_INTRODUCED, DIRECTORY_PART = 17, 22

PR_SET_PDEATHSIG = 1
# Built together with xs-load.
BIN_DIR = os.path.dirname(os.path.abspath(sys.argv[1])) if len(sys.argv) > 1 else "."
LIBRARY = os.path.join(BIN_DIR, "../lib/libsimxen.so")


class Refused(Exception):
    pass


class Server:
    """A dictionary of paths; a transaction conflicts when a node it read has changed since."""

    def __init__(self, fault, rings=None):
        self.fault = fault
        self.rings = rings
        self.owners = {}  # path -> domid
        self.ports = {}  # of introduced domains
        self.mourners = {}  # token -> whether it is told which domain
        self.nodes = {}
        self.changed = {}  # path -> number of the change that touched it last
        self.changes = 0
        self.open = {}  # transaction id -> (changes at start, nodes then, paths read, writes)
        self.next_tx = 1
        self.writes = 0

    def answer(self, op, tx, payload):
        try:
            return self.frames(op, *self.serve(op, tx, payload))
        except Refused as refused:
            return self.frames(ERROR, str(refused).encode() + b"\0")

    @staticmethod
    def frames(op, payload, event=None):
        return [(op, payload)] + ([(WATCH_EVENT, event)] if event is not None else [])

    def serve(self, op, tx, payload):
        path = payload.split(b"\0")[0]
        if op == READ:
            return (self.read(tx, path),)
        if op == WRITE:
            self.write(tx, path, payload.split(b"\0", 1)[1])
        elif op == RM:
            gone = [p for p in self.nodes if (p + b"/").startswith(path + b"/")]
            for name in gone:
                del self.nodes[name]
        elif op == DIRECTORY:
            return (b"".join(name + b"\0" for name in self.children(path)),)
        elif op == DIRECTORY_PART:
            return (self.part(path, int(payload.split(b"\0")[1])),)
        elif op == WATCH:
            return b"OK\0", self.watch(payload.split(b"\0"))
        elif op == UNWATCH:
            self.mourners.pop(payload.split(b"\0")[1], None)
        elif op == SET_PERMS:
            self.owners[path] = int(payload.split(b"\0")[1][1:])
        elif op in (INTRODUCE, RELEASE, IS_DOMAIN_INTRODUCED):
            return (self.serve_domain(op, [int(n) for n in payload.split(b"\0")[:-1]]),)
        elif op == TRANSACTION_START:
            self.open[self.next_tx] = (self.changes, dict(self.nodes), set(), {})
            self.next_tx += 1
            return (b"%d\0" % (self.next_tx - 1),)
        elif op == TRANSACTION_END:
            self.end(tx)
        return (b"OK\0",)

    def watch(self, strings):
        path, token = strings[:2]
        if path == b"@releaseDomain":
            if len(strings) == 4 and self.fault == "knows no depth":
                raise Refused("EINVAL")
            self.mourners[token] = len(strings) == 4
        return path + b"\0" + token + b"\0"

    def serve_domain(self, op, numbers):
        domid = numbers[0]
        if op == INTRODUCE:
            self.ports[domid] = numbers[2]
            self.rings.introduce(domid, numbers[2])
        elif op == RELEASE:
            self.ports.pop(domid)
            self.rings.release(domid)
        elif self.fault != "keeps a domain" or domid != 2:
            return b"T\0" if domid in self.ports else b"F\0"
        else:
            return b"T\0"
        return b"OK\0"

    def bury(self, domid):
        """Ends a domain that died; what domain 0 is told of it."""
        self.serve_domain(RELEASE, [domid])
        homes = tuple(path + b"/" for path, owner in self.owners.items() if owner == domid)
        if self.fault != "leaves nodes":
            for name in [p for p in self.nodes if (p + b"/").startswith(homes)]:
                del self.nodes[name]
        events = []
        for token, is_told_which in self.mourners.items():
            name = b"@releaseDomain" + (b"/%d" % domid if is_told_which else b"")
            if is_told_which and domid == 3:
                events += {"tells too little": [], "tells twice": [name, name]}.get(
                    self.fault, [name]
                )
            else:
                events.append(name)
            events[:] = [e if isinstance(e, tuple) else (e, token) for e in events]
        return [(WATCH_EVENT, path + b"\0" + token + b"\0") for path, token in events]

    def read(self, tx, path):
        if self.fault == "wrong value":
            return b"not it"
        nodes = self.nodes
        if tx:
            self.open[tx][2].add(path)
            nodes = self.open[tx][1] | self.open[tx][3]
        if path not in nodes:
            raise Refused("ENOENT")
        return nodes[path]

    def write(self, tx, path, value):
        self.writes += 1
        if self.fault == "refuses" and self.writes % 50 == 0:
            raise Refused("ENOSPC")
        if tx:
            self.open[tx][3][path] = value
        elif self.fault != "forgets" or self.writes < 100:
            self.put(path, value)

    def put(self, path, value):
        self.changes += 1
        self.nodes[path] = value
        self.changed[path] = self.changes

    def end(self, tx):
        since, _, read, writes = self.open.pop(tx)
        if self.fault == "conflicts of siblings" and self.changes > since:
            raise Refused("EAGAIN")
        if self.fault != "lost update" and any(self.changed.get(path, 0) > since for path in read):
            raise Refused("EAGAIN")
        if self.fault == "half a commit" and tx % 50 == 0:
            return
        for path, value in writes.items():
            self.put(path, value)

    def children(self, path):
        below = (p[len(path) + 1 :] for p in self.nodes if p.startswith(path + b"/"))
        return dict.fromkeys(name.split(b"/")[0] for name in below)

    def part(self, path, offset):
        names = b"".join(name + b"\0" for name in self.children(path))
        chunk = names[offset : offset + 4000]
        return b"1\0" + chunk + (b"\0" if offset + len(chunk) >= len(names) else b"")


def run_server(listener, fault, machine=None):
    server = Server(fault, Rings(LIBRARY, machine) if machine else None)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ, None)
    if machine:
        selector.register(server.rings.fd, selectors.EVENT_READ, None)
        recover(server, machine)
    while True:
        for key, _ in selector.select():
            if machine and key.fileobj == server.rings.fd:
                serve_rings(server)
            elif key.data is None:
                selector.register(listener.accept()[0], selectors.EVENT_READ, bytearray())
            else:
                serve_socket(server, selector, key)
            if machine:
                save(server, machine)


def serve_socket(server, selector, key):
    data = key.fileobj.recv(65536)
    if not data:
        selector.unregister(key.fileobj)
        key.fileobj.close()
        return
    key.data.extend(data)
    key.fileobj.sendall(answer_all(server, key.data))


def serve_rings(server):
    domids, has_death = server.rings.take()
    for domid in domids:
        ring = server.rings.rings[domid]
        ring.receive()
        if server.fault == "deaf to one" and domid == 2 and server.is_second:
            continue
        reply = answer_all(server, ring.pending)
        twice = server.fault == "answers twice" and domid == 2 and server.is_second
        server.rings.send(domid, reply * (2 if twice else 1))
    for domid in server.rings.gone() if has_death else ():
        for kind, payload in server.bury(domid):
            frame = struct.pack("=IIII", kind, 0, 0, len(payload)) + payload
            server.rings.send(0, frame)


def state_file(machine):
    return pathlib.Path(machine) / "model"


def save(server, machine):
    new = state_file(machine).with_suffix(".new")
    new.write_bytes(pickle.dumps((server.nodes, server.ports)))
    new.rename(state_file(machine))


def recover(server, machine):
    server.is_second = state_file(machine).exists()
    if not server.is_second:
        return
    server.nodes, server.ports = pickle.loads(state_file(machine).read_bytes())
    if server.fault == "forgets at a restart":
        server.nodes = {path: b"" for path in server.nodes}
    for domid, port in server.ports.items():
        server.rings.introduce(domid, port)


def fork_into(run):
    """The pid of a child that does nothing but `run`, and does not outlive its parent."""
    parent = os.getpid()
    child = os.fork()
    if child != 0:
        return child
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            run()
    finally:
        os._exit(1)


def run_kept(listener, fault, directory, machine):
    """A keeper: starts the model again whenever it dies."""
    while True:
        child = fork_into(lambda: run_server(listener, fault, machine))
        pathlib.Path(directory, "xenstored-server.pid").write_text(str(child))
        os.waitpid(child, 0)


def answer_all(server, pending):
    out = b""
    while len(pending) >= 16:
        op, req, tx, length = struct.unpack("=IIII", pending[:16])
        if len(pending) < 16 + length:
            break
        for kind, payload in server.answer(op, tx, bytes(pending[16 : 16 + length])):
            ids = (0, 0) if kind == WATCH_EVENT else (req, tx)
            out += struct.pack("=IIII", kind, *ids, len(payload)) + payload
        del pending[: 16 + length]
    return out


def run_load(xs_load, fault, arguments, has_machine):
    """Exit status and last line of one xs-load run against a fresh server with `fault`."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        path = os.path.join(directory, "socket")
        machine = os.path.join(directory, "machine") if has_machine else None
        if machine:
            subprocess.run([os.path.join(BIN_DIR, "simxen"), machine, "init"], check=True)
            arguments = ["--machine", machine, *arguments]
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(128)
        if machine:
            child = fork_into(lambda: run_kept(listener, fault, directory, machine))
        else:
            child = fork_into(lambda: run_server(listener, fault))
        listener.close()
        command = [xs_load, "--socket", path, "--warmup", "0.05", "--seconds", "0.3", *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        os.kill(child, 9)
        os.waitpid(child, 0)
    lines = done.stdout.splitlines()
    return done.returncode, json.loads(lines[-1]) if lines else {}


CASES = [  # fault, scenario, exit status, what the line must show
    (None, "read --clients 3 --nodes 5", 0, lambda line: line["ops"] > 0),
    (None, "write --inflight 16 --nodes 20", 0, lambda line: line["ops"] > 0),
    (None, "write --watches 100 --idle 10", 0, lambda line: line["ops"] > 0),
    (None, "rmw", 0, lambda line: line["conflicts"] > 0 and line["ok"]),
    (None, "siblings", 0, lambda line: line["conflicts"] == 0 and line["ok"]),
    (None, "mixed", 0, lambda line: line["events"] > 0),
    (None, "oneshot", 0, lambda line: line["ops"] > 0),
    (None, "insert --nodes 2000 --inflight 8", 0, lambda line: line["to"] == 2000),
    (None, "insert --nodes 2000 --scattered", 0, lambda line: line["nodes_in_tree"] == 2023),
    ("wrong value", "read", 1, lambda line: line["error_names"]["WRONG_REPLY"] > 0),
    ("refuses", "write", 1, lambda line: line["error_names"]["ENOSPC"] > 0),
    ("forgets", "write", 1, lambda line: not line["ok"]),
    ("lost update", "rmw", 1, lambda line: not line["ok"]),
    ("half a commit", "siblings", 1, lambda line: not line["ok"]),
    ("conflicts of siblings", "siblings", 1, lambda line: line["conflicts"] > 0),
]


DEATHS = "deaths --clients 5 --nodes 2"
RESTART = "restart --clients 4 --nodes 40 --kills 3 --pause 0.01"
RING_CASES = [
    (None, "read --clients 3 --nodes 5", 0, lambda line: line["ops"] > 0),
    (None, "write --inflight 16 --nodes 20", 0, lambda line: line["ops"] > 0),
    (None, "read --idle 10", 0, lambda line: line["ops"] > 0),
    (None, "rmw", 0, lambda line: line["conflicts"] > 0 and line["ok"]),
    (None, "rmw-own", 0, lambda line: line["conflicts"] == 0 and line["ok"]),
    (None, "mixed", 0, lambda line: line["events"] > 0),
    (None, DEATHS, 0, lambda line: line["domains_told"] == 5),
    ("knows no depth", DEATHS, 0, lambda line: line["events"] == 5),
    (None, RESTART, 0, lambda line: line["kills"] == 3),
    ("wrong value", "read", 1, lambda line: line["error_names"]["WRONG_REPLY"] > 0),
    ("forgets", "write", 1, lambda line: not line["ok"]),
    ("lost update", "rmw", 1, lambda line: not line["ok"]),
    ("half a commit", "rmw-own", 1, lambda line: not line["ok"]),
    ("tells too little", DEATHS, 1, lambda line: line["domains_told"] == 4),
    ("tells twice", DEATHS, 1, lambda line: line["errors"] == 1),
    ("leaves nodes", DEATHS, 1, lambda line: line["nodes_left"] == 5),
    ("keeps a domain", DEATHS, 1, lambda line: line["still_introduced"] == 1),
    ("forgets at a restart", RESTART, 1, lambda line: line["errors"] > 0),
    ("answers twice", RESTART, 1, lambda line: line["errors"] > 0),
    ("deaf to one", RESTART, 2, lambda line: not line),
]


def check(case, has_machine):
    fault, arguments, status, holds = case
    got, line = run_load(sys.argv[1], fault, ["--scenario", *arguments.split()], has_machine)
    good = got == status and (bool(line) or status == 2) and holds(line)
    where = "rings: " if has_machine else ""
    print("ok  " if good else "FAIL", f"{where}{arguments} (server: {fault or 'honest'})")
    if not good:
        print("     exit status", got, json.dumps(line))
    return good


def main():
    results = [check(case, has_machine=False) for case in CASES]
    results += [check(case, has_machine=True) for case in RING_CASES]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
