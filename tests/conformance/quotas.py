#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every limit with the exact count of C xenstored 4.17 (A.5), by default and by option (A.7)."""

import sys

from script import OK, Bind, OneOf, main, ours_only, rule


def watch(who, path, answer=OK):
    return (who, 0, f"WATCH {path}|t|", answer, {who: [f"{path}|t"]} if answer == OK else {})


rule("A.5-watches", "129 watches of a guest, then E2BIG; any number of a privileged client",
     [watch("g3", f"w{i}") for i in range(129)],
     watch("g3", "one-more", "E2BIG"), watch("g3", "w5", OneOf("EEXIST", "E2BIG")),
     ("g3", 0, "UNWATCH w7|t|", OK), watch("g3", "one-more"), watch("g3", "and-more", "E2BIG"),
     watch("g7", "w0"), ("g3", 0, "RESET_WATCHES |", OK),
     [watch("g3", f"v{i}") for i in range(129)], watch("g3", "more", "E2BIG"),
     [watch("s", f"/w{i}") for i in range(140)],
     domains=(3, 7))


def fill(world):
    """999 nodes below the guest's home, which is the thousandth."""
    for directory in range(9):
        world.ok("g3", f"MKDIR d{directory}|")
        for leaf in range(110):
            world.ok("g3", f"WRITE d{directory}/{leaf}|")


rule("A.5-nodes", "1000 nodes of a guest, then ENOSPC; the missing parents count too",
     fill,
     ("g3", 0, "WRITE more|", "ENOSPC"), ("g3", 0, "MKDIR more|", "ENOSPC"),
     ("g3", 0, "WRITE d1/1|new", OK), ("g3", 0, "MKDIR d1/1|", OK),
     ("g3", 0, "RM d1/1|", OK), ("g3", 0, "WRITE a/b|", "ENOSPC"),
     ("g3", 0, "READ a|", "ENOENT"), ("g3", 0, "WRITE a|", OK), ("g3", 0, "WRITE b|", "ENOSPC"),
     ("g3", 0, "RM d2|", OK), ("g3", 0, "WRITE a/b/c/d|", OK),
     ("g7", 0, "WRITE a|", OK),
     ("s", 0, "CONTROL check|", OK),
     domains=(3, 7))

rule("A.5-permissions", "5 entries of a guest, any number of a privileged client",
     ("g3", 0, "WRITE a|", OK),
     ("g3", 0, "SET_PERMS a|n3|r1|r2|r4|r5|", OK), ("g3", 0, "SET_PERMS a|n3|r1|r2|r4|r5|r6|",
                                                   "ENOSPC"),
     ("g3", 0, "SET_PERMS a|n3" + "|r1" * 500 + "|", "ENOSPC"),
     ("s", 0, "SET_PERMS /local/domain/3/a|n3|r1|r2|r4|r5|r6|r7|", OK),
     ("g3", 0, "WRITE a/child|", OneOf(OK, "ENOSPC")),
     ("g3", 0, "SET_PERMS a|n3|", OK),
     domains=(3,))


def many_nodes(world):
    for i in range(1030):
        world.ok("s", f"WRITE /many/{i // 100}/{i}|{i}")


def read(i):
    return ("g3", "t", f"READ /many/{i // 100}/{i}|")


rule("A.5-transaction-nodes", "1024 nodes in a guest's transaction, then ENOSPC and it cannot commit",
     [("s", 0, "WRITE /many|", OK), ("s", 0, "SET_PERMS /many|r0|", OK)], many_nodes,
     ("g3", 0, "START |", Bind("t")),
     [(*read(i), str(i)) for i in range(1024)], (*read(5), "5"),
     (*read(1024), "ENOSPC"), (*read(1025), "ENOSPC"),
     ("g3", "t", "END T|", OneOf("ENOMEM", "ENOSPC")), ("g3", "t", "END F|", "ENOENT"),
     ("g3", 0, "START |", Bind("t")), [(*read(i), str(i)) for i in range(1024)],
     ("g3", "t", "END T|", OK),
     domains=(3,))

rule("A.5-path-max", "path-max can be made smaller: EINVAL above it",
     ("s", 0, "CONTROL quota|set|path-max|64|", OK),
     ("g3", 0, "WRITE " + "a" * 64 + "|x", OK), ("g3", 0, "WRITE " + "a" * 65 + "|x", "EINVAL"),
     ("g3", 0, "READ " + "a" * 65 + "|", "EINVAL"),
     ("g3", 0, "READ /local/domain/3/" + "a" * 64 + "|", "x"),
     domains=(3,))

# The options that set them.

rule("A.7-W", "--watch-nb", [watch("g3", f"w{i}") for i in range(4)], watch("g3", "x", "E2BIG"),
     domains=(3,), options=("--watch-nb=3",))
rule("A.7-t", "--transaction", [("g3", 0, "START |", Bind(f"t{i}")) for i in range(3)],
     ("g3", 0, "START |", "ENOSPC"), domains=(3,), options=("-t", "2"))
rule("A.7-E", "--entry-nb", ("g3", 0, "WRITE a/b|", OK), ("g3", 0, "WRITE c|", "ENOSPC"),
     domains=(3,), options=("-E", "3"))
rule("A.7-S", "--entry-size", ("g3", 0, "WRITE a|" + "v" * 67, OK),
     ("g3", 0, "WRITE a|" + "v" * 68, "ENOSPC"), domains=(3,), options=("-S", "100"))
rule("A.7-A", "--perm-nb", ("g3", 0, "WRITE a|", OK), ("g3", 0, "SET_PERMS a|n3|r1|", OK),
     ("g3", 0, "SET_PERMS a|n3|r1|r2|", "ENOSPC"), domains=(3,), options=("-A", "2"))
rule("A.7-M", "--path-max", ("g3", 0, "WRITE " + "a" * 40 + "|", OK),
     ("g3", 0, "WRITE " + "a" * 41 + "|", "EINVAL"), domains=(3,), options=("-M", "40"))
rule("A.7-Q", "--quota transaction-nodes", ("g3", 0, "WRITE a|", OK), ("g3", 0, "WRITE b|", OK),
     ("g3", 0, "WRITE c|", OK), ("g3", 0, "START |", Bind("t")), ("g3", "t", "READ a|", ""),
     ("g3", "t", "READ b|", ""), ("g3", "t", "READ c|", "ENOSPC"),
     ours_only("newer", ("s", 0, "GET_QUOTA memory|", "3000000|"),
               ("s", 0, "GET_QUOTA soft-memory|", "1000000|")),
     domains=(3,), options=("-Q", "transaction-nodes=2", "--quota=memory=3000000",
                            "-q", "memory=1000000"))

if __name__ == "__main__":
    sys.exit(main())
