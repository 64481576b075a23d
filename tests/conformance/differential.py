#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Random sessions, played to our daemon and to Debian's C xenstored 4.17 at the same time.

Each daemon has a machine of its own. After every step, each reply and each connection's events
must be the same on both, and now and then the whole tree with its permissions. What may differ is
said in `_excuse` and in `Session._end`, with a reason from differences.py each.

    differential.py --seconds 600 --seed 1     # sessions 1, 2, ... for ten minutes
    differential.py --replay FILE              # one that failed, again
    differential.py --selftest                 # are planted differences found?

A session that fails is made shorter, as long as it still fails, and written to a file.
"""

import argparse
import collections
import json
import random
import re
import sys
import tempfile
import time

import differences
from script import World, shown

# Small, so that they are hit. Not transaction-nodes: for 4.17 the ancestors of a missing node
# count.
OPTIONS = ("-E", "14", "-W", "5", "-t", "3", "-S", "160", "-A", "4")
DOMIDS = (3, 5, 7)
SOCKETS = ("s", "s2", "s3")
STEPS = 300
UNKNOWN = 0x7fff0000
SPARE = 99  # a domain that nobody is told of
# Of no concern to the transaction in which they are asked.
NOT_TRANSACTED = ("WATCH", "UNWATCH", "IS_INTRODUCED", "SET_TARGET", "RESUME", "SET_PERMS @")


class Mismatch(Exception):
    """The two daemons did not do the same."""


# What a session is made of. A step is a list, so that it can be written as JSON:
#   ["request", who, transaction or None, "OP payload"], ["end", who, transaction, "T" or "F"],
#   ["x", "shutdown 3"], ["close", who], ["tree"],
#   ["kill", microseconds, guest, transaction or None, "OP payload"], ["down", "shutdown 3"]


class Author:
    """Makes up a session. It knows only roughly what state the daemons are in."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.alive = set()
        self.open = []  # (who, transaction)
        self.started = 0

    def session(self):
        steps = []
        for domid in DOMIDS[:2]:
            steps += self.new_domain(domid)
        while len(steps) < STEPS:
            steps += self.some_steps()
        return steps + [["tree"]]

    def pick(self, *weighted):
        return self.chance.choices([what for _, what in weighted],
                                   [weight for weight, _ in weighted])[0]

    def who(self):
        guests = [f"g{domid}" for domid in sorted(self.alive)]
        return self.chance.choice([*SOCKETS, *guests, *guests])

    def some_steps(self):
        kind = self.pick((60, self.request), (10, self.transaction), (18, self.in_transaction),
                         (5, self.end), (4, self.domain), (1, self.close), (2, self.tree),
                         (1, self.kill))
        return kind()

    def path(self):
        domid = self.chance.choice((0, *DOMIDS, 9))
        names = ("a", "b", "a/b", "a/b/c", "d", "d/a", "long-name-to-fill-a-directory", "x/y")
        name = self.chance.choice(names)
        return self.pick((6, f"/{name}"), (5, name), (5, f"/local/domain/{domid}/{name}"),
                         (2, f"/local/domain/{domid}"), (1, "/"), (1, "/tool"), (1, "/local"),
                         (1, self.chance.choice(("/a.b", "//", "/a/", "", "/a//b", "x y", "/-_@",
                                                 "@foo", "@releaseDomain", "@introduceDomain"))))

    def perms(self, domids):
        count = self.pick((5, 1), (5, 2), (3, 3), (1, 4), (1, 5), (1, 6))
        return "".join(f"{self.chance.choice('nrwb')}{self.chance.choice(domids)}|"
                       for _ in range(count))

    def value(self):
        return "v" * self.pick((6, self.chance.randrange(4)), (1, 120), (1, 127), (1, 128),
                               (1, 200)) + self.chance.choice(("", "|", "x"))

    def watched(self):
        return self.pick((10, self.path()), (2, "@releaseDomain"), (2, "@introduceDomain"))

    def text(self, domids):
        """One request that any client may make, with rights for these domains."""
        path, token, perms = self.path(), self.chance.choice("tu"), self.perms(domids)
        return self.pick(
            (10, f"READ {path}|"), (14, f"WRITE {path}|{self.value()}"), (6, f"MKDIR {path}|"),
            (8, f"RM {path}|"), (5, f"DIRECTORY {path}|"), (5, f"GET_PERMS {path}|"),
            (10, f"SET_PERMS {path}|{perms}"), (2, f"PART {path}|{self.chance.randrange(9)}|"),
            (9, f"WATCH {self.watched()}|{token}|"), (5, f"UNWATCH {self.watched()}|{token}|"),
            (1, "RESET_WATCHES |"), (1, f"GET_DOMAIN_PATH {self.chance.randrange(20)}|"),
            (2, f"SET_PERMS @{self.chance.choice(('releaseDomain', 'introduceDomain'))}|"
                f"{perms}"),
            (1, f"IS_INTRODUCED {self.chance.choice((*DOMIDS, 9))}|"),
            (1, f"SET_TARGET {self.chance.choice(DOMIDS)}|{self.chance.choice(DOMIDS)}|"),
            (1, f"RESUME {self.chance.choice(DOMIDS)}|"))

    def request(self):
        return [["request", *self.asks(self.who(), None)]]

    def asks(self, who, name):
        """A request of that client, with the transaction's name.

        Which domains there are is no part of a transaction's snapshot: inside, rights are only
        given to those that are there as long as the transaction is, or never."""
        domids = (0, 0, *DOMIDS, 9)
        if name:
            domids = (0, 0, 9, int(who[1:]) if who[0] == "g" else 0)
        while True:
            text = self.text(domids)
            # 4.17's errors for special names are unreliable.
            is_special = re.match("SET_PERMS @foo|GET_PERMS @" if who[0] == "s" else
                                  "[GS]ET_PERMS @", text)
            is_end_of_all = re.match(r"SET_PERMS /\|.[^0]", text)  # 4.17 removes / with its owner
            if not is_end_of_all and not is_special:
                return who, name, text

    def transaction(self):
        who, self.started = self.who(), self.started + 1
        self.open.append((who, f"t{self.started}"))
        return [["start", *self.open[-1]]]

    def in_transaction(self):
        if not self.open:
            return self.transaction()
        who, name = self.chance.choice(self.open)
        if self.chance.random() < 0.02:
            who = self.who()  # another's transaction, perhaps
        return [["request", *self.asks(who, name)]]

    def end(self):
        if not self.open:
            return []
        who, name = self.open.pop(self.chance.randrange(len(self.open)))
        return [["end", who, name, self.pick((4, "T"), (1, "F"))]]

    def new_domain(self, domid):
        self.alive.add(domid)
        home = f"/local/domain/{domid}"
        return [["request", "s", None, request] for request in
                (f"INTRODUCE ${domid}|", f"MKDIR {home}|", f"SET_PERMS {home}|n{domid}|")]

    def domain(self):
        domid = self.chance.choice(DOMIDS)
        if domid not in self.alive:
            return self.new_domain(domid)
        self.alive.discard(domid)
        again = [["request", "s", None, f"INTRODUCE ${domid}|"]]
        ends = self.pick(
            (2, [["x", f"shutdown {domid}"]]),
            (1, [["x", f"shutdown {domid}"], ["request", "s", None, f"RESUME {domid}|"],
                 ["x", f"resume {domid}"]]),
            (2, [["request", "s", None, f"RELEASE {domid}|"]]),
            (2, [["x", f"destroy {domid}"]]),
            (1, [["request", "s", None, f"RELEASE {domid}|"], ["x", f"destroy {domid}"]]),
            (1, [["x", f"shutdown {domid}"], ["x", f"destroy {domid}"]]),
            (1, [["x", f"dying {domid}"], ["x", f"destroy {domid}"]]),
            (2, again))
        if ends is again or ends[0][1] == f"shutdown {domid}" and len(ends) != 2:
            self.alive.add(domid)
        if self.chance.random() < 0.1:
            return [["down", *step[1:]] if step[0] == "x" else step for step in ends]
        return ends

    def close(self):
        who = self.chance.choice(SOCKETS[1:])
        self.open = [entry for entry in self.open if entry[0] != who]
        return [["close", who]]

    def kill(self):
        """Our daemon is killed while it serves a guest's request; the sockets' transactions go."""
        self.open = [entry for entry in self.open if entry[0][0] == "g"]
        guests = [f"g{domid}" for domid in sorted(self.alive)]
        if not guests:
            return []
        who, name = self.chance.choice(guests), None
        if self.open and self.chance.random() < 0.3:
            who, name = self.chance.choice(self.open)
        return [["kill", self.chance.randrange(400), *self.asks(who, name)]]

    @staticmethod
    def tree():
        return [["tree"]]


