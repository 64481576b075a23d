# SPDX-License-Identifier: MIT
"""What these tests share: a daemon under a keeper, its processes one by one, and clients that note
what their connection brings."""

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from contextlib import closing

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "badluck"))
from box import (Box, HostedBox, alive, children, eventually, kill_server, open_fds,  # noqa: E402
                 read, read_pid, read_text, write, xs)

SEED = int(os.environ.get("CLIENTS_SEED", str(random.randrange(2**32))))
# "read(4<pipe:[77]>, "\1", 1) = 1"; other lines tell of signals.
CALL = re.compile(r"^(?P<name>[a-z_0-9]+)\((?P<arguments>.*)\)\s+= (?P<result>\S+)")
NEVER_IN_A_HURRY = "--sure-rate=1000000"  # no kept client may be closed, however much they ask
KEPT_AFTER = 0.25  # seconds after which a connection is kept, whatever it does


def say_seed():
    """To be called first, so that a failure can be tried again."""
    print(f"CLIENTS_SEED={SEED}", file=sys.stderr)
    return random.Random(SEED)


def wait_until_kept():
    """Twice as long as a connection must be old, and more than a turn."""
    time.sleep(2 * KEPT_AFTER)


class Kept:
    """Goes before a kind of Box: what is asked of one with a keeper."""

    def keeper_pid(self):
        return read_pid(self.pid_file)

    def kill(self):
        """kill -9 of the server, as soon as one has said its pid; returns that."""
        eventually(lambda: alive(self.server_pid()), "a server")
        return kill_server(self)

    def kill_child(self):
        """kill -9 of the keeper's child, whether it serves already or was only just started."""
        def killed():
            try:
                for pid in children(self.keeper_pid()):
                    os.kill(pid, signal.SIGKILL)
                    return True
            except ProcessLookupError:
                pass
            return False
        eventually(killed, "a child to kill")

    def suspend_server(self):
        """It does nothing until `resume_server`."""
        os.kill(self.server_pid(), signal.SIGSTOP)
        self.wait_until_stopped(self.server_pid())

    def resume_server(self):
        os.kill(self.server_pid(), signal.SIGCONT)

    def wait_until_stopped(self, pid):
        eventually(lambda: read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()[0] == "T",
                   f"process {pid} to stop")

    def inspect(self):
        """What the daemon knows of its clients, without the one that asks."""
        command = [os.path.join(xs.BIN, "xs-inspect"), "--json",
                   "--socket", os.path.join(self.rundir, "socket")]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def wait_until_all_kept(self):
        """All who are connected now; when each is old enough the machine decides as well."""
        wait_until_kept()

        def young():
            return [one for one in self.inspect()["connections"]
                    if not one["is_domain"] and not one["kept"]]
        if "--close-clients" not in self.options:
            eventually(lambda: len(young()) <= 1, "that all are kept but the one that asks")

    def watches(self):
        """Paths of all sockets' watches, sorted."""
        document = self.inspect()
        sockets = {one["conn"] for one in document["connections"] if not one["is_domain"]}
        return sorted(one["path"] for one in document["watches"] if one["conn"] in sockets)

    def write_once(self, path, value):
        """Writes from a connection of its own. If a kill closes that, whether the write was done
        is looked up, and if not, it is done again; so `value` must be new at `path`."""
        for attempt in range(100):
            try:
                with closing(xs.Client(self.rundir)) as client:
                    if attempt and read(client, path) == value:
                        return
                    answer = write(client, path, value)
                    assert answer == b"OK\0", answer
                    return
            except (xs.Closed, BrokenPipeError, ConnectionResetError):
                pass
        raise AssertionError("closed 100 times on end")


class KeptBox(Kept, Box):
    """On its socket only."""

    def __init__(self, *options, mode=("-D", "-N", "--supervise"), **rest):
        super().__init__(NEVER_IN_A_HURRY, *options, mode=mode, **rest)


class HostedKeptBox(Kept, HostedBox):
    """With rings."""

    def __init__(self, *options, **rest):
        super().__init__("--supervise", NEVER_IN_A_HURRY, *options, **rest)

    def guest(self, domid):
        """A client on the ring of a domain, which is made and introduced; whatever it may write
        must be given to it."""
        with closing(xs.Client(self.rundir)) as toolstack:
            ring = b"%d\0%d\0%d\0" % (domid, *self.machine.ring_of(domid))
            assert toolstack.call(xs.INTRODUCE, ring) == b"OK\0"
        return self.client(domid)


class Trace:
    """strace of one process, without its children, into a file."""

    def __init__(self, pid, path):
        self.path = path
        # -y tells which socket a descriptor is.
        self.process = subprocess.Popen(["strace", "-y", "-o", path, "-p", str(pid)],
                                        stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        if "attached" not in line:
            self.stop()
            raise AssertionError(f"strace cannot look at {pid}: {line}")

    def stop(self):
        """Leaves the process to itself."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=10)

    def calls(self):
        """All that were seen from beginning to end, as matches of CALL."""
        return [call for call in map(CALL.match, read_text(self.path).splitlines()) if call]


class RawClient(xs.Client):
    """One that also takes bytes as they come."""

    def receive(self, count):
        """At least one byte, at most `count`."""
        if not self.pending:
            data = self.sock.recv(count)
            if not data:
                raise xs.Closed()
            return data
        data, self.pending = self.pending[:count], self.pending[count:]
        return data


def watch(client, path, token=b"token"):
    """Sets a watch and takes its first event."""
    answer = client.call(xs.WATCH, path.encode() + b"\0" + token + b"\0", events=[])
    assert answer == b"OK\0", answer
    assert next_event(client) == path, "the first event"


def next_event(client):
    """The path of the next event; AssertionError if it is something else, or does not come."""
    try:
        op, _, _, payload = client.recv()
    except TimeoutError as error:
        raise AssertionError("no event comes") from error
    assert op == xs.WATCH_EVENT, f"a message of type {op} in place of an event"
    return payload.split(b"\0")[0].decode()


def start_transaction(client, events=None):
    return int(client.call(xs.TRANSACTION_START, b"\0", events=events)[:-1])


def sees_end(client, seconds=10):
    """True once the connection has been closed; AssertionError if it is silent. What was sent
    before is passed over."""
    client.sock.settimeout(seconds)
    try:
        while True:
            client.recv()
    except xs.Closed:
        return True
    except TimeoutError as error:
        raise AssertionError("silence in place of an end") from error


def sockets_of(pid):
    """The inodes of the sockets that a process holds, with their descriptors."""
    found = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue  # closed since
        if target.startswith("socket:["):
            found[int(target[8:-1])] = int(fd)
    return found


def prlimit(pid, soft, hard=None):
    """Sets a process's limit of descriptors; returns what it was."""
    old = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard or old[1]))
    return old
