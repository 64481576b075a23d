#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""CONTROL as of 4.17 (A.2) and the requests of newer Xen: features and quotas (A.1)."""

import os
import re
import sys

from script import ANYTHING, OK, Check, Differs, OneOf, World, each, main, rule

HARD = {"nodes": 1000, "watches": 128, "transactions": 10, "outstanding": 20,
        "transaction-nodes": 1024, "memory": 2621440, "node-permissions": 5, "path-max": 2048,
        "node-size": 2048}
OF_417 = {"permissions" if name == "node-permissions" else name: value
          for name, value in HARD.items()}
SOFT_MEMORY = 2097152


def table(payload):
    return {name: int(value) for name, value in
            re.findall(r"([a-z-]+)[ \t]*:[ \t]*(\d+)", payload.decode("latin-1"))}


rule("A.2", "an unknown command, or none, is EINVAL",
     each("s", ["CONTROL", "CONTROL |", "CONTROL check", "CONTROL nonsense|", "CONTROL Check|",
                "CONTROL ||", "CONTROL nonsense|with|arguments|"], "EINVAL"))

rule("A.2-check", "check looks at the store and says OK",
     ("s", 0, "CONTROL check|", OK), ("s", 0, "CONTROL check|x|", "EINVAL"),
     ("s", 0, "WRITE /a/b/c|v", OK), ("s", 0, "RM /a/b|", OK), ("s", 0, "CONTROL check|", OK))

rule("A.2-log", "log takes on or off",
     ("s", 0, "CONTROL log|on|", OK), ("s", 0, "CONTROL log|off|", OK),
     each("s", ["CONTROL log|maybe|", "CONTROL log||", "CONTROL log|on|off|"], "EINVAL"),
     ("s", 0, "CONTROL log|", OneOf("EINVAL", ANYTHING)))


def logfile_and_trace(world):
    first, second = (os.path.join(world.rundir, name) for name in ("one.log", "two.log"))
    world.ok("s", f"CONTROL logfile|{first}|")
    world.ok("s", "CONTROL log|on|")
    world.ok("s", "WRITE /traced-one|v")
    world.ok("s", f"CONTROL logfile|{second}|")
    world.ok("s", "WRITE /traced-two|v")
    world.ok("s", "CONTROL print|hello-from-print|")
    world.ok("s", "CONTROL log|off|")
    world.ok("s", "WRITE /traced-three|v")
    text = [open(name, encoding="latin-1").read() for name in (first, second)]
    wrong = [f"{word} in {name}" for name, content, there, absent in
             (("the first file", text[0], ["/traced-one"], ["/traced-two"]),
              ("the second file", text[1], ["/traced-two"], ["/traced-one", "/traced-three"]))
             for word in [f"missing {w}" for w in there if w not in content] +
             [f"unexpected {w}" for w in absent if w in content]]
    return wrong


rule("A.2-logfile", "logfile changes where the trace goes, log on and off what goes there",
     each("s", ["CONTROL logfile|", "CONTROL logfile|/a|/b|"], "EINVAL"),
     logfile_and_trace)

rule("A.2-logfile-bad", "a logfile that cannot be made harms nobody",
     ("s", 0, "CONTROL logfile|/nonexistent/dir/x|", OneOf(OK, "ENOENT", "EINVAL", "EACCES", "EIO")),
     ("s", 0, "CONTROL log|on|", OneOf(OK, "EINVAL")),
     ("s", 0, "WRITE /a|v", OK), ("s", 0, "READ /a|", "v"))


def memory_report(world):
    name = os.path.join(world.rundir, "report")
    world.ok("s", f"CONTROL memreport|{name}|")
    once = os.path.getsize(name)
    world.ok("s", f"CONTROL memreport|{name}|")
    twice = os.path.getsize(name)
    return [] if 0 < once < twice else [f"report of {once}, then {twice} bytes"]


rule("A.2-memreport", "memreport appends to a file; without one and without a trace EINVAL",
     ("s", 0, "CONTROL memreport|", "EINVAL"), ("s", 0, "CONTROL memreport|/a|/b|", "EINVAL"),
     memory_report)

rule("A.2-print", "print takes one string",
     ("s", 0, "CONTROL print|hello|", OK),
     each("s", ["CONTROL print|", "CONTROL print|a|b|"], "EINVAL"))

rule("A.2-help", "help names all commands",
     ("s", 0, "CONTROL help|", Check("text with every command", lambda got, _: all(
         name in got for name in (b"check", b"help", b"log", b"logfile", b"memreport", b"print",
                                  b"quota", b"quota-soft")))),
     ("s", 0, "CONTROL help|x|", "EINVAL"))

def lists(wanted):
    return Check(f"a list with {wanted}", lambda got, _: wanted.items() <= table(got).items())


def set_and_seen(name, value, answer):
    return [("s", 0, f"CONTROL quota|set|{name}|{value}|", answer),
            ("s", 0, "CONTROL quota|", lists({name: value}) if answer == OK else ANYTHING)]


