#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Transactions as rows (B.8).

Ours are true snapshots, and a commit is refused only where an answer that the client was given
inside would differ now; the peers refuse more.
"""

import sys

from script import EMPTY_PART, OK, Bind, Differs, OneOf, close, main, rule, write

START = ("s", 0, "START |", Bind("t"))
COMMITS = ("s", "t", "END T|", OK)
COMMITS_HERE = ("s", "t", "END T|", Differs(OK, "EAGAIN", "refused-less"))
REFUSED = ("s", "t", "END T|", "EAGAIN")


def inside(request, answer):
    return ("s", "t", request, answer)


def other(*requests):
    return [("s2", 0, request, OK) for request in requests]


rule("B.8-85", "ids are counted by each connection, from 1",
     ("s", 0, "START |", Bind("a", 1)), ("s", 0, "START |", Bind("b", 2)),
     ("s", "a", "END F|", OK), ("s", 0, "START |", Bind("c", 3)),
     ("s2", 0, "START |", Bind("d", 1)),
     ("g3", 0, "START |", Bind("e", 1)), ("g3", "e", "END F|", OK),
     ("g3", 0, "START |", Bind("f", 2)),
     domains=(3,))

rule("B.8-86", "a guest may have 11 transactions, a privileged client any number",
     [("g3", 0, "START |", Bind(f"g{i}")) for i in range(11)],
     ("g3", 0, "START |", "ENOSPC"), ("g3", 0, "START |", "ENOSPC"),
     ("g3", "g4", "END F|", OK), ("g3", 0, "START |", Bind("g4")), ("g3", 0, "START |", "ENOSPC"),
     ("g3", "g5", "END T|", OK), ("g3", 0, "START |", Bind("g5")),
     ("g3", 0, "RESET_WATCHES |", OK),
     [("g3", 0, "START |", Bind(f"h{i}")) for i in range(11)], ("g3", 0, "START |", "ENOSPC"),
     [("s", 0, "START |", Bind(f"s{i}")) for i in range(100)],
     [("s", f"s{i}", "END T|", OK) for i in range(100)],
     domains=(3,))

rule("B.8-88", "END F is always OK, nothing happened; the transaction is gone after any END",
     ("s", 0, "WRITE /a|old", OK), ("s", 0, "WATCH /|r|", OK, {"s": ["/|r"]}),
     START, inside("WRITE /a|new", OK), inside("RM /a|", OK), inside("WRITE /b/c|x", OK),
     inside("END F|", OK), inside("END F|", "ENOENT"), inside("READ /a|", "ENOENT"),
     ("s", 0, "READ /a|", "old"), ("s", 0, "READ /b|", "ENOENT"),
     START, inside("READ /a|", "old"), ("s2", 0, "WRITE /a|other", OK, {"s": ["/a|r"]}),
     inside("END F|", OK),
     START, inside("READ /a|", "other"), ("s2", 0, "WRITE /a|third", OK, {"s": ["/a|r"]}),
     REFUSED, inside("END F|", "ENOENT"))

rule("B.8-90", "a transaction sees its own changes on the tree of its start; nobody else does",
     ("s", 0, "WRITE /a|1", OK), ("s", 0, "WRITE /d/x|1", OK), START,
     other("WRITE /a|2", "WRITE /d/y|2", "RM /d/x|", "SET_PERMS /a|r0|"),
     inside("READ /a|", "1"), inside("DIRECTORY /d|", "x|"), inside("READ /d/x|", "1"),
     inside("READ /d/y|", "ENOENT"), inside("GET_PERMS /a|", "n0|"),
     inside("WRITE /a|mine", OK), inside("READ /a|", "mine"), inside("WRITE /d/z|mine", OK),
     inside("DIRECTORY /d|", "x|z|"), inside("RM /d/x|", OK), inside("DIRECTORY /d|", "z|"),
     inside("READ /d/x|", "ENOENT"), inside("MKDIR /e/f|", OK), inside("DIRECTORY /e|", "f|"),
     inside("SET_PERMS /e|w0|", OK), inside("GET_PERMS /e|", "w0|"),
     ("s2", 0, "READ /a|", "2"), ("s2", 0, "DIRECTORY /d|", "y|"), ("s2", 0, "READ /e|", "ENOENT"),
     REFUSED,
     ("s", 0, "READ /a|", "2"), ("s", 0, "DIRECTORY /d|", "y|"), ("s", 0, "READ /e|", "ENOENT"),
     only="snapshot")

rule("B.8-90l", "what is looked at first after it was changed is as it was at the start",
     ("s", 0, "WRITE /a|1", OK), ("s", 0, "WRITE /d/x|1", OK), START,
     other("WRITE /a|2", "WRITE /d/y|2", "RM /d/x|", "SET_PERMS /a|r0|"),
     inside("READ /a|", Differs("1", "2", "snapshot")),
     inside("DIRECTORY /d|", Differs("x|", "y|", "snapshot")),
     inside("READ /d/x|", Differs("1", "ENOENT", "snapshot")),
     inside("READ /d/y|", Differs("ENOENT", "2", "snapshot")),
     inside("GET_PERMS /a|", Differs("n0|", "r0|", "snapshot")),
     inside("WRITE /marker|x", OK),
     ("s", "t", "END T|", Differs("EAGAIN", OK, "refused-later")))

rule("B.8-90o", "a transaction sees its own changes",
     ("s", 0, "WRITE /a|1", OK), ("s", 0, "WRITE /d/x|1", OK), START,
     inside("READ /a|", "1"), inside("WRITE /a|mine", OK), inside("READ /a|", "mine"),
     inside("WRITE /d/z|mine", OK), inside("DIRECTORY /d|", "x|z|"), inside("RM /d/x|", OK),
     inside("DIRECTORY /d|", "z|"), inside("READ /d/x|", "ENOENT"), inside("MKDIR /e/f|", OK),
     inside("DIRECTORY /e|", "f|"), inside("SET_PERMS /e|w0|", OK), inside("GET_PERMS /e|", "w0|"),
     ("s2", 0, "READ /a|", "1"), ("s2", 0, "DIRECTORY /d|", "x|"), ("s2", 0, "READ /e|", "ENOENT"),
     COMMITS, ("s2", 0, "DIRECTORY /d|", "z|"), ("s2", 0, "READ /a|", "mine"))

rule("B.8-90c", "a commit is seen whole and at once",
     START, inside("WRITE /a/b|1", OK), inside("WRITE /c|2", OK), inside("SET_PERMS /c|r0|", OK),
     inside("RM /a/none|", OK), COMMITS,
     ("s2", 0, "READ /a/b|", "1"), ("s2", 0, "READ /c|", "2"), ("s2", 0, "GET_PERMS /c|", "r0|"))

# Conflicts: what commits although something was changed meanwhile.

for name, before, script in (
        ("two transactions that make siblings", ["MKDIR /d|"],
         [inside("WRITE /d/mine|1", OK), other("WRITE /d/yours|2"), COMMITS_HERE,
          ("s", 0, "DIRECTORY /d|", Differs("yours|mine|", "yours|", "refused-less"))]),
        ("a value written again with the same bytes", ["WRITE /a|x"],
         [inside("READ /a|", "x"), other("WRITE /a|x"), COMMITS_HERE]),
        ("a value changed and changed back", ["WRITE /a|x"],
         [inside("READ /a|", "x"), other("WRITE /a|y", "WRITE /a|x"), COMMITS_HERE]),
        ("writes only, and the value was changed", ["WRITE /a|x"],
         [inside("WRITE /a|mine", OK), other("WRITE /a|yours"), COMMITS_HERE,
          ("s2", 0, "READ /a|", Differs("mine", "yours", "refused-less"))]),
        ("a read of its own write, and the value was changed", ["WRITE /a|x"],
         [inside("WRITE /a|mine", OK), inside("READ /a|", "mine"), other("WRITE /a|yours"),
          COMMITS_HERE, ("s2", 0, "READ /a|", Differs("mine", "yours", "refused-less"))]),
        ("writes only, and the node was removed", ["WRITE /d/a|x"],
         [inside("WRITE /d/a|mine", OK), other("RM /d|"), COMMITS_HERE,
          ("s2", 0, "READ /d/a|", Differs("mine", "ENOENT", "refused-less"))]),
        ("a value read whose node has a new child", ["WRITE /a|x"],
         [inside("READ /a|", "x"), other("WRITE /a/kid|"), COMMITS_HERE]),
        ("children listed whose values were changed", ["WRITE /d/a|x"],
         [inside("DIRECTORY /d|", "a|"), other("WRITE /d/a|y", "WRITE /d|z", "WRITE /d/a/kid|"),
          COMMITS_HERE]),
        ("children listed of which one went and came back", ["WRITE /d/a|x"],
         [inside("DIRECTORY /d|", "a|"), other("RM /d/a|", "WRITE /d/a|"), COMMITS_HERE]),
        ("a value read whose permissions were changed", ["WRITE /a|x"],
         [inside("READ /a|", "x"), other("SET_PERMS /a|r0|"), COMMITS_HERE]),
        ("permissions read of a node whose value was changed", ["WRITE /a|x"],
         [inside("GET_PERMS /a|", "n0|"), other("WRITE /a|y"), COMMITS_HERE]),
        ("a missing node that was made and removed again", ["MKDIR /d|"],
         [inside("READ /d/a|", "ENOENT"), other("WRITE /d/a|", "RM /d/a|"), COMMITS_HERE]),
        ("a missing node with a new sibling", ["MKDIR /d|"],
         [inside("READ /d/a|", "ENOENT"), other("WRITE /d/b|"), COMMITS_HERE]),
        ("MKDIR of the same node twice", ["MKDIR /d|"],
         [inside("MKDIR /d/a|", OK), other("MKDIR /d/a|"), COMMITS_HERE,
          ("s2", 0, "DIRECTORY /d|", "a|")]),
        ("removal of the same node twice", ["WRITE /d/a|x"],
         [inside("RM /d/a|", OK), other("RM /d/a|"), COMMITS_HERE, ("s2", 0, "DIRECTORY /d|", "")]),
        ("nothing but reads of what did not change", ["WRITE /a|x"],
         [inside("READ /a|", "x"), inside("DIRECTORY /|", "tool|a|"), other("WRITE /tool/x|y"),
          COMMITS]),
        ("an empty transaction", [],
         [other("WRITE /a|x"), COMMITS])):
    rule("B.8-87", f"no conflict: {name}", [("s", 0, request, OK) for request in before], START,
         script)

# Conflicts: an answer would differ now.

for name, before, script in (
        ("a value read was changed", ["WRITE /a|x"],
         [inside("READ /a|", "x"), other("WRITE /a|y")]),
        ("a value read whose node is gone", ["WRITE /a|x"],
         [inside("READ /a|", "x"), other("RM /a|")]),
        ("a missing node that now exists", ["MKDIR /d|"],
         [inside("READ /d/a|", "ENOENT"), other("WRITE /d/a|")]),
        ("a missing directory that now exists", [],
         [inside("DIRECTORY /d|", "ENOENT"), other("WRITE /d/a|")]),
        ("children listed, with a new sibling", ["WRITE /d/a|"],
         [inside("DIRECTORY /d|", "a|"), other("WRITE /d/b|")]),
        ("children listed, one removed", ["WRITE /d/a|", "WRITE /d/b|"],
         [inside("DIRECTORY /d|", "a|b|"), other("RM /d/a|")]),
        ("children listed, in another order now", ["WRITE /d/a|", "WRITE /d/b|"],
         [inside("DIRECTORY /d|", "a|b|"), other("RM /d/a|", "WRITE /d/a|")]),
        ("children listed with its own, and another new one", ["MKDIR /d|"],
         [inside("WRITE /d/a|", OK), inside("DIRECTORY /d|", "a|"), other("WRITE /d/b|")]),
        ("permissions read were changed", ["WRITE /a|x"],
         [inside("GET_PERMS /a|", "n0|"), other("SET_PERMS /a|r0|")]),
        ("permissions set on a node that is gone", ["WRITE /a|x"],
         [inside("SET_PERMS /a|r0|", OK), other("RM /a|")]),
        ("RM was OK, and would be ENOENT now", ["WRITE /d/e/a|x"],
         [inside("RM /d/e/a|", OK), other("RM /d|")]),
        ("a part of a directory with another generation", ["WRITE /a|x"],
         [inside("PART /a|0|", EMPTY_PART), other("WRITE /a|y")])):
    rule("B.8-87", f"conflict: {name}", [("s", 0, request, OK) for request in before], START,
         script, inside("WRITE /marker|x", OK), REFUSED,
         ("s", 0, "READ /marker|", "ENOENT"), inside("READ /|", "ENOENT"))

rule("B.8-87g", "a guest's write that would now be refused is a conflict",
     write("/a", "b0", "x"), ("g3", 0, "START |", Bind("t")), ("g3", "t", "WRITE /a|mine", OK),
     ("s", 0, "SET_PERMS /a|n0|", OK), ("g3", "t", "END T|", "EAGAIN"),
     ("s", 0, "READ /a|", "x"),
     write("/b", "r0", "x"), ("g3", 0, "START |", Bind("t")), ("g3", "t", "READ /b|", "x"),
     ("s", 0, "SET_PERMS /b|n0|", OK), ("g3", "t", "END T|", "EAGAIN"),
     write("/c", "n0", "x"), ("g3", 0, "START |", Bind("t")), ("g3", "t", "READ /c|", "EACCES"),
     ("s", 0, "WRITE /c|y", OK), ("g3", "t", "END T|", Differs(OK, "EAGAIN", "refused-less")),
     ("g3", 0, "START |", Bind("t")), ("g3", "t", "READ /c|", "EACCES"),
     ("s", 0, "SET_PERMS /c|r0|", OK), ("g3", "t", "END T|", "EAGAIN"),
     domains=(3,))

rule("B.8-87n", "a commit may not overwrite what another commit did between",
     ("s", 0, "WRITE /n|1", OK), START, ("s2", 0, "START |", Bind("u")),
     inside("READ /n|", "1"), ("s2", "u", "READ /n|", "1"),
     inside("WRITE /n|2", OK), ("s2", "u", "WRITE /n|2", OK),
     COMMITS, ("s2", "u", "END T|", "EAGAIN"), ("s", 0, "READ /n|", "2"),
     START, ("s2", 0, "START |", Bind("u")), inside("READ /n|", "2"), ("s2", "u", "READ /n|", "2"),
     inside("WRITE /n|3", OK), ("s2", "u", "WRITE /n|3", OK),
     ("s2", "u", "END T|", OK), REFUSED, ("s", 0, "READ /n|", "3"))

rule("B.8-70", "events come at the commit: one a node, in the order of the changes, before END's OK",
     ("s", 0, "WRITE /d/old|x", OK),
     ("s", 0, "WATCH /d|t|", OK, {"s": ["/d|t"]}), ("s2", 0, "WATCH /d/2|u|", OK, {"s2": ["/d/2|u"]}),
     ("s2", 0, "WATCH /d/old/kid|k|", OK, {"s2": ["/d/old/kid|k"]}),
     START, inside("WRITE /d/2|a", OK), inside("WRITE /d/1|b", OK), inside("WRITE /d/2|c", OK),
     inside("READ /d/1|", "b"),
     ("s", "t", "END T|", OK, {"s": ["/d/2|t", "/d/1|t"], "s2": ["/d/2|u"]}),
     START, inside("WRITE /d/3|a", OK), inside("END F|", OK),
     ("s", 0, "WRITE /d/old/kid|x", OK, {"s": ["/d/old/kid|t"], "s2": ["/d/old/kid|k"]}),
     START, inside("RM /d/old|", OK),
     ("s", "t", "END T|", OK, {"s": ["/d/old|t"], "s2": ["/d/old/kid|k"]}),
     START, inside("SET_PERMS /d/1|r0|", OK), ("s", "t", "END T|", OK, {"s": ["/d/1|t"]}),
     START, inside("MKDIR /d/1|", OK), COMMITS)

rule("B.8-70r", "what is made and removed inside was never there",
     ("s", 0, "WATCH /|r|", OK, {"s": ["/|r"]}),
     START, inside("WRITE /a/b|v", OK), inside("RM /a/b|", OK),
     ("s", "t", "END T|", OK, Differs({"s": ["/a/b|r"]}, {}, "made-and-removed")))

rule("B.8-70o", "a parent that was missing comes where it was named, not where it was looked at",
     ("s", 0, "WATCH /|r|", OK, {"s": ["/|r"]}),
     START, inside("WRITE /p/q|v", OK), inside("WRITE /x|v", OK), inside("SET_PERMS /p|r0|", OK),
     ("s", "t", "END T|", OK, Differs({"s": ["/p/q|r", "/x|r", "/p|r"]},
                                      {"s": ["/p/q|r", "/p|r", "/x|r"]}, "order-of-commit")))

rule("B.8-65", "events of a commit are seen by who can read now, or could before",
     write("/secret", "n0"), write("/secret/three", "n0|r3", "x"), write("/secret/none", "n0"),
     ("g3", 0, "WATCH /secret|t|", OK, {"g3": ["/secret|t"]}),
     START, inside("WRITE /secret/three|y", OK), inside("WRITE /secret/none|y", OK),
     ("s", "t", "END T|", OK, {"g3": ["/secret/three|t"]}),
     START, inside("SET_PERMS /secret/three|n0|", OK), inside("WRITE /secret/three|z", OK),
     ("s", "t", "END T|", OK, {"g3": ["/secret/three|t"]}),
     START, inside("WRITE /secret/three|z", OK), COMMITS,
     ("s", 0, "SET_PERMS /secret/three|n0|r3|", OK, {"g3": ["/secret/three|t"]}),
     START, inside("RM /secret/three|", OK), inside("RM /secret/none|", OK),
     ("s", "t", "END T|", OK, {"g3": ["/secret/three|t"]}),
     domains=(3,))

rule("B.8-91", "GET_PERMS and DIRECTORY_PART work inside as outside",
     ("s", 0, "WRITE /d/a|x", OK), START, inside("GET_PERMS /d|", "n0|"),
     inside("WRITE /d|y", OK), inside("PART /d/a|0|", EMPTY_PART),
     inside("PART /d|2|", EMPTY_PART), COMMITS)

rule("B.8-92", "what closes a connection ends its transactions",
     START, inside("WRITE /a|lost", OK), close("s"), ("s", 0, "READ /a|", "ENOENT"),
     ("s", 1, "READ /a|", "ENOENT"),
     ("g3", 0, "START |", Bind("g")), ("g3", "g", "WRITE a|lost", OK),
     ("s", 0, "RELEASE 3|", OK), ("s", 0, "INTRODUCE $3|", OK),
     ("g3", "g", "END T|", "ENOENT"), ("s", 0, "READ /local/domain/3/a|", "ENOENT"),
     domains=(3,))

rule("B.8-92g", "a guest's stream may end, its domain's transactions and watches stay",
     ("g3", 0, "START |", Bind("g")), ("g3", "g", "WRITE a|x", OK),
     ("g3", 0, "WATCH a|t|", OK, {"g3": ["a|t"]}), close("g3"),
     ("g3", "g", "END T|", OK, {"g3": ["a|t"]}), ("s", 0, "READ /local/domain/3/a|", "x"),
     domains=(3,))

rule("B.8-94", "an error inside does not end the transaction",
     ("s", 0, "WRITE /a|x", OK), START, inside("READ /none|", "ENOENT"),
     inside("READ bad.path|", "EINVAL"), inside("RM /none/x|", "ENOENT"),
     inside("SET_PERMS /none|n0|", "ENOENT"), inside("RM /|", "EINVAL"), inside("WRITE", "EINVAL"),
     inside("WRITE /b|1", OK), COMMITS, ("s", 0, "READ /b|", "1"),
     ("g3", 0, "START |", Bind("t")), ("g3", "t", "WRITE /a|x", "EACCES"),
     ("g3", "t", "WRITE a|1", OK), ("g3", "t", "END T|", OK),
     ("s", 0, "READ /local/domain/3/a|", "1"),
     domains=(3,))

rule("B.8-94q", "a quota hit inside dooms it: nothing happened",
     ("s", 0, "CONTROL quota|set|nodes|3|", OK),
     ("g3", 0, "START |", Bind("t")), ("g3", "t", "WRITE a|1", OK), ("g3", "t", "WRITE b|1", OK),
     ("g3", "t", "WRITE c|1", Differs("ENOSPC", OK, "quota-inside")),
     ("g3", "t", "END T|", OneOf("ENOMEM", "ENOSPC")),
     ("g3", 0, "DIRECTORY /local/domain/3|", ""), ("g3", "t", "END F|", "ENOENT"),
     ("g3", 0, "START |", Bind("t")),
     ("g3", "t", "WRITE a/b/c|1", Differs("ENOSPC", OK, "quota-inside")),
     ("g3", "t", "END F|", OK), ("g3", 0, "DIRECTORY /local/domain/3|", ""),
     domains=(3,))

rule("B.8-94s", "a node too large inside dooms it: ENOMEM at END T, and nothing happened",
     ("g3", 0, "START |", Bind("t")), ("g3", "t", "WRITE a|1", OK),
     ("g3", "t", "WRITE b|" + "v" * 2016, "ENOSPC"), ("g3", "t", "END T|", "ENOMEM"),
     ("g3", 0, "DIRECTORY /local/domain/3|", ""), ("g3", "t", "END F|", "ENOENT"),
     domains=(3,))

rule("B.8-87d", "removing a dead domain's node again is no reason to refuse",
     START, inside("RM /local/domain/3|", OK), ("x", 0, "destroy 3", OK),
     ("s", "t", "END T|", Differs(OK, "ENOMEM", "refused-death")),
     domains=(3,))

rule("B.8-89c", "a conflict and a quota at once",
     ("s", 0, "WRITE /a/b|x", OK), ("g3", 0, "START |", Bind("t")),
     ("g3", "t", "WRITE /a|" + "v" * 2015, "EACCES"), ("s", 0, "SET_PERMS /a|w3|w3|", OK),
     ("g3", "t", "END T|", "EAGAIN"),
     domains=(3,))

rule("B.8-89", "the node quota is checked again at END: ENOSPC",
     ("s", 0, "CONTROL quota|set|nodes|3|", OK),
     ("g3", 0, "START |", Bind("t")), ("g3", "t", "WRITE a|1", OK), ("g3", "t", "WRITE b|1", OK),
     ("g3", 0, "WRITE c|1", OK), ("g3", "t", "END T|", "ENOSPC"),
     ("g3", 0, "DIRECTORY /local/domain/3|", "c|"), ("g3", "t", "END F|", "ENOENT"),
     domains=(3,))

if __name__ == "__main__":
    sys.exit(main())
