#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Shows that xs-load's checks can fail: runs it against a small model server, once honest and
then with one fault at a time, each of which xs-load has to notice.

usage: selfcheck.py PATH-OF-XS-LOAD
"""

import json
import os
import selectors
import socket
import struct
import subprocess
import sys
import tempfile

DIRECTORY, READ, WATCH, UNWATCH, TRANSACTION_START, TRANSACTION_END = 1, 2, 4, 5, 6, 7
WRITE, RM, WATCH_EVENT, ERROR, DIRECTORY_PART = 11, 13, 15, 16, 22


class Refused(Exception):
    pass


class Server:
    """A dictionary of paths; a transaction conflicts when a node it read has changed since."""

    def __init__(self, fault):
        self.fault = fault
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
            return b"OK\0", payload
        elif op == TRANSACTION_START:
            self.open[self.next_tx] = (self.changes, dict(self.nodes), set(), {})
            self.next_tx += 1
            return (b"%d\0" % (self.next_tx - 1),)
        elif op == TRANSACTION_END:
            self.end(tx)
        return (b"OK\0",)

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
        if self.fault == "half a commit" and self.next_tx % 50 == 0:
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


def run_server(listener, fault):
    server = Server(fault)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ, None)
    while True:
        for key, _ in selector.select():
            if key.data is None:
                selector.register(listener.accept()[0], selectors.EVENT_READ, bytearray())
                continue
            data = key.fileobj.recv(65536)
            if not data:
                selector.unregister(key.fileobj)
                key.fileobj.close()
                continue
            key.data.extend(data)
            key.fileobj.sendall(answer_all(server, key.data))


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


def run_load(xs_load, fault, arguments):
    """Exit status and last line of one xs-load run against a fresh server with `fault`."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "socket")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(128)
        child = os.fork()
        if child == 0:
            run_server(listener, fault)
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


def main():
    failed = 0
    for fault, arguments, status, holds in CASES:
        got, line = run_load(sys.argv[1], fault, ["--scenario", *arguments.split()])
        good = got == status and bool(line) and holds(line)
        failed += not good
        print("ok  " if good else "FAIL", f"{arguments} (server: {fault or 'honest'})")
        if not good:
            print("     exit status", got, json.dumps(line))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