class Transaction:
    """What was asked and answered in one, as long as it may be needed again."""

    def __init__(self, who):
        self.who, self.log, self.differs, self.deaths = who, [], False, 0
        self.is_doomed = False


class Session:
    """Two worlds and what happens in them."""

    def __init__(self, options, planted=None):
        self.worlds = [World(options.get(peer, OPTIONS), peer=peer) for peer in ("ours", "c")]
        self.planted = planted
        self.transactions = {}  # by connection and our id
        self.ids = {}  # the two ids of a named transaction
        self.targets = collections.defaultdict(set)  # all that were a stub domain's, in its life
        self.excused = collections.Counter()

    def __enter__(self):
        for world in self.worlds:
            world.__enter__()
            for who in SOCKETS:
                world.client(who)
        return self

    def __exit__(self, *_):
        for world in self.worlds:
            world.__exit__()

    def play(self, steps):
        """Plays all; raises Mismatch with the number of the step."""
        for number, step in enumerate(steps):
            try:
                getattr(self, f"_{step[0]}")(*step[1:])
            except Mismatch as mismatch:
                raise Mismatch(f"step {number}: {step}\n{mismatch}") from None
            for world in self.worlds:
                if not world.alive():
                    raise Mismatch(f"step {number}: {step}\n  {world.peer} died")

    # The steps.

    def _request(self, who, name, request):
        if self._is_away(who):
            return
        ids = self._ids(who, name)
        domid = re.match(r"(?:INTRODUCE \$|RELEASE )(\d+)", request)
        if domid and self._is_target(request, domid[1]):
            return
        if re.match(r"SET_TARGET (\d+)\|\1\|", request):
            return  # 4.17 would keep it for ever
        stub = re.match(r"SET_TARGET (\d+)\|", request)
        if stub and any(holder == "g" + stub[1] for holder, _ in self.transactions):
            return  # its new rights would be no conflict to 4.17
        if request.startswith("INTRODUCE"):
            # Unless something was written since, 4.17 gives it the rights of the one before it.
            written = [world.exchange("s", 0, "WRITE /since-then|") for world in self.worlds]
            self._compare("WRITE /since-then", *written)
        if domid:
            self._close_guest(domid[1])
        ours, c = (world.exchange(who, tx, request) for world, tx in zip(self.worlds, ids))
        transaction = self.transactions.get((who, ids[0]))
        if transaction and not request.startswith(NOT_TRANSACTED):
            same = _plain(ours[0]) == _plain(c[0])
            transaction.log.append((request, ours[0], c[0]))
            if not same:
                transaction.differs = True
                c = (ours[0], *c[1:])
        self._compare(request, ours, c)
        if request.startswith("RESET_WATCHES") and ours[0] == b"OK\0":
            self._forget(who)
        if request.startswith("SET_TARGET") and ours[0] == b"OK\0":
            stub, target = re.findall(r"\d+", request)
            self.targets[stub].add(target)

    def _kill(self, microseconds, who, name, request):
        """Sends our daemon a guest's request and kills it; another goes on. Nothing of it is to be
        seen on rings. The sockets' clients connect anew, those of 4.17 as well."""
        if self._is_away(who) or request.startswith("RESET_WATCHES"):
            return
        self._look_for_shutdowns()
        ids = self._ids(who, name)
        c = self.worlds[1].exchange(who, ids[1], request)
        self._connect_sockets_again(self.worlds[1])

        def crash():
            time.sleep(microseconds / 1e6)
            self.worlds[0].daemon.kill()
            self.worlds[0].daemon.start()
            self._connect_sockets_again(self.worlds[0])
        ours = self.worlds[0].exchange(who, ids[0], request, crash)
        self._note_kill(ours, c)
        transaction = self.transactions.get((who, ids[0]))
        if transaction:
            if not request.startswith(NOT_TRANSACTED):
                transaction.log.append((request, ours[0], c[0]))
            c = (ours[0], *c[1:])  # of a snapshot that is not the same; it cannot commit
        self._compare(request, ours, c)

    def _down(self, what):
        """The hypervisor acts while our daemon is dead."""
        if not self._may_act(what):
            return
        self._look_for_shutdowns()
        c = self.worlds[1].exchange("x", 0, what)
        self._connect_sockets_again(self.worlds[1])
        self.worlds[0].daemon.kill()
        self.worlds[0].machine.act(what)
        self.worlds[0].daemon.start()
        self._connect_sockets_again(self.worlds[0])
        ours = (c[0], {}, [])
        self._note_kill(ours, c)
        self._wait_for_events(ours, c, who="g")
        self._compare(what, ours, c)

    def _look_for_shutdowns(self):
        """Makes both look for domains that were shut down when they were introduced (again): ours
        would see them as it starts, the other one at the next death."""
        for world in self.worlds:
            world.machine.act(f"create {SPARE}")
        self._x(f"destroy {SPARE}")

    def _note_kill(self, ours, c):
        """What sockets lost with it, and what becomes of the transactions on rings."""
        for who in SOCKETS:
            self._forget(who)
            for got in (ours, c):
                got[1].pop(who, None)
        for transaction in self.transactions.values():
            transaction.is_doomed = True

    @staticmethod
    def _connect_sockets_again(world):
        for who in SOCKETS:
            world.close(who)
            world.client(who)

    def _start(self, who, name):
        if self._is_away(who):
            return
        ours, c = (world.exchange(who, 0, "START |") for world in self.worlds)
        self._compare("START |", *[(re.sub(rb"\d+", b"N", r[0]) if isinstance(r[0], bytes)
                                    else r[0], *r[1:]) for r in (ours, c)])
        if isinstance(ours[0], bytes):
            self.ids[name] = [int(got[0][:-1]) for got in (ours, c)]
            self.transactions[who, self.ids[name][0]] = Transaction(who)

    def _end(self, who, name, how):
        if self._is_away(who):
            return
        ids = self._ids(who, name)
        ours, c = (world.exchange(who, tx, f"END {how}|") for world, tx in zip(self.worlds, ids))
        transaction = self.transactions.pop((who, ids[0]), None)
        if transaction and transaction.is_doomed and how == "T" and (
                ours[0] not in ("EAGAIN", "ENOMEM", "ENOSPC")):
            raise Mismatch(f"  a commit of before the kill was answered {ours[0]}")
        if transaction and ours[0] != c[0]:
            ours, c = self._compare_commits(transaction, ours, c)
        elif transaction:
            if transaction.differs and ours[0] == b"OK\0" and how == "T":
                raise Mismatch(f"  both committed, with other answers inside: {transaction.log}")
        removes = transaction and any(entry[0].startswith("RM") for entry in transaction.log)
        self._compare(f"END {how}|{'RM' if removes else ''}", ours, c)

    def _compare_commits(self, transaction, ours, c):
        """One commit was refused, or both for different reasons: what to go on with."""
        if (ours[0], c[0]) == ("ENOSPC", "EAGAIN"):
            self._excused("quota-first")
            return ours, ours
        refusals = {"EAGAIN"}
        if transaction.differs or transaction.deaths or transaction.is_doomed:
            refusals |= {"ENOMEM", "ENOSPC"}  # it was failed inside, by something that changed
        if not {ours[0], c[0]} <= {b"OK\0", *refusals}:
            return ours, c
        self._excused("killed" if transaction.is_doomed else
                      "refused-death" if transaction.deaths and c[0] == "ENOMEM" else
                      "refused-less" if ours[0] == b"OK\0" else
                      "refused-later" if c[0] == b"OK\0" else "snapshot")
        if b"OK\0" not in (ours[0], c[0]):
            return ours, ours
        return self._commit_again(transaction, ours, c, refused=1 if ours[0] == b"OK\0" else 0)

    def _commit_again(self, transaction, ours, c, refused):
        """One refused and the other did not. The client of the one that did asks everything
        again, as clients do, and must be answered now what the other had answered before."""
        world = self.worlds[refused]
        tx = int(world.exchange(transaction.who, 0, "START |")[0][:-1])
        for request, *answers in transaction.log:
            got, _, problems = world.exchange(transaction.who, tx, request)
            if _plain(got) != _plain(answers[1 - refused]) or problems:
                raise Mismatch(f"  {world.peer} refused, and now says {shown(got)!r} to {request}, "
                               f"the other had said {shown(answers[1 - refused])!r}; {problems}")
        results = [ours, c]
        results[refused] = world.exchange(transaction.who, tx, "END T|")
        return results

    def _x(self, what):
        if not self._may_act(what):
            return
        results = [world.exchange("x", 0, what) for world in self.worlds]
        self._wait_for_events(*results)
        self._compare(what, *results)

    def _close(self, who):
        self._forget(who)
        for world in self.worlds:
            world.close(who)
            world.client(who)

    def _tree(self):
        ours, c = (world.tree() for world in self.worlds)
        if ours != c:
            raise Mismatch("".join(f"  {path}: ours {ours.get(path)}, 4.17 {c.get(path)}\n"
                                   for path in sorted({*ours, *c})
                                   if ours.get(path) != c.get(path)))
        if self.planted == "node":
            self.worlds[0].ok("s3", "WRITE /planted|")

    # What they need.

    def _may_act(self, what):
        """Whether there is such a domain, and 4.17 would let it go."""
        domid = what.split()[1]
        if int(domid) not in self.worlds[0].machine.rings or self._is_target(what, domid):
            return False
        if what.startswith(("destroy", "dying")):
            self._close_guest(domid)
        return True

    def _wait_for_events(self, *results, who=""):
        """Until both have sent the same to clients whose names begin with `who`; nobody says when a
        daemon has noticed something."""
        deadline = time.monotonic() + 2
        while not _same_events(*results) and time.monotonic() < deadline:
            for world, (_, events, _) in zip(self.worlds, results):
                world.more_events(events)
                for other in [name for name in events if not name.startswith(who)]:
                    del events[other]

    def _is_away(self, who):
        """A guest that is not introduced has nobody to talk to."""
        if who[0] != "g" or self.worlds[0].ok("s", f"IS_INTRODUCED {who[1:]}|") == b"T\0":
            return False
        self._close_guest(who[1:])
        return True

    def _ids(self, who, name):
        """What each daemon calls that transaction; no id at all if it is not this client's."""
        if not name:
            return [0, 0]
        ids = self.ids.get(name, [UNKNOWN] * 2)
        return ids if (who, ids[0]) in self.transactions else [UNKNOWN] * 2

    def _is_target(self, what, domid):
        """Whether it ends a domain that 4.17 would keep (target-kept), so that it is left out."""
        if not what.startswith(("RELEASE", "destroy", "dying")):
            return False
        if any(domid in targets for targets in self.targets.values()):
            self._excused("target-kept")
            return True
        self.targets.pop(domid, None)
        for transaction in self.transactions.values():
            transaction.deaths += 1
        return False

    def _close_guest(self, domid):
        self._forget(f"g{domid}")
        for world in self.worlds:
            if f"g{domid}" in world.clients:
                world.close(f"g{domid}")

    def _forget(self, who):
        """That connection's transactions are gone, and their ids may come again."""
        gone = [key for key in self.transactions if key[0] == who]
        for key in gone:
            del self.transactions[key]
        self.ids = {name: ids for name, ids in self.ids.items() if (who, ids[0]) not in gone}

    def _excused(self, why):
        assert why in differences.REASONS, why
        self.excused[why] += 1

    def _compare(self, what, ours, c):
        if self.planted in ("lost", "swapped"):
            for events in ours[1].values():
                if len(events) == 2:
                    events.reverse() if self.planted == "swapped" else events.pop()
        problems = ours[2] + c[2]
        if _plain(ours[0]) != _plain(c[0]):
            problems.append(f"reply: ours {shown(ours[0])!r}, 4.17 {shown(c[0])!r}")
        for who in sorted({*ours[1], *c[1]}):
            mine, its = ours[1].get(who, []), c[1].get(who, [])
            if mine != its:
                why = _excuse(what, mine, its)
                if why:
                    self._excused(why)
                else:
                    problems.append(f"events of {who}: ours {[shown(e) for e in mine]}, "
                                    f"4.17 {[shown(e) for e in its]}")
        if problems:
            raise Mismatch("".join(f"  {problem}\n" for problem in problems))


