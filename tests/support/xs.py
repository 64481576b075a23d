# SPDX-License-Identifier: MIT
"""A plain, blocking xenstore client, a daemon under test and the machine it runs on, for Python
tests."""

import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "simxen"))
import simxen  # noqa: E402

CONTROL, DIRECTORY, READ, GET_PERMS, WATCH, UNWATCH = 0, 1, 2, 3, 4, 5
TRANSACTION_START, TRANSACTION_END, INTRODUCE, RELEASE, GET_DOMAIN_PATH = 6, 7, 8, 9, 10
WRITE, MKDIR, RM, SET_PERMS, WATCH_EVENT, ERROR = 11, 12, 13, 14, 15, 16
IS_DOMAIN_INTRODUCED, RESUME, SET_TARGET, RESTRICT, RESET_WATCHES = 17, 18, 19, 20, 21
DIRECTORY_PART, GET_FEATURE, SET_FEATURE, GET_QUOTA, SET_QUOTA = 22, 23, 24, 25, 26

BIN = os.environ.get("XENSTORED_BIN_DIR", "build/release/bin")
C_XENSTORED = "/usr/lib/xen-4.17/bin/xenstored"


class Closed(Exception):
    """The server closed this connection."""


class Client:
    """One connection; `domid` None is a privileged socket client, else a guest's."""

    def __init__(self, rundir, domid=None, timeout=10):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Waits for room in the backlog, which is 1 at C xenstored's; with a timeout of Python's it
        # would not.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", timeout, 0))
        try:
            self.sock.connect(os.path.join(rundir, "socket" if domid is None else "guests"))
        except OSError:
            self.sock.close()
            raise
        self.sock.settimeout(timeout)
        if domid is not None:
            self.sock.sendall(struct.pack("<H", domid))
        self.pending = b""

    def close(self):
        self.sock.close()

    def send(self, op, payload=b"", tx=0, req=0):
        self.sock.sendall(struct.pack("=IIII", op, req, tx, len(payload)) + payload)

    def send_raw(self, data):
        self.sock.sendall(data)

    def _take(self, count):
        while len(self.pending) < count:
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError as error:
                raise Closed() from error
            if not data:
                raise Closed()
            self.pending += data
        taken, self.pending = self.pending[:count], self.pending[count:]
        return taken

    def recv(self):
        """Next frame as (type, req_id, tx_id, payload); raises Closed or socket.timeout."""
        op, req, tx, length = struct.unpack("=IIII", self._take(16))
        return op, req, tx, self._take(length)

    def quiet(self, seconds=0.0):
        """True if nothing is waiting to be read (after at most `seconds`)."""
        return not self.pending and not select.select([self.sock], [], [], seconds)[0]

    def call(self, op, payload=b"", tx=0, events=None):
        """Sends one request; returns the reply's payload, or the error's name as a str.

        Watch events that come first are appended to `events` (when given) as payloads."""
        self.send(op, payload, tx)
        while True:
            got, _, _, data = self.recv()
            if got == WATCH_EVENT:
                if events is not None:
                    events.append(data)
                continue
            if got == ERROR:
                return data.rstrip(b"\0").decode()
            assert got == op, f"reply of type {got} to request {op}"
            return data


class Machine(simxen.Machine):
    """A stand-in machine that remembers the rings of its domains."""

    def __init__(self, directory):
        super().__init__(directory)
        self.rings = {}

    def create(self, domid, uuid=None):
        self.rings[int(domid)] = super().create(domid, uuid)
        return self.rings[int(domid)]

    def destroy(self, *domids):
        super().destroy(*domids)
        for domid in domids:
            self.rings.pop(int(domid), None)

    def ring_of(self, domid):
        """(frame number, port) as INTRODUCE wants them; makes the domain if there is none."""
        return self.rings.get(domid) or self.create(domid)

    def act(self, words):
        """What `simxen` does when that is its command line: "shutdown 3"."""
        command, *rest = words.split()
        if command == "create":
            self.create(*rest)
        elif command == "destroy":
            self.destroy(*rest)
        else:
            self._control(command, *rest)

    def environment(self, base=None):
        """What a daemon is started with to run on this machine."""
        asan = os.environ.get("ASAN_OPTIONS", "")
        made = super().environment(base)
        return {**made, "ASAN_OPTIONS": ":".join(filter(None, [asan, made["ASAN_OPTIONS"]]))}


class Daemon:
    """A daemon of ours on a private directory on tmpfs. It serves sockets only."""

    def __init__(self, *options, binary="xenstored", rundir=None, env=None):
        self.own_dir = rundir is None
        self.rundir = rundir or tempfile.mkdtemp(prefix="xs.", dir="/dev/shm")
        self.binary, self.options, self.env = binary, list(options), env or {}
        self.process = None

    def start(self, wait=True, **popen):
        env = {**os.environ, "XENSTORED_RUNDIR": self.rundir, **self.env}
        self.process = subprocess.Popen(self.command(), env=env, **popen)
        if wait:
            self.wait_serving()
        return self

    def command(self):
        return [os.path.join(BIN, self.binary), "-D", "-N", *self.options]

    def wait_serving(self, seconds=10):
        deadline = time.monotonic() + seconds
        while True:
            try:
                client = Client(self.rundir)
                client.call(READ, b"/\0")
                client.close()
                return
            except (OSError, Closed):
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.005)

    def client(self, domid=None):
        return Client(self.rundir, domid)

    def kill(self):
        """kill -9 and reap the process this object started."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        if self.own_dir:
            shutil.rmtree(self.rundir, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


class OnMachine:
    """Goes before Daemon or a class made of it: a machine of the daemon's own, and guests' clients,
    who come to their rings by a bridge."""

    def __init__(self, *options, **rest):
        super().__init__(*options, **rest)
        self.bridge = None
        self.machine = Machine(os.path.join(self.rundir, "machine"))
        self.env = {**self.machine.environment({}), **self.env}

    def client(self, domid=None):
        if domid is not None and self.bridge is None:
            self.bridge = simxen.start_bridge(self.machine, os.path.join(self.rundir, "guests"))
        return super().client(domid)

    def stop_bridge(self):
        """Nothing of what its clients sent is put into a ring after this."""
        if self.bridge is not None:
            self.bridge.stop()
            self.bridge = None

    def stop(self):
        self.stop_bridge()
        super().stop()


class HostedDaemon(OnMachine, Daemon):
    """`peer`: "ours", or "c" for Debian's xenstored 4.17. What either prints is in `log_file`,
    unless start is told otherwise."""

    def __init__(self, *options, peer="ours", **rest):
        super().__init__(*options, **rest)
        self.peer, self.log_file = peer, os.path.join(self.rundir, "log")

    def command(self):
        program = os.path.join(BIN, self.binary) if self.peer == "ours" else C_XENSTORED
        return [program, "-N", *self.options]

    def start(self, wait=True, **popen):
        with open(self.log_file, "ab") as log:
            return super().start(wait, **{"stdout": log, "stderr": log, **popen})
