# SPDX-License-Identifier: MIT
"""One domain's ring page, byte by byte, for guests with manners of their own.

The layout is xs_wire.h's. Events are sent by ring-notify; arriving ones are not waited for, the
page is looked at instead."""

import ctypes
import mmap
import os
import struct
import subprocess
import time

from script import xs

REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD = 2048, 2052, 2056, 2060
FEATURES, CONNECTION, ERROR = 2064, 2068, 2072
SIZE = 1024


class Notifier:
    """Sends events as the guests of a machine."""

    def __init__(self, machine):
        self.process = subprocess.Popen(
            [os.path.join(xs.BIN, "ring-notify"), machine.directory],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def notify(self, domid):
        self.process.stdin.write(b"%d\n" % domid)
        self.process.stdin.flush()
        self.process.stdout.readline()

    def stop(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Ring:
    """The ring of a domain, whom no bridge may serve at the same time."""

    def __init__(self, machine, notifier, domid):
        self.notifier, self.domid = notifier, domid
        life = machine.ring_of(domid)[0] - 0x10000
        with open(os.path.join(machine.directory, f"page-{life}"), "r+b") as file:
            self.page = mmap.mmap(file.fileno(), 0)
        # Whole words: struct would store them byte by byte, and a daemon might see half an index.
        self.fields = {at: ctypes.c_uint32.from_buffer(self.page, at)
                       for at in range(REQ_CONS, ERROR + 4, 4)}
        self.stream = b""

    def get(self, field):
        return self.fields[field].value

    def set(self, field, value):
        self.fields[field].value = value % 2**32

    def indices(self):
        return tuple(self.get(field) for field in (REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD))

    def notify(self):
        self.notifier.notify(self.domid)

    def put(self, data, notify=True):
        """Adds `data`, all at once, which must fit."""
        produced, used = self.get(REQ_PROD), (self.get(REQ_PROD) - self.get(REQ_CONS)) % 2**32
        assert used + len(data) <= SIZE, f"{used} bytes of {SIZE} are in use"
        for at, byte in enumerate(data, produced):
            self.page[at % SIZE] = byte
        self.set(REQ_PROD, produced + len(data))
        if notify:
            self.notify()

    def take(self):
        """Takes what is in the reply ring into `stream`."""
        consumed, produced = self.get(RSP_CONS), self.get(RSP_PROD)
        for at in range(consumed, consumed + (produced - consumed) % 2**32):
            self.stream += self.page[SIZE + at % SIZE:SIZE + at % SIZE + 1]
        self.set(RSP_CONS, produced)
        if consumed != produced:
            self.notify()

    def frames(self, count, seconds=10):
        """The next `count` messages: (type, req_id, tx_id, payload)."""
        found, deadline = [], time.monotonic() + seconds
        while len(found) < count:
            self.take()
            while len(found) < count and len(self.stream) >= 16:
                op, req, tx, length = struct.unpack_from("=4I", self.stream)
                if len(self.stream) < 16 + length:
                    break
                found.append((op, req, tx, self.stream[16:16 + length]))
                self.stream = self.stream[16 + length:]
            assert time.monotonic() < deadline, f"only {found} after {seconds} s"
        return found

    def call(self, op, payload, tx=0):
        """One request and its reply's payload, or the error's name; events are dropped."""
        self.put(struct.pack("=4I", op, 7, tx, len(payload)) + payload)
        while True:
            got, _, _, data = self.frames(1)[0]
            if got != xs.WATCH_EVENT:
                return data[:-1].decode() if got == xs.ERROR else data

    def wait(self, field, value, seconds=10):
        """Until a field of the page has this value."""
        deadline = time.monotonic() + seconds
        while self.get(field) != value:
            assert time.monotonic() < deadline, f"{field} is {self.get(field)}, not {value}"
            time.sleep(0.001)
