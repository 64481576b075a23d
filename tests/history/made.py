# SPDX-License-Identifier: MIT
"""Makes repositories in the format of a daemon's history.git, by stock git fast-import."""

import os
import subprocess

XENSTORED = "xenstored <xenstored@xenstore>"
START_US = 1_763_741_111_123_456


def domain(domid):
    return f"domain {domid} <domain-{domid}@xenstore>"


def client(name, pid, uid=0):
    return f"{name} <pid-{pid}.uid-{uid}@xenstore>"


def _data(content):
    return b"data %d\n%s\n" % (len(content), content)


def _git(path, *command, **options):
    return subprocess.run(["git", "-C", path, *command], check=True, capture_output=True, timeout=60,
                          **options).stdout


class History:
    """A repository in `area`/history.git and, in `tree`, what its newest commit holds."""

    def __init__(self, area):
        self.path = os.path.join(area, "history.git")
        self.tree = {"/": (b"", "n0")}  # of paths: value and permissions
        self.number, self.time_us = 0, START_US
        self.ids = []
        os.makedirs(area, exist_ok=True)
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.path], check=True)
        _git(self.path, "config", "gc.auto", "0")

    def commit(self, author, subject, changes, *, requests=1, body=(), whole=None, after_us=1_000_000):
        """`changes`: paths to None (removed, with all below) or (value, "n0,r3"); ancestors exist.
        Returns the commit's id."""
        first = self.number + 1
        self.number += requests
        if self.ids:
            self.time_us += after_us
        trailers = [f"Xenstore-Entry: {self.number}"]
        if requests > 1:
            trailers.append(f"Xenstore-Entries: {first}-{self.number}")
        trailers.append("Xenstore-Time: %d.%06d" % divmod(self.time_us, 1_000_000))
        if whole:
            trailers.append(f"Xenstore-Whole: {whole}")
        paragraphs = [subject, "\n".join(body), "\n".join(trailers)]
        message = "\n\n".join(filter(None, paragraphs)) + "\n"
        seconds = self.time_us // 1_000_000
        stream = b"commit refs/heads/main\n"
        stream += f"author {author} {seconds} +0000\n".encode()
        stream += f"committer {XENSTORED} {seconds} +0000\n".encode()
        stream += _data(message.encode())
        if self.ids:
            stream += b"from refs/heads/main^0\n"
        else:
            changes = {"/": self.tree["/"], **changes}
        for path, state in changes.items():
            stream += self._change(path, state)
        _git(self.path, "fast-import", "--quiet", "--force", input=stream)
        self.ids.append(_git(self.path, "rev-parse", "main").decode().strip())
        return self.ids[-1]

    def _change(self, path, state):
        folder = path.strip("/") + "/" if path != "/" else ""
        if state is None:
            self.tree = {name: kept for name, kept in self.tree.items()
                         if name != path and not name.startswith(path + "/")}
            return b"D %s\n" % folder.rstrip("/").encode()
        value, perms = state
        self.tree[path] = (value, perms)
        lines = "".join(f"{entry}\n" for entry in perms.split(",")).encode()
        stream = b"M 100644 inline %s.perms\n" % folder.encode() + _data(lines)
        if value:
            return stream + b"M 100644 inline %s.value\n" % folder.encode() + _data(value)
        known = _git(self.path, "ls-tree", "main", f"{folder}.value") if self.ids else b""
        return stream + (b"D %s.value\n" % folder.encode() if known else b"")

    def drop_before(self, commit):
        """What a daemon does with its oldest segment: as if history began with this commit."""
        with open(os.path.join(self.path, "shallow"), "w", encoding="ascii") as file:
            file.write(commit + "\n")
        _git(self.path, "reflog", "expire", "--expire=now", "--all")
        _git(self.path, "repack", "-adfq")
        _git(self.path, "prune", "--expire=now")