rule("A.2-quota", "quota lists the limits of 4.17",
     ("s", 0, "CONTROL quota|", Differs(lists(HARD), lists(OF_417), "quota-names")),
     ("s", 0, "CONTROL quota-soft|", Check("memory", lambda got, _:
                                           table(got).get("memory") == SOFT_MEMORY)))

rule("A.2-quota-set", "quota set takes a known name and a number above 0",
     each("s", ["CONTROL quota|set|", "CONTROL quota|set|nodes|", "CONTROL quota|set|nodes|0|",
                "CONTROL quota|set|nodes|-5|", "CONTROL quota|set|nodes|x|",
                "CONTROL quota|set|nonsense|5|", "CONTROL quota|set|nodes|5|6|",
                "CONTROL quota|set||5|", "CONTROL quota-soft|set|nonsense|5|",
                "CONTROL quota-soft|set|memory|0|", "CONTROL quota-soft|set|nodes|7|",
                "CONTROL quota-soft|x|"], "EINVAL"),
     [set_and_seen(name, value + 7, OK) for name, value in HARD.items()
      if name not in ("path-max", "node-permissions")],
     set_and_seen("path-max", 100, OK),
     set_and_seen("node-permissions", 12, Differs(OK, "EINVAL", "quota-names")),
     ("s", 0, "CONTROL quota|set|permissions|13|", OK),
     ("s", 0, "CONTROL quota|", Differs(lists({"node-permissions": 13}),
                                        lists({"permissions": 13}), "quota-names")),
     ("s", 0, "CONTROL quota-soft|set|memory|5000000|", OK),
     ("s", 0, "CONTROL quota-soft|", lists({"memory": 5000000})))


def usage_is(**wanted):
    return lists(wanted)


rule("A.2-quota-domid", "quota <domid> counts what the domain has",
     each("s", ["CONTROL quota|99|", "CONTROL quota|9|"], "ENOENT"),
     each("s", ["CONTROL quota|3|4|"], "EINVAL"),
     ("s", 0, "CONTROL quota|3|", usage_is(nodes=1, watches=0, transactions=0)),
     ("g3", 0, "WRITE a/b/c|v", OK), ("g3", 0, "WATCH a|t|", OK, {"g3": ["a|t"]}),
     ("g3", 0, "WATCH b|t|", OK, {"g3": ["b|t"]}), ("g3", 0, "START |", ANYTHING),
     ("s", 0, "CONTROL quota|3|", usage_is(nodes=4, watches=2, transactions=1)),
     ("g3", 0, "UNWATCH a|t|", OK), ("g3", 0, "RM a|", OK),
     ("s", 0, "CONTROL quota|3|", usage_is(nodes=1, watches=1, transactions=1)),
     ("g3", 0, "RESET_WATCHES |", OK),
     ("s", 0, "CONTROL quota|3|", usage_is(nodes=1, watches=0, transactions=0)),
     domains=(3,))

rule("A.2-guest", "guests get EACCES, whatever the command",
     each("g3", ["CONTROL", "CONTROL check|", "CONTROL quota|", "CONTROL help|", "CONTROL x|"],
          "EACCES"), domains=(3,))

rule("A.1-23", "GET_FEATURE: all that we offer, or those of a domain",
     ("s", 0, "GET_FEATURE", "15|"), ("s", 0, "GET_FEATURE 3|", "15|"),
     ("s", 0, "GET_FEATURE 99|", "ENOENT"),
     each("s", ["GET_FEATURE x|", "GET_FEATURE 3|3|"], "EINVAL"),
     ("g3", 0, "GET_FEATURE", "EACCES"), ("g3", 0, "GET_FEATURE 3|", "EACCES"),
     domains=(3,), only="newer")

rule("A.1-24", "SET_FEATURE: only bits that we offer, only for a domain that is there",
     each("s", ["SET_FEATURE", "SET_FEATURE 3|", "SET_FEATURE 3|16|", "SET_FEATURE 3|x|",
                "SET_FEATURE 3|-1|", "SET_FEATURE 3|31|", "SET_FEATURE 3|4294967296|",
                "SET_FEATURE x|5|", "SET_FEATURE 3|5"], "EINVAL"),
     ("s", 0, "SET_FEATURE 99|5|", "ENOENT"), ("s", 0, "GET_FEATURE 3|", "15|"),
     ("s", 0, "SET_FEATURE 3|5|", OK), ("s", 0, "GET_FEATURE 3|", "5|"),
     ("s", 0, "GET_FEATURE 7|", "15|"), ("s", 0, "GET_FEATURE", "15|"),
     ("s", 0, "SET_FEATURE 3|0|", OK), ("s", 0, "GET_FEATURE 3|", "0|"),
     ("g3", 0, "SET_FEATURE 3|15|", "EACCES"),
     ("g3", 0, "WATCH a|t|1|", "EINVAL"), ("g7", 0, "WATCH a|t|1|", OK, {"g7": ["a|t"]}),
     ("s", 0, "SET_FEATURE 3|4|", OK), ("g3", 0, "WATCH a|t|1|", OK, {"g3": ["a|t"]}),
     domains=(3, 7), only="newer")

