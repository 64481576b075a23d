# SPDX-License-Identifier: MIT
"""What the tests of xs-inspect share."""

import hashlib
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/support"))
import xs  # noqa: E402

INSPECT = os.path.join(xs.BIN, "xs-inspect")


def inspect(*options, stdin=""):
    """The finished process; its output is text."""
    return subprocess.run([INSPECT, *options], input=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=100, check=False)


def as_json(*options):
    result = inspect("--json", *options)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def digest(folder):
    """Of every file in a folder, by its name."""
    digests = {}
    for where, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(where, name), "rb") as file:
                digests[os.path.join(where, name)] = hashlib.sha256(file.read()).hexdigest()
    return digests


def socket_of(daemon):
    return os.path.join(daemon.rundir, "socket")


def area_of(daemon):
    return os.path.join(daemon.rundir, "area")


def write(client, path, value=b"", perms=None):
    assert client.call(xs.WRITE, path.encode() + b"\0" + value) == b"OK\0"
    if perms:
        payload = "\0".join([path, *perms.split(","), ""]).encode()
        assert client.call(xs.SET_PERMS, payload) == b"OK\0"
