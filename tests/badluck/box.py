# SPDX-License-Identifier: MIT
"""What the bad-luck tests share: a daemon under test whose log, pid file and processes can be
looked at, and helpers to wait, to dump a tree and to read /proc."""

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import xs  # noqa: E402

SECONDS = 10  # nothing that a daemon does here may take longer


def eventually(condition, what, seconds=SECONDS):
    """Polls until `condition()` is true and returns its value; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.002)


def read_text(path):
    """The file's text, or "" while there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):  # the latter: of a process that ends just now
        return ""


def read_pid(path):
    """The process id a pid file holds, or None while it holds none."""
    text = read_text(path).strip()
    return int(text) if text.isdigit() else None


def alive(pid):
    """True while the process runs (a zombie does not)."""
    state = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return bool(state) and state[0] not in "ZX"


def cpu_seconds(pid):
    """User and system time of the process so far."""
    fields = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def children(pid):
    return [int(child) for child in read_text(f"/proc/{pid}/task/{pid}/children").split()]


def write(client, path, value, tx=0):
    return client.call(xs.WRITE, path.encode() + b"\0" + value, tx)


def read(client, path, tx=0):
    return client.call(xs.READ, path.encode() + b"\0", tx)


def tree(client, path="/"):
    """All nodes from `path` down as {path: (value, perms, children in order)}."""
    nodes, todo = {}, [path]
    while todo:
        here = todo.pop()
        wire = here.encode() + b"\0"
        answers = [client.call(op, wire) for op in (xs.READ, xs.GET_PERMS, xs.DIRECTORY)]
        for answer in answers:
            assert isinstance(answer, bytes), f"{here}: {answer}"
        names = answers[2].decode().split("\0")[:-1]
        nodes[here] = (answers[0], answers[1], tuple(names))
        todo += [here.rstrip("/") + "/" + name for name in names]
    return nodes


def kill_server(box):
    """kill -9 of the serving process; returns once it is dead."""
    pid = box.server_pid()
    handle = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        assert select.select([handle], [], [], 10)[0], "SIGKILL does not kill"
    finally:
        os.close(handle)
    return pid


class Box(xs.Daemon):
    """A daemon on a private directory; `mode` is what xs.Daemon always passes, `prefix` a command
    that execs it (unshare and the like)."""

    def __init__(self, *options, mode=("-D", "-N"), prefix=(), **rest):
        super().__init__(*options, **rest)
        self.mode, self.prefix, self.clients = mode, prefix, []
        self.area = os.path.join(self.rundir, "area")
        self.pid_file = os.path.join(self.rundir, "test.pid")
        self.log_file = os.path.join(self.rundir, "test.log")
        self.server_pid_file = os.path.join(self.rundir, "xenstored-server.pid")

    def command(self):
        return [*self.prefix, os.path.join(xs.BIN, self.binary), *self.mode,
                "--pid-file", self.pid_file, *self.options]

    def environment(self):
        return {**os.environ, "XENSTORED_RUNDIR": self.rundir, **self.env}

    def start(self, wait=True, **popen):
        """Starts it in the background; what it prints goes to the log file."""
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                self.command(), env=self.environment(), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, **popen)
        if wait:
            try:
                self.wait_serving(SECONDS)
            except (OSError, xs.Closed) as error:
                raise AssertionError(f"does not serve: {error!r}; status {self.process.poll()}; "
                                     f"log:\n{self.log()}") from error
        return self

    def wait_serving(self, seconds=SECONDS):
        """Waits for an answer to a new client, as long as the process that was started lives."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                with closing(xs.Client(self.rundir)) as client:
                    client.call(xs.READ, b"/\0")
                    return
            except (OSError, xs.Closed):
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.002)

    def client(self, domid=None):
        """A new connection; the box closes it at its end if the test has not."""
        self.clients.append(xs.Client(self.rundir, domid))
        return self.clients[-1]

    def run(self, **popen):
        """Runs the command to its end and returns it with its output: for starts that are to fail
        and for the daemonising ones."""
        return subprocess.run(
            self.command(), env=self.environment(), stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS, check=False, **popen)

    def log(self):
        return read_text(self.log_file)

    def warnings(self, *words):
        """Log lines at warning level that hold all the words (in any case)."""
        return [line for line in self.log().splitlines()
                if all(word in line.lower() for word in ("warn", *words))]

    def server_pid(self):
        """The serving process under a keeper."""
        return read_pid(self.server_pid_file)

    def next_server_pid(self, dead):
        """Waits for a server other than `dead`."""
        return eventually(lambda: self.server_pid() not in (None, dead) and self.server_pid(),
                          f"a server after {dead}")

    def processes(self):
        """Every process of this box: each carries the private directory in its environment."""
        mark, found = f"XENSTORED_RUNDIR={self.rundir}\0".encode(), []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if mark in file.read() + b"\0" and alive(name):
                        found.append(int(name))
            except OSError:
                pass  # it has ended
        return found

    def kill_all(self):
        """kill -9 of everything this box started; the keeper goes before it can restart."""
        killed = set()

        def none_left():
            for pid in sorted(self.processes()):
                killed.add(pid)
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            return not any(map(alive, killed)) and not self.processes()
        eventually(none_left, "the end of all processes")
        if self.process is not None:
            self.process.wait(SECONDS)

    def stop(self):
        for client in self.clients:
            client.close()
        try:
            self.kill_all()
        finally:
            if self.own_dir:
                shutil.rmtree(self.rundir, ignore_errors=True)


class HostedBox(xs.OnMachine, Box):
    """A box on a stand-in machine, with guests."""

    def __init__(self, *options, **rest):
        super().__init__(*options, mode=("-N",), **rest)