def _same_events(ours, c):
    """Whether all has come, in whatever order."""
    return all(sorted(ours[1].get(who, [])) == sorted(c[1].get(who, []))
               for who in {*ours[1], *c[1]})


def _plain(reply):
    """A reply without what may be any number: generations."""
    return re.sub(rb"^\d+\0", b"G\0", reply) if isinstance(reply, bytes) else reply


def _excuse(what, ours, c):
    """Why these two lists of events, which are not the same, are both right; None if not."""
    ends = what.startswith(("RELEASE", "destroy", "dying", "INTRODUCE"))
    if ends and sorted(ours) == sorted(c):
        return "order-of-end"
    if what.startswith("END T|") and sorted(ours) == sorted(c):
        return "order-of-commit"
    if what == "END T|RM" and not collections.Counter(c) - collections.Counter(ours):
        return "made-and-removed"
    if what.startswith(("destroy", "dying")):
        announced = {event for event in c if event.startswith(b"@releaseDomain\0")}
        if sorted(ours) == sorted([*c, *announced]):
            return "shutdown-and-death"
    return None


def outcome(steps, options, planted=None):
    """What went wrong when the steps were played on fresh machines, or None; what was excused."""
    with Session(options, planted) as session:
        try:
            session.play(steps)
        except Mismatch as mismatch:
            return str(mismatch), session.excused
        return None, session.excused