NAMES = set(HARD) | {"soft-memory"}

rule("A.1-25", "GET_QUOTA: the names, a limit, a domain's limit",
     ("s", 0, "GET_QUOTA", Check(f"names {NAMES}", lambda got, _: got[-1:] == b"\0" and
                                 NAMES <= set(got[:-1].decode().split(" ")))),
     [("s", 0, f"GET_QUOTA {name}|", f"{value}|") for name, value in HARD.items()],
     [("s", 0, f"GET_QUOTA 3|{name}|", f"{value}|") for name, value in HARD.items()],
     ("s", 0, "GET_QUOTA soft-memory|", f"{SOFT_MEMORY}|"),
     each("s", ["GET_QUOTA nonsense|", "GET_QUOTA |", "GET_QUOTA 3|nonsense|",
                "GET_QUOTA x|nodes|", "GET_QUOTA 3|nodes|5|"], "EINVAL"),
     ("s", 0, "GET_QUOTA 99|nodes|", "ENOENT"),
     ("g3", 0, "GET_QUOTA", "EACCES"), ("g3", 0, "GET_QUOTA 3|nodes|", "EACCES"),
     domains=(3,), only="newer")

rule("A.1-26", "SET_QUOTA: a limit, a domain's limit; it holds from then on",
     each("s", ["SET_QUOTA", "SET_QUOTA nodes|", "SET_QUOTA nonsense|5|", "SET_QUOTA nodes|x|",
                "SET_QUOTA nodes|-1|", "SET_QUOTA 3|nonsense|5|", "SET_QUOTA 3|nodes|x|",
                "SET_QUOTA x|nodes|5|", "SET_QUOTA 3|nodes|5|6|", "SET_QUOTA nodes|5"], "EINVAL"),
     ("s", 0, "SET_QUOTA 99|nodes|5|", "ENOENT"), ("g3", 0, "SET_QUOTA nodes|5|", "EACCES"),
     ("s", 0, "SET_QUOTA 3|nodes|2|", OK), ("s", 0, "GET_QUOTA 3|nodes|", "2|"),
     ("s", 0, "GET_QUOTA 7|nodes|", "1000|"), ("s", 0, "GET_QUOTA nodes|", "1000|"),
     ("g3", 0, "WRITE a|", OK), ("g3", 0, "WRITE b|", "ENOSPC"),
     ("g7", 0, "WRITE a|", OK), ("g7", 0, "WRITE b|", OK),
     ("s", 0, "SET_QUOTA nodes|3|", OK), ("s", 0, "GET_QUOTA nodes|", "3|"),
     ("s", 0, "GET_QUOTA 3|nodes|", "2|"), ("g7", 0, "WRITE c|", "ENOSPC"),
     ("g3", 0, "WRITE b|", "ENOSPC"),
     ("s", 0, "INTRODUCE $9|", OK), ("s", 0, "GET_QUOTA 9|nodes|", "3|"),
     ("s", 0, "SET_QUOTA 3|watches|1|", OK),
     ("g3", 0, "WATCH a|t|", OK, {"g3": ["a|t"]}), ("g3", 0, "WATCH b|t|", OK, {"g3": ["b|t"]}),
     ("g3", 0, "WATCH c|t|", "E2BIG"),
     ("s", 0, "SET_QUOTA soft-memory|12345|", OK), ("s", 0, "GET_QUOTA soft-memory|", "12345|"),
     domains=(3, 7), only="newer")


def settings_outlive_a_kill(world):
    for request in ("SET_QUOTA nodes|30|", "SET_QUOTA 3|watches|7|", "SET_FEATURE 3|9|"):
        world.ok("s", request)
    world.restart()
    got = [world.ok("s", request) for request in
           ("GET_QUOTA nodes|", "GET_QUOTA 3|watches|", "GET_FEATURE 3|", "GET_QUOTA watches|")]
    return [] if got == [b"30\0", b"7\0", b"9\0", b"128\0"] else [f"after the restart: {got}"]


rule("A.1-26k", "quotas and features set at run time are there after a kill",
     settings_outlive_a_kill, domains=(3,), only="newer")


def trace_option(world):
    name = os.path.join(world.rundir, "trace")
    with World(options=("-T", name)) as traced:
        traced.ok("s", "WRITE /seen-in-the-trace|v")
        traced.ok("s", "CONTROL memreport|")
        content = open(name, encoding="latin-1").read()
    return [] if "/seen-in-the-trace" in content else [f"trace: {content[:200]!r}"]


rule("A.2-memreport-T", "with a trace file, memreport needs no name", trace_option)

if __name__ == "__main__":
    sys.exit(main())
