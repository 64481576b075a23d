# SPDX-License-Identifier: MIT
"""The stand-in hypervisor for Python tests: machines and bridges (see README.md)."""

import os
import socket
import subprocess
import time

BIN_DIR = os.environ.get(
    "XENSTORED_BIN_DIR",
    os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../build/release/bin"))
PRELOAD = os.path.join(BIN_DIR, "../lib/libsimxen.so")


class Machine:
    """A machine in a directory, which must be on tmpfs; made if it is not there."""

    def __init__(self, directory):
        self.directory = directory
        if not os.path.exists(os.path.join(directory, "machine")):
            self._control("init")

    def _control(self, command, *arguments):
        return subprocess.run(
            [os.path.join(BIN_DIR, "simxen"), self.directory, command,
             *(str(argument) for argument in arguments)],
            check=True, stdout=subprocess.PIPE, text=True).stdout

    def environment(self, base=None):
        """What a daemon is started with to run on this machine."""
        return {**(os.environ if base is None else base),
                "SIMXEN": self.directory,
                "LD_PRELOAD": PRELOAD,
                "ASAN_OPTIONS": "verify_asan_link_order=0"}

    def create(self, domid, uuid=None):
        """Returns the frame number and the port, as INTRODUCE wants them."""
        gfn, port = self._control("create", domid, *([uuid] if uuid else [])).split()
        return int(gfn), int(port)

    def destroy(self, *domids):
        self._control("destroy", *domids)

    def shut_down(self, domid, reason=0):
        self._control("shutdown", domid, reason)

    def resume(self, domid):
        self._control("resume", domid)

    def start_dying(self, domid):
        self._control("dying", domid)

    def fail_map(self, domid, fails):
        self._control("fail-map", domid, "on" if fails else "off")

    def ports(self):
        """{domid: "free", "unbound" or "interdomain"}"""
        return {int(domid): state
                for domid, state in (line.split() for line in self._control("list").splitlines())}


class Bridge:
    """A simxen-bridge; end it with stop(), or by `with`."""

    def __init__(self, machine, path, domid=None):
        arguments = [os.path.join(BIN_DIR, "simxen-bridge"), machine.directory, path]
        if domid is not None:
            arguments += ["--domid", str(domid)]
        self.process = subprocess.Popen(arguments)

    def stop(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def start_bridge(machine, path, domid=None, timeout=10):
    """Starts a bridge that listens at `path` when this returns."""
    if os.path.exists(path):
        os.unlink(path)
    bridge = Bridge(machine, path, domid)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and bridge.process.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe:
            if os.path.exists(path) and probe.connect_ex(path) == 0:
                return bridge
        time.sleep(0.005)
    bridge.stop()
    raise RuntimeError("no bridge at " + path)