def shrunk(steps, fails, seconds=60):
    """A shorter session that still fails: as many steps as possible are left out."""
    deadline, size = time.monotonic() + seconds, len(steps) // 2
    while size and time.monotonic() < deadline:
        at = 0
        while at < len(steps) and time.monotonic() < deadline:
            fewer = steps[:at] + steps[at + size:]
            if fails(fewer):
                steps = fewer
            else:
                at += size
        size //= 2
    return steps


def report(steps, problem, seed, options, planted=None):
    """Shortens and prints a session that failed; the steps that are left, and why they fail."""
    print(f"session of seed {seed}: {problem}", flush=True)
    at = int(re.match(r"step (\d+)", problem)[1])
    steps = shrunk(steps[:at + 1], lambda fewer: outcome(fewer, options, planted)[0])
    print("shortened to:", *[f"  {json.dumps(step)}" for step in steps], sep="\n")
    print(f"which fails with: {outcome(steps, options, planted)[0]}", flush=True)
    return steps


def keep(steps, seed):
    """Writes a session down for --replay."""
    with tempfile.NamedTemporaryFile("w", prefix=f"session-{seed}-", suffix=".json",
                                     delete=False) as file:
        json.dump(steps, file, indent=0)
    print(f"again: differential.py --replay {file.name}", flush=True)


def explore(seed, seconds):
    """Plays sessions from `seed` on until the time is over; whether all agreed."""
    deadline, sessions, excused = time.monotonic() + seconds, 0, collections.Counter()
    while time.monotonic() < deadline:
        steps = Author(seed + sessions).session()
        problem, met = outcome(steps, {})
        if problem:
            keep(report(steps, problem, seed + sessions, {}), seed + sessions)
            return False
        sessions, excused = sessions + 1, excused + met
    print(f"seeds {seed} to {seed + sessions - 1}: {sessions} sessions agree; known differences:")
    for why, count in sorted(excused.items()):
        print(f"{count:6} x {why}: {differences.REASONS[why]}")
    return True


# A limit that is one higher, a node that nobody wrote, a lost event, two events in another order.
PLANTS = {"quota": {"ours": tuple("6" if option == "5" else option for option in OPTIONS)},
          "node": {}, "lost": {}, "swapped": {}}


def selftest():
    """Whether each planted difference is found, and a session with one shortened."""
    found = None
    for name, options in PLANTS.items():
        print(f"planted: {name}")
        found = first_found(name, options)
        if not found:
            print(f"the planted {name} was not found")
            return False
    if len(report(*found, options, name)) > 20:
        print("what was planted last was found, but the session is still long")
        return False
    print("all that was planted was found")
    return True


def first_found(name, options):
    """The first session that finds it: its steps, the problem, the seed; or None."""
    for seed in range(1, 20):
        steps = Author(seed).session()
        problem = outcome(steps, options, name)[0]
        if problem:
            return steps, problem, seed
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", metavar="FILE")
    parser.add_argument("--selftest", action="store_true")
    chosen = parser.parse_args()
    if chosen.selftest:
        return 0 if selftest() else 1
    if chosen.replay:
        with open(chosen.replay, encoding="ascii") as file:
            problem, _ = outcome(json.load(file), {})
        print(problem or "both daemons agree")
        return 1 if problem else 0
    return 0 if explore(chosen.seed, chosen.seconds) else 1


if __name__ == "__main__":
    sys.exit(main())
