#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The protocol as rows: framing, arguments, paths, permissions, tree, watches, domains.

Rule numbers: B.1 framing, B.2 arguments, B.3 paths, B.4 permissions, B.5 the tree, B.6 watches,
B.7 domains. Transactions (B.8), CONTROL, features and quotas are in files of their own.
"""

import re
import sys

from script import (ANYTHING, CLOSED, EMPTY_PART, OK, Bind, Check, Differs, OneOf, close, each,
                    main, ours_only, rule, write)

ONE_ARGUMENT = ["READ", "DIRECTORY", "MKDIR", "RM", "GET_PERMS", "GET_DOMAIN_PATH", "RELEASE",
                "RESUME", "IS_INTRODUCED", "END"]
PRIVILEGED = ["CONTROL", "INTRODUCE", "RELEASE", "RESUME", "SET_TARGET", "IS_INTRODUCED"]
NEWER = ["GET_FEATURE", "SET_FEATURE", "GET_QUOTA", "SET_QUOTA"]


# B.1 Framing and dispatch

rule("B.1-1", "unknown types are answered ENOSYS and the connection stays usable",
     [("s", 0, (number, payload), "ENOSYS")
      for number in (15, 16, 20, 27, 28, 99, 1000, 0xffff, 0x10000, 0x80000000, 0xffffffff)
      for payload in ("", "/|", "x" * 4096)],
     ("s", 0, "READ /|", ""),
     each("g3", [(15, "/|"), (16, "/|"), (20, "0|"), (27, ""), (0xffff, "x")], "ENOSYS"),
     ("g3", 0, "GET_DOMAIN_PATH 3|", "/local/domain/3|"),
     domains=(3,))

rule("B.1-2", "type is looked at first, then privilege, then the transaction, then the payload",
     [("g3", tx, f"{op} {payload}", answer) for tx, payload in ((99, "bad"), (0, "3|"))
      for ops, answer in ((PRIVILEGED, "EACCES"), (NEWER, Differs("EACCES", "ENOSYS", "newer")))
      for op in ops],
     ("g3", 99, (27, "x"), "ENOSYS"),
     ("g3", 99, (20, "0|"), "ENOSYS"),
     ("s", 99, (15, "x"), "ENOSYS"),
     ("s", 99, "READ no-nul", "ENOENT"),
     ("s", 99, "READ /a.b|", "ENOENT"),
     ("g3", 99, "READ no-nul", "ENOENT"),
     ("s", 99, "INTRODUCE x", "ENOENT"),
     ("s", 99, "END X|", "ENOENT"),
     domains=(3,))

rule("B.1-3", "WATCH and UNWATCH ignore the transaction id, START and all others do not",
     ("s", 99, "WATCH /a|t|", OK, {"s": ["/a|t"]}),
     ("s", 99, "UNWATCH /a|t|", OK),
     ("s", 99, "UNWATCH /a|t|", "ENOENT"),
     ("s", 99, "START |", "ENOENT"),
     ("s", 0, "START |", Bind("t")),
     ("s", "t", "START |", "EBUSY"),
     ("s", "t", "WATCH /a|t|", OK, {"s": ["/a|t"]}),
     ("s", "t", "WATCH /a|t|", "EEXIST"),
     ("s", "t", "GET_DOMAIN_PATH 4|", "/local/domain/4|"),
     [("s", 99, request, "ENOENT") for request in
      ("RESET_WATCHES |", "GET_DOMAIN_PATH 1|", "INTRODUCE 9|0|1|", "RELEASE 3|", "RESUME 3|",
       "IS_INTRODUCED 3|", "SET_TARGET 3|3|", "CONTROL check|", "READ /|", "DIRECTORY /|",
       "WRITE /b|", "MKDIR /b|", "RM /b|", "GET_PERMS /|", "SET_PERMS /|n0|", "PART /|0|",
       "END T|", "END F|")],
     [("s", 99, request, Differs("ENOENT", "ENOSYS", "newer")) for request in
      ("GET_FEATURE", "GET_QUOTA")],
     ("s", "t", "END T|", OK),
     ("s", 0, "READ /b|", "ENOENT"),
     ("s", 0, "IS_INTRODUCED 3|", "T|"),
     domains=(3,))


def odd_request_ids(world):
    client = world.client("s")
    for req in (0, 1, 0x7fffffff, 0x80000000, 0xffffffff):
        client.send(2, b"/\0", 0, req)
        got = client.recv()
        if got != (2, req, 0, b""):
            return [f"req_id {req}: reply {got}"]
        client.send(2, b"/missing\0", 0, req)
        got = client.recv()
        if got != (16, req, 0, b"ENOENT\0"):
            return [f"req_id {req}: reply {got}"]
    return []


rule("B.1-4", "a reply has the request's req_id and tx_id",
     odd_request_ids,
     ("s", 0xffffffff, "READ /|", "ENOENT"),
     ("s", 0xffffffff, "WATCH /a|t|", OK, {"s": ["/a|t"]}))

rule("B.1-5", "success without data is OK and a NUL",
     ("s", 0, "WRITE /a|x", OK), ("s", 0, "MKDIR /b|", OK), ("s", 0, "RM /b|", OK),
     ("s", 0, "SET_PERMS /a|n0|", OK), ("s", 0, "RESET_WATCHES |", OK),
     ("s", 0, "INTRODUCE $3|", OK), ("s", 0, "RESUME 3|", OK), ("s", 0, "RELEASE 3|", OK))

rule("B.1-6", "a length above 4096 ends that connection without an answer; 4096 is legal",
     ("s2", 0, "READ /|", ""),
     ("s", 0, "WRITE /a|" + "x" * 4093, OK),
     ("s", 0, "READ /a|", "x" * 4093),
     ours_only("malformed", ("s", 0, "READ " + "x" * 4096, "EINVAL")),
     ("s", 0, "READ " + "x" * 4097, CLOSED),
     ("s2", 0, "READ /a|", "x" * 4093))

rule("B.1-9", "a payload of no bytes is legal framing",
     ours_only("malformed", each("s", ONE_ARGUMENT, "EINVAL")),
     each("s", ["WRITE", "WATCH", "UNWATCH", "PART", "SET_PERMS", "INTRODUCE", "SET_TARGET",
                "CONTROL"], "EINVAL"),
     ("s", 0, "START", Bind("t", 1)), ("s", "t", "END F|", OK),
     ("s", 0, "RESET_WATCHES", OK),
     ours_only("malformed", each("g3", ["READ", "RM", "END"], "EINVAL")),
     each("g3", ["WRITE", "WATCH"], "EINVAL"),
     ("g3", 0, "START", Bind("u", 1)), ("g3", 0, "RESET_WATCHES", OK),
     domains=(3,))

# B.2 Arguments

rule("B.2-17", "requests of one argument need one NUL, at the end",
     ("s", 0, "WRITE /a|x", OK),
     [each("s", [(op, payload) for payload in
                 ("/a", "3", "/a||", "3||", "/a|x", "3|x", "/a|x|", "3|3|", "||", "|x", "|/a|")],
           "EINVAL") for op in ONE_ARGUMENT],
     each("s", [f"{op} |" for op in ("READ", "DIRECTORY", "MKDIR", "RM", "GET_PERMS", "END")],
          "EINVAL"),
     each("s", ["END T", "END F", "END T||", "END T|x", "END TT|"], "EINVAL"),
     each("g3", [(op, payload) for op in ("READ", "DIRECTORY", "MKDIR", "RM", "GET_PERMS", "END")
                 for payload in ("", "a", "a||", "a|x", "a|x|", "|a|")], "EINVAL"),
     ("s", 0, "READ /a|", "x"),
     ("s", 0, "IS_INTRODUCED 3|", "T|"),
     domains=(3,), only="malformed")

rule("B.2-18", "WRITE's value is everything after the first NUL",
     each("s", ["WRITE", "WRITE /a", "WRITE |", "WRITE |x"], "EINVAL"),
     ("s", 0, "WRITE /a|", OK), ("s", 0, "READ /a|", ""),
     ("s", 0, "WRITE /a|x", OK), ("s", 0, "READ /a|", "x"),
     ("s", 0, "WRITE /a|x|", OK), ("s", 0, "READ /a|", "x|"),
     ("s", 0, "WRITE /a||||x||", OK), ("s", 0, "READ /a|", "|||x||"),
     ("s", 0, ("WRITE", b"/a\0" + bytes(range(256))), OK),
     ("s", 0, "READ /a|", bytes(range(256))))

rule("B.2-19", "WATCH and UNWATCH take two strings; bytes after them without a NUL are ignored",
     [each("s", [f"{op}{payload}" for payload in
                 ("", " |", " /a", " /a|", " /a|t", " |t|")], "EINVAL") for op in ("WATCH",)],
     each("s", ["UNWATCH", "UNWATCH |", "UNWATCH /a", "UNWATCH /a|", "UNWATCH /a|t"], "EINVAL"),
     ("s", 0, "WATCH /a|t|junk", OK, {"s": ["/a|t"]}),
     ("s", 0, "WATCH /a|t|", "EEXIST"),
     ("s", 0, "UNWATCH /a|t|x|", "EINVAL"),
     ("s", 0, "WATCH /a|t|1|2|", "EINVAL"),
     ("s", 0, "UNWATCH /a|t|junk", OK),
     ("s", 0, "WATCH /a||", OK, {"s": ["/a|"]}),
     ("s", 0, "WRITE /a|x", OK, {"s": ["/a|"]}),
     ("s", 0, "UNWATCH /a||", OK))

rule("B.2-20", "WATCH's third string is the depth: a number that is not negative",
     each("s", ["WATCH /a|t|-1|", "WATCH /a|t|-2147483648|"], "EINVAL"),
     ("s", 0, "WATCH /a|t|0|", OK, {"s": ["/a|t"]}),
     ("s", 0, "WATCH /a|t|5|", "EEXIST"),
     ("g3", 0, "WATCH a|t|-1|", "EINVAL"),
     ("g3", 0, "WATCH a|t|2|", OK, {"g3": ["a|t"]}),
     domains=(3,), only="newer")

rule("B.2-20", "4.17 knows no depth",
     ("s2", 0, "WATCH /a|t|0|", Differs(OK, "EINVAL", "newer"),
      Differs({"s2": ["/a|t"]}, {}, "newer")))

rule("B.2-21", "DIRECTORY_PART takes exactly two NULs",
     each("s", ["PART", "PART /", "PART /|", "PART /|0", "PART /|0|0|", "PART ||"], "EINVAL"),
     ("s", 0, "WRITE /a|", OK),
     ("s", 0, "PART /a|0|", EMPTY_PART),
     ("s", 0, "PART /a|0|x", EMPTY_PART))

rule("B.2-22", "SET_PERMS: letters rwbn, numbers in any base of C, at least one entry",
     ("s", 0, "WRITE /a|", OK),
     each("s", ["SET_PERMS", "SET_PERMS /a", "SET_PERMS /a|", "SET_PERMS /a|n0",
                "SET_PERMS /a|x0|", "SET_PERMS /a|0|", "SET_PERMS /a|n3x|", "SET_PERMS /a|N3|",
                "SET_PERMS /a||", "SET_PERMS /a|n0|q3|", "SET_PERMS /a|n0||",
                "SET_PERMS |n0|"], "EINVAL"),
     ("s", 0, "GET_PERMS /a|", "n0|"),
     ("s", 0, "SET_PERMS /a|n0x3|", OK), ("s", 0, "GET_PERMS /a|", "n3|"),
     ("s", 0, "SET_PERMS /a|b010|r3|", OK), ("s", 0, "GET_PERMS /a|", "b8|r3|"),
     ("s", 0, "SET_PERMS /a|w0|r3|junk", OK), ("s", 0, "GET_PERMS /a|", "w0|r3|"),
     domains=(3, 8))

rule("B.2-23", "INTRODUCE: three strings, a domid of 16 bits, a port above 0; the frame is ignored",
     each("s", ["INTRODUCE", "INTRODUCE |", "INTRODUCE 6|", "INTRODUCE 6|0|", "INTRODUCE 6|0|1",
                "INTRODUCE 6|0|0|", "INTRODUCE 6|0|-1|", "INTRODUCE 65536|0|1|",
                "INTRODUCE -1|0|1|"], "EINVAL"),
     each("s", ["INTRODUCE x|0|1|", "INTRODUCE |0|1|"], Differs("EINVAL", OK, "numbers")),
     ("s", 0, "IS_INTRODUCED 6|", "F|"),
     ("s", 0, "INTRODUCE $6|", OK), ("s", 0, "IS_INTRODUCED 6|", "T|"),
     ("s", 0, "INTRODUCE 7|123456|$port7|more|", OK), ("s", 0, "IS_INTRODUCED 7|", "T|"))

rule("B.2-24", "SET_TARGET takes two introduced domains",
     each("s", ["SET_TARGET", "SET_TARGET |", "SET_TARGET 3|", "SET_TARGET 3|7"], "EINVAL"),
     each("s", ["SET_TARGET 3|99|", "SET_TARGET 99|3|", "SET_TARGET 98|99|"], "ENOENT"),
     ("s", 0, "SET_TARGET 3|7|", OK),
     domains=(3, 7))

rule("B.2-25", "RELEASE and RESUME: not domain 0, and only introduced ones",
     each("s", ["RELEASE 0|", "RELEASE |", "RELEASE x|", "RESUME 0|", "RESUME |", "RESUME x|"],
          "EINVAL"),
     each("s", ["RELEASE 99|", "RESUME 99|"], "ENOENT"),
     ("s", 0, "RESUME 3|", OK), ("s", 0, "RESUME 3|", OK),
     ("s", 0, "RELEASE 3|", OK), ("s", 0, "RELEASE 3|", "ENOENT"), ("s", 0, "RESUME 3|", "ENOENT"),
     domains=(3,))

rule("B.2-26", "GET_DOMAIN_PATH makes a name and does not look whether it exists",
     [(who, 0, f"GET_DOMAIN_PATH {domid}|", f"/local/domain/{domid}|")
      for who in ("s", "g3") for domid in (0, 1, 3, 77, 32000)],
     ("s", 0, "GET_DOMAIN_PATH |", "/local/domain/0|"),
     domains=(3,))

rule("B.2-27", "IS_DOMAIN_INTRODUCED says T or F; DOMID_SELF is T; guests may not ask",
     ("s", 0, "IS_INTRODUCED 3|", "T|"), ("s", 0, "IS_INTRODUCED 4|", "F|"),
     ("s", 0, "IS_INTRODUCED 32752|", "T|"),
     ("s", 0, "IS_INTRODUCED x|", OneOf("T|", "EINVAL")),
     ("g3", 0, "IS_INTRODUCED 3|", "EACCES"),
     ("s", 0, "RELEASE 3|", OK), ("s", 0, "IS_INTRODUCED 3|", "F|"),
     domains=(3,))

rule("B.2-28", "TRANSACTION_END: T or F, looked at before the missing transaction",
     each("s", ["END X|", "END t|", "END |", "END TF|"], "EINVAL"),
     each("s", ["END T|", "END F|"], "ENOENT"),
     ("s", 0, "START |", Bind("t")),
     ("s", "t", "WRITE /a|x", OK),
     ("s", "t", "END X|", "EINVAL"),
     ("s", "t", "READ /a|", "x"),
     ("s", "t", "END T|", OK),
     ("s", "t", "END T|", "ENOENT"),
     ("s", 0, "READ /a|", "x"))

rule("B.2-29", "TRANSACTION_START ignores its payload and answers the id in decimal",
     ("s", 0, "START |", Bind("a", 1)), ("s", 0, "START", Bind("b", 2)),
     ("s", 0, "START any|thing", Bind("c", 3)))

rule("B.2-30", "RESET_WATCHES ignores its payload",
     each("s", ["RESET_WATCHES", "RESET_WATCHES |", "RESET_WATCHES any|thing"], OK),
     each("g3", ["RESET_WATCHES", "RESET_WATCHES |", "RESET_WATCHES any|thing"], OK),
     domains=(3,))

# B.3 Paths

LEGAL = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_@"

rule("B.3-31", "legal characters are letters, digits and -/_@",
     [("s", 0, (op, b"/a" + bytes([c]) + tail), "EINVAL")
      for op, tail in (("READ", b"\0"), ("WRITE", b"b\0x"), ("MKDIR", b"/b\0"))
      for c in range(1, 256) if c not in LEGAL + b"/"],
     [("s", 0, ("WRITE", b"/" + bytes([c]) + b"\0x"), OK) for c in LEGAL],
     [("s", 0, ("READ", b"/" + bytes([c]) + b"\0"), "x") for c in LEGAL],
     each("s", [(op, f"/a.b|{more}") for op, more in
                (("RM", ""), ("DIRECTORY", ""), ("GET_PERMS", ""), ("SET_PERMS", "n0|"),
                 ("PART", "0|"), ("WATCH", "t|"))], "EINVAL"),
     each("g3", ["READ a.b|", "WRITE a b|x", "WATCH a:b|t|", "READ a+b|"], "EINVAL"),
     domains=(3,))

rule("B.3-32", "no doubled slash, no slash at the end, no empty path",
     ("s", 0, "WRITE /a/b|x", OK),
     [each("s", [(op, f"{path}|{more}") for op, more in
                 (("READ", ""), ("WRITE", "x"), ("MKDIR", ""), ("RM", ""), ("DIRECTORY", ""),
                  ("GET_PERMS", ""), ("SET_PERMS", "n0|"), ("PART", "0|"), ("WATCH", "t|"))],
           "EINVAL") for path in ("//", "//a", "/a//b", "/a/", "/a/b//", "a/", "a//b", "")],
     ("s", 0, "READ /|", ""), ("s", 0, "READ /a/b|", "x"),
     ("g3", 0, "READ |", "EINVAL"), ("g3", 0, "READ a/|", "EINVAL"),
     domains=(3,))

rule("B.3-33", "a path without a slash at its start is below /local/domain/<own id>",
     ("s", 0, "WRITE foo|x", OK), ("s", 0, "READ /local/domain/0/foo|", "x"),
     ("s2", 0, "READ foo|", "x"),
     ("g3", 0, "WRITE device/v|y", OK), ("s", 0, "READ /local/domain/3/device/v|", "y"),
     ("g3", 0, "READ /local/domain/3/device/v|", "y"),
     ("s", 0, "READ device/v|", "ENOENT"),
     ("g3", 0, "DIRECTORY device|", "v|"),
     domains=(3,))


def name_of(length):
    return "a" * length


rule("B.3-34", "2048 bytes of path, not counting a /local/domain/<n>/ in front",
     ("s", 0, f"READ /{name_of(2047)}|", "ENOENT"), ("s", 0, f"READ /{name_of(2048)}|", "EINVAL"),
     [("s", 0, f"READ /local/domain/{domid}/{name_of(length)}|", wanted)
      for domid in (0, 3, 77, 65535) for length, wanted in ((2048, "ENOENT"), (2049, "EINVAL"))],
     ("s", 0, f"READ {name_of(2048)}|", "ENOENT"), ("s", 0, f"READ {name_of(2049)}|", "EINVAL"),
     ("g3", 0, f"READ {name_of(2048)}|", "ENOENT"), ("g3", 0, f"READ {name_of(2049)}|", "EINVAL"),
     ("g3", 0, f"READ /local/domain/3/{name_of(2048)}|", "ENOENT"),
     ("g3", 0, f"READ /local/domain/3/{name_of(2049)}|", "EINVAL"),
     ("s", 0, f"WRITE /local/domain/3/{name_of(2048)}|x", OK),
     ("s", 0, f"READ /local/domain/3/{name_of(2048)}|", "x"),
     ("s", 0, f"WRITE /{name_of(2047)}|y", OK), ("s", 0, f"READ /{name_of(2047)}|", "y"),
     ("s", 0, f"WRITE /{name_of(2048)}|y", "EINVAL"),
     ("s", 0, f"WATCH /{name_of(2048)}|t|", "EINVAL"),
     domains=(3,))

rule("B.3-35", "names with @ are for watches and SET_PERMS only",
     [each("s", [(op, f"{name}|{more}") for op, more in
                 (("READ", ""), ("WRITE", "x"), ("MKDIR", ""), ("RM", ""), ("DIRECTORY", ""),
                  ("PART", "0|"))], "EINVAL")
      for name in ("@releaseDomain", "@introduceDomain", "@foo", "@")],
     ("s", 0, "SET_PERMS @foo|n0|", "EINVAL"),
     ("s", 0, "SET_PERMS @releaseDomain|n0|r3|", OK),
     ("s", 0, "SET_PERMS @introduceDomain|n0|r3|", OK),
     ("s", 0, "GET_PERMS @releaseDomain|", OneOf("n0|r3|", "EINVAL")),
     ("s", 0, "GET_PERMS @foo|", OneOf("ENOENT", "EINVAL")),
     ("g3", 0, "SET_PERMS @releaseDomain|n3|", OneOf("EACCES", "EINVAL", "EPERM")),
     ("g3", 0, "READ @releaseDomain|", "EINVAL"),
     ("s", 0, "WATCH @foo|t|", OK, {"s": ["@foo|t"]}),
     ("s", 0, "UNWATCH @foo|t|", OK),
     domains=(3,))

rule("B.3-36", "UNWATCH compares only: a bad path is ENOENT",
     each("s", [f"UNWATCH {path}|t|" for path in ("/a.b", "//", "/a/", "/a", "@foo", "")],
          "ENOENT"),
     each("g3", ["UNWATCH a.b|t|", "UNWATCH //|t|"], "ENOENT"),
     domains=(3,))

rule("B.3-37", "a watch is known by its absolute path and its token",
     ("g3", 0, "WATCH device|t|", OK, {"g3": ["device|t"]}),
     ("g3", 0, "WATCH /local/domain/3/device|t|", "EEXIST"),
     ("g3", 0, "WATCH /local/domain/3/device|u|", OK, {"g3": ["/local/domain/3/device|u"]}),
     ("g3", 0, "WATCH device|u|", "EEXIST"),
     ("g3", 0, "UNWATCH /local/domain/3/device|t|", OK),
     ("g3", 0, "UNWATCH device|u|", OK),
     domains=(3,))

# B.4 Permissions

rule("B.4-38", "a missing node is ENOENT only where its nearest ancestor grants the right",
     write("/secret", "n0"), write("/open", "r0"), write("/drop", "w0"), write("/both", "b0"),
     each("g3", ["READ /secret/x|", "READ /secret/x/y/z|", "DIRECTORY /secret/x|",
                 "GET_PERMS /secret/x|", "PART /secret/x|0|", "WRITE /secret/x|v",
                 "MKDIR /secret/x|", "RM /secret/x|", "SET_PERMS /secret/x|n3|",
                 "READ /missing|", "WRITE /missing|v", "READ /secret|"], "EACCES"),
     each("g3", ["READ /open/x|", "READ /open/x/y/z|", "DIRECTORY /open/x|",
                 "GET_PERMS /open/x|", "PART /open/x|0|"], "ENOENT"),
     each("g3", ["WRITE /open/x|v", "MKDIR /open/x|", "RM /open/x|", "READ /drop/x|"], "EACCES"),
     ("g3", 0, "RM /drop/x|", OK),
     ("g3", 0, "RM /drop/x/y|", "ENOENT"),
     ("g3", 0, "SET_PERMS /both/x|n3|", "ENOENT"),
     ("g3", 0, "RM /both/x/y|", "ENOENT"), ("g3", 0, "READ /both/x|", "ENOENT"),
     each("s", ["READ /secret/x|", "READ /missing/x/y|", "DIRECTORY /missing|",
                "GET_PERMS /missing|", "SET_PERMS /missing|n0|", "PART /missing|0|"], "ENOENT"),
     domains=(3,))

rule("B.4-39", "what stands above a node does not hide it",
     write("/secret", "n0"), write("/secret/deep", "n0"), write("/secret/deep/pub", "r0", "x"),
     ("g3", 0, "READ /secret/deep/pub|", "x"), ("g3", 0, "READ /secret/deep|", "EACCES"),
     ("g3", 0, "DIRECTORY /secret/deep/pub|", ""),
     domains=(3,))

rule("B.4-40", "owner: all; then the first entry that names the caller; then the first letter",
     [[write("/n", perms, "x"), ("g3", 0, "READ /n|", three), ("g7", 0, "READ /n|", seven)]
      for perms, three, seven in
      (("n0", "EACCES", "EACCES"), ("r0", "x", "x"), ("w0", "EACCES", "EACCES"), ("b0", "x", "x"),
       ("n0|r3", "x", "EACCES"), ("n0|n3|r3", "EACCES", "EACCES"), ("n0|r3|n3", "x", "EACCES"),
       ("r0|n3", "EACCES", "x"), ("b0|w3", "EACCES", "x"), ("n3", "x", "EACCES"),
       ("n3|n3", "x", "EACCES"), ("r3|n7", "x", "EACCES"), ("n7|b3", "x", "x"),
       ("n0|r7|r3", "x", "x"))],
     domains=(3, 7))

rule("B.4-40t", "a stub domain has its target's rights",
     write("/mine", "n3", "x"), write("/shown", "n0|r3", "y"), write("/own7", "n7", "z"),
     each("g7", ["READ /mine|", "READ /shown|"], "EACCES"),
     ("s", 0, "SET_TARGET 7|3|", OK),
     ("g7", 0, "READ /mine|", "x"), ("g7", 0, "WRITE /mine|xx", OK),
     ("g7", 0, "READ /shown|", "y"), ("g7", 0, "WRITE /shown|yy", "EACCES"),
     ("g3", 0, "READ /own7|", "EACCES"),
     ("g7", 0, "WRITE /local/domain/3/new|v", OK), ("g7", 0, "RM /mine|", OK),
     ("s", 0, "SET_TARGET 7|8|", OK),
     ("g7", 0, "READ /local/domain/3|", "EACCES"),
     ("g7", 0, "READ /local/domain/8|", ""),
     domains=(3, 7, 8))


def access_table(letter, read, write_):
    """What a guest that is not the owner can do to a node with that letter for it."""
    reading, writing = ("x" if read else "EACCES"), (OK if write_ else "EACCES")
    return [
        write("/t", f"n0|{letter}3", "x"),
        ("g3", 0, "READ /t|", reading),
        ("g3", 0, "DIRECTORY /t|", "" if read else "EACCES"),
        ("g3", 0, "PART /t|0|", EMPTY_PART if read else "EACCES"),
        ("g3", 0, "GET_PERMS /t|", f"n0|{letter}3|" if read else "EACCES"),
        ("g3", 0, "SET_PERMS /t|n0|b3|", "EACCES"),
        ("g3", 0, "MKDIR /t|", writing),
        ("g3", 0, "WRITE /t|x", writing),
        ("g3", 0, "WRITE /t/deep/er|x", writing),
        ("g3", 0, "RM /t/deep|", OK if write_ else "EACCES"),
        ("g3", 0, "RM /t|", writing),
        ("s", 0, "READ /t|", "ENOENT" if write_ else "x"),
    ]


rule("B.4-41", "reading needs r, writing w on the node or its nearest ancestor, SET_PERMS the owner",
     access_table("n", False, False), access_table("r", True, False),
     access_table("w", False, True), access_table("b", True, True),
     domains=(3,))

rule("B.4-41rm", "RM needs write on the node itself, nothing on its parent or children",
     write("/p", "n0"), write("/p/q", "n0|w3"), write("/p/q/r", "n0"), write("/p/q/r/s", "n7"),
     ("g3", 0, "RM /p/q/r|", "EACCES"), ("g3", 0, "RM /p|", "EACCES"),
     ("g3", 0, "RM /p/q|", OK),
     ("s", 0, "DIRECTORY /p|", ""), ("s", 0, "READ /p/q/r/s|", "ENOENT"),
     domains=(3, 7))

rule("B.4-42", "a new node has its parent's permissions; a guest becomes the owner",
     write("/d", "w0|r7"),
     ("g3", 0, "WRITE /d/x/y|v", OK),
     ("s", 0, "GET_PERMS /d/x|", "w3|r7|"), ("s", 0, "GET_PERMS /d/x/y|", "w3|r7|"),
     ("g3", 0, "MKDIR /d/m|", OK), ("s", 0, "GET_PERMS /d/m|", "w3|r7|"),
     ("s", 0, "WRITE /d/x/z/u|v", OK), ("s", 0, "GET_PERMS /d/x/z|", "w3|r7|"),
     ("s", 0, "GET_PERMS /d/x/z/u|", "w3|r7|"),
     ("s", 0, "WRITE /local/domain/3/by-s|", OK), ("s", 0, "GET_PERMS /local/domain/3/by-s|", "n3|"),
     ("s", 0, "WRITE /new/a/b|", OK), ("s", 0, "GET_PERMS /new/a|", "n0|"),
     domains=(3, 7))

rule("B.4-42b", "a stub domain owns what it makes in its target's tree",
     ("s", 0, "SET_PERMS /local/domain/3|n3|r5|", OK),
     ("s", 0, "SET_TARGET 7|3|", OK),
     ("g7", 0, "WRITE /local/domain/3/x|v", OK),
     ("s", 0, "GET_PERMS /local/domain/3/x|", "n7|r5|"),
     domains=(3, 5, 7))

rule("B.4-43", "an entry of a dead domain is inherited as dead",
     write("/d", "n0|r7"),
     ("s", 0, "RELEASE 7|", OK),
     ("s", 0, "WRITE /d/child|v", OK),
     ("s", 0, "INTRODUCE $7|", OK),
     ("g7", 0, "READ /d|", "EACCES"), ("g7", 0, "READ /d/child|", "EACCES"),
     ("s", 0, "WRITE /d/second|v", OK), ("g7", 0, "READ /d/second|", "EACCES"),
     ("s", 0, "SET_PERMS /d|n0|r7|", OK), ("g7", 0, "READ /d|", ""),
     ("s", 0, "WRITE /d/third|v", OK), ("g7", 0, "READ /d/third|", "v"),
     domains=(7,))

rule("B.4-44", "SET_PERMS: what is checked first",
     write("/mine", "n3"), write("/secret", "n0"), write("/shown", "r0"),
     ("g3", 0, "SET_PERMS /mine|", "EINVAL"),
     ("g3", 0, "SET_PERMS /mine|n3|r3|r3|r3|r3|r3|", "ENOSPC"),
     ("g3", 0, "SET_PERMS /mine|x3|r3|r3|r3|r3|r3|", "ENOSPC"),
     ("g3", 0, "SET_PERMS /mine|n3|r3|r3|r3|x3|", "EINVAL"),
     ("g3", 0, "SET_PERMS /mine|n3|r3|r3|r3|r3|", OK),
     ("g3", 0, "SET_PERMS /secret|n3x|", "EINVAL"),
     ("g3", 0, "SET_PERMS /secret|n3|", "EACCES"),
     ("g3", 0, "SET_PERMS /shown/missing|n3|", OneOf("ENOENT", "EACCES")),
     ("g3", 0, "SET_PERMS /mine|n7|", "EPERM"), ("g3", 0, "SET_PERMS /mine|n0|b3|", "EPERM"),
     ("s", 0, "GET_PERMS /mine|", "n3|r3|r3|r3|r3|"),
     ("s", 0, "SET_PERMS /mine|n3|r7|r3|r7|r3|r7|r3|r7|", OK),
     ("s", 0, "GET_PERMS /mine|", "n3|r7|r3|r7|r3|r7|r3|r7|"),
     domains=(3, 7))

rule("B.4-44d", "SET_PERMS: an owner that is not there is ENOENT, a later entry is stored dead",
     write("/a", "n0"),
     ("s", 0, "SET_PERMS /a|n9|", "ENOENT"), ("s", 0, "GET_PERMS /a|", "n0|"),
     ("s", 0, "SET_PERMS /a|n0|r9|", OK),
     ("s", 0, "INTRODUCE $9|", OK),
     ("g9", 0, "READ /a|", "EACCES"))

rule("B.4-45", "a stub domain may set permissions on its target's node, but not give it away",
     ("s", 0, "SET_TARGET 7|3|", OK), write("/mine", "n3"),
     ("g7", 0, "SET_PERMS /mine|n3|r5|", OK), ("s", 0, "GET_PERMS /mine|", "n3|r5|"),
     ("g7", 0, "SET_PERMS /mine|n7|", "EPERM"), ("g7", 0, "SET_PERMS /mine|n0|", "EPERM"),
     ("s", 0, "GET_PERMS /mine|", "n3|r5|"),
     domains=(3, 5, 7))


def nodes_of(domid, count):
    def check(world):
        got = world.usage(domid).get("nodes")
        return [] if got == count else [f"nodes of {domid}: expected {count}, got {got}"]
    return check


rule("B.4-46", "a new owner is charged, the old one is not any more; children keep theirs",
     ("s", 0, "WRITE /local/domain/3/x/y|", OK), nodes_of(3, 3), nodes_of(7, 1),
     ("s", 0, "SET_PERMS /local/domain/3/x|n7|", OK), nodes_of(3, 2), nodes_of(7, 2),
     ("s", 0, "GET_PERMS /local/domain/3/x/y|", "n3|"),
     ("s", 0, "SET_PERMS /local/domain/3/x|n0|", OK), nodes_of(3, 2), nodes_of(7, 1),
     ("g3", 0, "WRITE z|", OK), nodes_of(3, 3), ("g3", 0, "RM z|", OK), nodes_of(3, 2),
     domains=(3, 7))

rule("B.4-47", "the owner is charged, the creator is checked",
     ("s", 0, "CONTROL quota|set|nodes|5|", OK),
     [("s", 0, f"MKDIR /local/domain/3/d{i}|", OK) for i in range(6)], nodes_of(3, 7),
     ("g3", 0, "WRITE new|", "ENOSPC"), ("g3", 0, "WRITE d1|value", OK),
     ("g3", 0, "RM d1|", OK), ("g3", 0, "RM d2|", OK), ("g3", 0, "WRITE new|", "ENOSPC"),
     ("g3", 0, "RM d3|", OK), ("g3", 0, "WRITE new|", OK), ("g3", 0, "WRITE newer|", "ENOSPC"),
     nodes_of(3, 5),
     domains=(3,))

rule("B.4-48", "GET_PERMS lists all entries in order",
     write("/a", "b0|r3|w7|n5"),
     ("s", 0, "GET_PERMS /a|", "b0|r3|w7|n5|"), ("g3", 0, "GET_PERMS /a|", "b0|r3|w7|n5|"),
     ("s", 0, "RELEASE 7|", OK),
     ("s", 0, "GET_PERMS /a|", OneOf("b0|r3|w7|n5|", "b0|r3|n5|")),
     domains=(3, 5, 7))

rule("B.4-49", "a dead domain's nodes go, with all below them, and are seen to go",
     write("/shared"), write("/shared/mine", "n3"), write("/shared/mine/kid", "n7"),
     write("/shared/other", "n7|r3"), ("g3", 0, "WRITE data/x|v", OK),
     ("s2", 0, "WATCH /shared|p|", OK, {"s2": ["/shared|p"]}),
     ("s2", 0, "WATCH /shared/mine/kid|k|", OK, {"s2": ["/shared/mine/kid|k"]}),
     ("s", 0, "WATCH /local/domain/3/data/x|x|", OK, {"s": ["/local/domain/3/data/x|x"]}),
     ("s", 0, "WATCH /local/domain/3|h|", OK, {"s": ["/local/domain/3|h"]}),
     ("s", 0, "RELEASE 3|", OK, {"s": {"/local/domain/3/data/x|x", "/local/domain/3|h"},
                                 "s2": {"/shared/mine|p", "/shared/mine/kid|k"}}),
     ("s", 0, "DIRECTORY /shared|", "other|"), ("s", 0, "READ /local/domain/3|", "ENOENT"),
     ("s", 0, "DIRECTORY /local/domain|", "7|"), nodes_of(7, 2),
     domains=(3, 7))

rule("B.4-49@", "a dead domain leaves the permissions of the special watches",
     ("s", 0, "SET_PERMS @introduceDomain|n0|r3|", OK),
     ("s", 0, "RELEASE 3|", OK), ("s", 0, "INTRODUCE $3|", OK),
     ("g3", 0, "WATCH @introduceDomain|t|", OK, {"g3": ["@introduceDomain|t"]}),
     ("s", 0, "INTRODUCE $4|", OK),
     domains=(3,))

rule("B.4-50", "the tree starts with /tool/xenstored only",
     ("s", 0, "DIRECTORY /|", "tool|"), ("s", 0, "DIRECTORY /tool|", "xenstored|"),
     ("s", 0, "DIRECTORY /tool/xenstored|", ""), ("s", 0, "READ /|", ""),
     [("s", 0, f"GET_PERMS {path}|", "n0|") for path in ("/", "/tool", "/tool/xenstored")],
     ("s", 0, "READ /local|", "ENOENT"), ("s", 0, "READ foo|", "ENOENT"))

# B.5 The tree

rule("B.5-51", "WRITE makes parents; only the named path is an event; the same value is one too",
     ("s", 0, "WATCH /|r|", OK, {"s": ["/|r"]}),
     ("s2", 0, "WATCH /a/b|p|", OK, {"s2": ["/a/b|p"]}),
     ("s", 0, "WRITE /a/b/c|v", OK, {"s": ["/a/b/c|r"], "s2": ["/a/b/c|p"]}),
     ("s", 0, "READ /a|", ""), ("s", 0, "READ /a/b|", ""), ("s", 0, "READ /a/b/c|", "v"),
     ("s", 0, "WRITE /a/b/c|v", OK, {"s": ["/a/b/c|r"], "s2": ["/a/b/c|p"]}),
     ("s", 0, "SET_PERMS /a/b|r0|", OK, {"s": ["/a/b|r"], "s2": ["/a/b|p"]}),
     ("s", 0, "WRITE /a/b|new", OK, {"s": ["/a/b|r"], "s2": ["/a/b|p"]}),
     ("s", 0, "GET_PERMS /a/b|", "r0|"), ("s", 0, "DIRECTORY /a/b|", "c|"),
     ("s", 0, "READ /a/b/c|", "v"))

rule("B.5-52", "MKDIR of what exists is OK and nothing happens, but needs the right to write",
     write("/shown", "r0", "v"), write("/drop", "w0", "v"),
     ("s", 0, "WATCH /|r|", OK, {"s": ["/|r"]}),
     ("s", 0, "MKDIR /shown|", OK), ("s", 0, "READ /shown|", "v"),
     ("g3", 0, "MKDIR /shown|", "EACCES"), ("g3", 0, "MKDIR /drop|", OK),
     ("s", 0, "MKDIR /x/y/z|", OK, {"s": ["/x/y/z|r"]}),
     ("s", 0, "READ /x/y/z|", ""), ("s", 0, "DIRECTORY /x|", "y|"),
     ("s", 0, "MKDIR /|", OK),
     domains=(3,))

rule("B.5-53", "RM of a missing node is OK where its parent exists; RM / is EINVAL",
     ("s", 0, "WRITE /a/b|v", OK), ("s", 0, "WATCH /|r|", OK, {"s": ["/|r"]}),
     ("s", 0, "RM /a/c|", OK), ("s", 0, "RM /a/c/d|", "ENOENT"), ("s", 0, "RM /nothing|", OK),
     ("s", 0, "RM /nothing/x|", "ENOENT"), ("s", 0, "RM /|", "EINVAL"),
     ("s", 0, "RM /a|", OK, {"s": ["/a|r"]}), ("s", 0, "READ /a/b|", "ENOENT"),
     ("s", 0, "RM /a|", OK), ("s", 0, "DIRECTORY /|", "tool|"))

rule("B.5-54", "RM goes from the bottom to the top",
     ("s", 0, "WRITE /a/b/c|v", OK),
     ("s2", 0, "WATCH /a|a|", OK, {"s2": ["/a|a"]}),
     ("s2", 0, "WATCH /a/b|b|", OK, {"s2": ["/a/b|b"]}),
     ("s2", 0, "WATCH /a/b/c|c|", OK, {"s2": ["/a/b/c|c"]}),
     ("s", 0, "RM /a|", OK, {"s2": ["/a/b/c|c", "/a/b|b", "/a|a"]}))

rule("B.5-55", "DIRECTORY: order of creation, nothing for no children, E2BIG above 4096",
     [("s", 0, f"MKDIR /d/{name}|", OK) for name in ("z", "a", "m", "B", "0")],
     ("s", 0, "DIRECTORY /d|", "z|a|m|B|0|"), ("s", 0, "DIRECTORY /d/z|", ""),
     ("s", 0, "RM /d/a|", OK), ("s", 0, "DIRECTORY /d|", "z|m|B|0|"),
     ("s", 0, "WRITE /d/a|", OK), ("s", 0, "WRITE /d/z|again", OK),
     ("s", 0, "DIRECTORY /d|", "z|m|B|0|a|"),
     [("s", 0, f"MKDIR /e/name-{i:03}|", OK) for i in range(454)],
     ("s", 0, "MKDIR /e/name-last|", OK),
     ("s", 0, "DIRECTORY /e|", "".join(f"name-{i:03}|" for i in range(454)) + "name-last|"),
     ("s", 0, "MKDIR /e/a|", OK), ("s", 0, "DIRECTORY /e|", "E2BIG"),
     ("s", 0, "READ /e|", ""))


def generation(world, path):
    return int(world.ok("s", f"PART {path}|0|").split(b"\0")[0])


def part_of_everything(world):
    """Reads a long directory as libxenstore does."""
    names = [f"a-rather-long-name-{i:04}" for i in range(700)]
    for name in names:
        world.ok("s", f"MKDIR /long/{name}|")
    listing, rounds = b"", 0
    while True:
        payload = world.ok("s", f"PART /long|{len(listing)}|")
        if len(payload) > 4096:
            return [f"part of {len(payload)} bytes"]
        chunk = payload[payload.index(b"\0") + 1:]
        rounds += 1
        last = chunk.endswith(b"\0\0") or chunk == b"\0"
        listing += chunk[:-1] if last else chunk
        if last:
            break
        if rounds > 20:
            return ["no end in 20 parts"]
    if listing != "".join(f"{name}\0" for name in names).encode():
        return ["the parts are not the whole"]
    if rounds < 4:
        return [f"{rounds} parts for 16800 bytes of names"]
    return []


def generations_move(world):
    world.ok("s", "WRITE /g/kid|v")
    seen = [generation(world, "/g")]
    for request, moves in (("READ /g|", False), ("WRITE /g|v", True), ("WRITE /g|v", True),
                           ("WRITE /g/kid|w", False), ("SET_PERMS /g|r0|", True),
                           ("WRITE /g/kid2|", True), ("RM /g/kid2|", True),
                           ("MKDIR /g/kid|", False), ("WRITE /else|", False)):
        world.ok("s", request)
        seen.append(generation(world, "/g"))
        if (seen[-1] != seen[-2]) != moves:
            return [f"{request}: generation {seen[-2]} then {seen[-1]}"]
    return []


rule("B.5-56", "DIRECTORY_PART: generation, a chunk, an empty string at the end",
     ("s", 0, "WRITE /d/a|", OK), ("s", 0, "WRITE /d/bb|", OK),
     ("s", 0, "PART /d|0|", Check("a, bb, end", lambda p, _: re.fullmatch(rb"\d+\0a\0bb\0\0", p))),
     ("s", 0, "PART /d|2|", Check("bb, end", lambda p, _: re.fullmatch(rb"\d+\0bb\0\0", p))),
     ("s", 0, "PART /d|5|", EMPTY_PART), ("s", 0, "PART /d|500|", EMPTY_PART),
     ("s", 0, "PART /d/a|0|", EMPTY_PART), ("s", 0, "PART /d/none|0|", "ENOENT"),
     part_of_everything, generations_move)

rule("B.5-57", "READ gives the bytes of the value and nothing else",
     [[("s", 0, ("WRITE", b"/v\0" + value), OK), ("s", 0, "READ /v|", value)]
      for value in (b"", b"\0", b"x", b"x\0", b"\0x\0\0", bytes(range(256)) * 15)])

rule("B.5-58", "a guest's node may have 2047 bytes with 24 for the head and 8 for a permission",
     ("g3", 0, "MKDIR d|", OK),
     ("g3", 0, "WRITE d/x|" + "v" * 2015, OK), ("g3", 0, "READ d/x|", "v" * 2015),
     ("g3", 0, "WRITE d/x|" + "w" * 2016, "ENOSPC"), ("g3", 0, "READ d/x|", "v" * 2015),
     ("g3", 0, "WRITE d/y|" + "w" * 2016, "ENOSPC"), ("g3", 0, "DIRECTORY d|", "x|"),
     ("g3", 0, "SET_PERMS d/x|n3|r0|", "ENOSPC"), ("g3", 0, "GET_PERMS d/x|", "n3|"),
     ("g3", 0, "WRITE d/x|" + "v" * 2007, OK), ("g3", 0, "SET_PERMS d/x|n3|r0|", OK),
     ("g3", 0, "WRITE d/x|" + "v" * 2008, "ENOSPC"),
     ("s", 0, "WRITE /local/domain/3/big|" + "v" * 4000, OK),
     ("g3", 0, "WRITE big/child|", "ENOSPC"), ("g3", 0, "WRITE big|small", OK),
     ("g3", 0, "WRITE big/child|", OK),
     domains=(3,))

rule("B.5-58c", "names of children count: 155 of 12 bytes, or one of 2014",
     ("g3", 0, "MKDIR d|", OK),
     [("g3", 0, f"MKDIR d/child-{i:06}|", OK) for i in range(155)],
     ("g3", 0, "MKDIR d/child-000155|", "ENOSPC"), ("g3", 0, "RM d/child-000000|", OK),
     ("g3", 0, "MKDIR d/child-000155|", OK), ("s", 0, "MKDIR /local/domain/3/d/more|", OK),
     ("g3", 0, "MKDIR e|", OK),
     ("g3", 0, f"MKDIR e/{name_of(2015)}|", "ENOSPC"), ("g3", 0, "DIRECTORY e|", ""),
     ("g3", 0, f"MKDIR e/{name_of(2014)}|", OK), ("g3", 0, "MKDIR e/a|", "ENOSPC"),
     domains=(3,))

# B.6 Watches

rule("B.6-61", "the same path and token twice is EEXIST; another token fires too",
     ("s", 0, "WATCH /a|t|", OK, {"s": ["/a|t"]}), ("s", 0, "WATCH /a|t|", "EEXIST"),
     ("s", 0, "WATCH /a|u|", OK, {"s": ["/a|u"]}), ("s2", 0, "WATCH /a|t|", OK, {"s2": ["/a|t"]}),
     ("s", 0, "WATCH /b|t|", OK, {"s": ["/b|t"]}),
     ("s", 0, "WRITE /a|x", OK, {"s": ["/a|t", "/a|u"], "s2": ["/a|t"]}),
     ("s", 0, "UNWATCH /a|u|", OK), ("s", 0, "UNWATCH /a|u|", "ENOENT"),
     ("s", 0, "UNWATCH /b|u|", "ENOENT"),
     ("s", 0, "WRITE /a|x", OK, {"s": ["/a|t"], "s2": ["/a|t"]}),
     ("s", 0, "WATCH /a|u|", OK, {"s": ["/a|u"]}))

rule("B.6-62", "a watch fires once at once, after its OK, with the path as it was given",
     write("/secret", "n0"),
     ("g3", 0, "WATCH /secret|t|", OK, {"g3": ["/secret|t"]}),
     ("g3", 0, "WATCH /secret/missing|t|", OK, {"g3": ["/secret/missing|t"]}),
     ("g3", 0, "WATCH device|t|", OK, {"g3": ["device|t"]}),
     ("g3", 0, "WATCH /local/domain/3/device|u|", OK, {"g3": ["/local/domain/3/device|u"]}),
     ("s", 0, "WATCH missing/x|t|", OK, {"s": ["missing/x|t"]}),
     domains=(3,))

rule("B.6-63", "a change fires itself and what is above; RM fires also exactly what goes with it",
     [("s2", 0, f"WATCH {path}|{path}|", OK, {"s2": [f"{path}|{path}"]})
      for path in ("/", "/a", "/a/b", "/a/b/c", "/a/b/c/d", "/a/x", "/ab")],
     ("s", 0, "WRITE /a/b/c|v", OK,
      {"s2": {"/a/b/c|/", "/a/b/c|/a", "/a/b/c|/a/b", "/a/b/c|/a/b/c"}}),
     ("s", 0, "WRITE /a/b|v", OK, {"s2": {"/a/b|/", "/a/b|/a", "/a/b|/a/b"}}),
     ("s", 0, "SET_PERMS /a|r0|", OK, {"s2": {"/a|/", "/a|/a"}}),
     ("s", 0, "WRITE /abc|v", OK, {"s2": ["/abc|/"]}),
     ("s", 0, "RM /a|", OK, {"s2": {"/a/b/c|/a/b/c", "/a/b|/a/b", "/a|/", "/a|/a"}}))

rule("B.6-64", "a watch by a relative path gives relative events",
     ("g3", 0, "WATCH device|t|", OK, {"g3": ["device|t"]}),
     ("g3", 0, "WATCH /local/domain/3|u|", OK, {"g3": ["/local/domain/3|u"]}),
     ("s", 0, "WRITE /local/domain/3/device/x|v", OK,
      {"g3": ["device/x|t", "/local/domain/3/device/x|u"]}),
     ("s", 0, "RM /local/domain/3/device|", OK,
      {"g3": ["device|t", "/local/domain/3/device|u"]}),
     ("s", 0, "WATCH mine|t|", OK, {"s": ["mine|t"]}),
     ("s", 0, "WRITE /local/domain/0/mine/x|", OK, {"s": ["mine/x|t"]}),
     domains=(3,))

rule("B.6-65", "an event is seen only by who can read the node or its parent, or could before",
     write("/open", "r0"), write("/secret", "n0"), write("/open/hidden", "n0"),
     write("/secret/shown", "r0"), write("/secret/three", "n0|r3"),
     ("g3", 0, "WATCH /|t|", OK, {"g3": ["/|t"]}),
     ("s", 0, "WRITE /open/x|v", OK, {"g3": ["/open/x|t"]}),
     ("s", 0, "WRITE /open/hidden|v", OK, {"g3": ["/open/hidden|t"]}),
     ("s", 0, "WRITE /secret|v", OK), ("s", 0, "WRITE /secret/x|v", OK),
     ("s", 0, "RM /secret/x|", OK),
     ("s", 0, "WRITE /secret/shown|v", OK, {"g3": ["/secret/shown|t"]}),
     ("s", 0, "WRITE /secret/three|v", OK, {"g3": ["/secret/three|t"]}),
     ("s", 0, "SET_PERMS /secret/three|n0|", OK, {"g3": ["/secret/three|t"]}),
     ("s", 0, "WRITE /secret/three|v", OK), ("s", 0, "SET_PERMS /secret/three|n0|r7|", OK),
     ("s", 0, "SET_PERMS /secret/three|n0|r3|", OK, {"g3": ["/secret/three|t"]}),
     ("s", 0, "RM /secret/three|", OK, {"g3": ["/secret/three|t"]}),
     ("g7", 0, "WRITE data|v", OK), ("s", 0, "RM /open/x|", OK, {"g3": ["/open/x|t"]}),
     domains=(3, 7))


def repeated_events(world):
    """Ten equal writes in one burst: at least one event, the last after the last write."""
    watcher, writer = world.client("s2"), world.client("s")
    world.ok("s2", "WATCH /r|t|")
    writer.send_raw(b"".join(request_bytes(11, f"/r\0{i}".encode()) for i in range(10)))
    for _ in range(10):
        writer.recv()
    watcher.send(2, b"/r\0")
    events = 0
    while (frame := watcher.recv())[0] == 15:
        events += frame[3] == b"/r\0t\0"
    return [] if 2 <= events <= 11 and frame[3] == b"9" else [f"{events} events, then {frame}"]


def request_bytes(op, payload):
    return b"".join(n.to_bytes(4, sys.byteorder) for n in (op, 0, 0, len(payload))) + payload


rule("B.6-66", "equal events may be merged while they wait, but the last one is never lost",
     repeated_events)

LONG_TOKEN = "t" * 3000

rule("B.6-67", "an event that does not fit in a message is dropped, and nothing else",
     ("s", 0, f"WATCH /|{LONG_TOKEN}|", OK, {"s": [f"/|{LONG_TOKEN}"]}),
     ("s", 0, f"WRITE /{name_of(1092)}|v", OK, {"s": [f"/{name_of(1092)}|{LONG_TOKEN}"]}),
     ("s", 0, f"WRITE /{name_of(1095)}|v", OK),
     ("s", 0, "WRITE /b|v", OK, {"s": [f"/b|{LONG_TOKEN}"]}))

rule("B.6-70", "events of one connection come in the order in which the watches were set",
     [("s2", 0, f"WATCH {path}|{token}|", OK, {"s2": [f"{path}|{token}"]})
      for path, token in (("/a/b", "1"), ("/", "2"), ("/a", "3"), ("/a/b", "0"))],
     ("s", 0, "WRITE /a/b|v", OK, {"s2": ["/a/b|1", "/a/b|2", "/a/b|3", "/a/b|0"]}))

rule("B.6-71", "watches outlive the node; what was queued before UNWATCH comes before its reply",
     ("s2", 0, "WATCH /a|t|", OK, {"s2": ["/a|t"]}),
     ("s", 0, "WRITE /a|v", OK, {"s2": ["/a|t"]}), ("s", 0, "RM /a|", OK, {"s2": ["/a|t"]}),
     ("s", 0, "RM /a|", OK), ("s", 0, "WRITE /a|v", OK, {"s2": ["/a|t"]}),
     ("s2", 0, "UNWATCH /a|t|", OK), ("s", 0, "WRITE /a|v", OK),
     lambda world: world.ok("s2", "WATCH /q|t|") and None,
     # Below it: an event like the first could be merged with it (rule 66).
     lambda world: world.ok("s", "WRITE /q/b|v") and None,
     ("s2", 0, "UNWATCH /q|t|", OK, {"s2": ["/q|t", "/q/b|t"]}))

rule("B.6-72", "RESET_WATCHES takes all watches and transactions of the connection",
     ("g3", 0, "WATCH a|t|", OK, {"g3": ["a|t"]}), ("g3", 0, "WATCH b|t|", OK, {"g3": ["b|t"]}),
     ("g3", 0, "START |", Bind("one")), ("g3", 0, "START |", Bind("two")),
     ("g3", "one", "WRITE a|lost", OK),
     ("s", 0, "WATCH /local/domain/3/a|s|", OK, {"s": ["/local/domain/3/a|s"]}),
     ("g3", "two", "RESET_WATCHES |", OK),
     ("g3", "one", "READ a|", "ENOENT"), ("g3", "one", "END T|", "ENOENT"),
     ("g3", "two", "END T|", "ENOENT"), ("g3", 0, "UNWATCH a|t|", "ENOENT"),
     ("g3", 0, "WRITE a|v", OK, {"s": ["/local/domain/3/a|s"]}),
     ("g3", 0, "WATCH a|t|", OK, {"g3": ["a|t"]}),
     domains=(3,))

rule("B.6-73", "watches and transactions belong to one connection",
     ("s", 0, "START |", Bind("t")), ("s2", "t", "READ /|", "ENOENT"),
     ("s2", "t", "END T|", "ENOENT"), ("s", "t", "READ /|", ""),
     ("s", 0, "WATCH /a|t|", OK, {"s": ["/a|t"]}), ("s2", 0, "UNWATCH /a|t|", "ENOENT"),
     ("s2", 0, "RESET_WATCHES |", OK), ("s2", 0, "WRITE /a|v", OK, {"s": ["/a|t"]}),
     ("s", "t", "END T|", Differs(OK, "EAGAIN", "refused-less")))

rule("B.6-74", "@introduceDomain and @releaseDomain: privileged clients, and who was given r",
     [(who, 0, f"WATCH {name}|t|", OK, {who: [f"{name}|t"]})
      for who in ("s", "g3", "g7") for name in ("@introduceDomain", "@releaseDomain")],
     ("s", 0, "INTRODUCE $9|", OK, {"s": ["@introduceDomain|t"]}),
     ("s", 0, "INTRODUCE $9|", OK),
     ("s", 0, "RELEASE 9|", OK, {"s": ["@releaseDomain|t"]}),
     ("s", 0, "SET_PERMS @introduceDomain|n0|r3|", OK),
     ("s", 0, "SET_PERMS @releaseDomain|n0|r7|", OK),
     ("s", 0, "INTRODUCE $9|", OK, {"s": ["@introduceDomain|t"], "g3": ["@introduceDomain|t"]}),
     ("s", 0, "RELEASE 9|", OK, {"s": ["@releaseDomain|t"], "g7": ["@releaseDomain|t"]}),
     ("s", 0, "SET_PERMS @releaseDomain|n0|", OK),
     ("s", 0, "INTRODUCE $9|", OK, {"s": ["@introduceDomain|t"], "g3": ["@introduceDomain|t"]}),
     ("s", 0, "RELEASE 9|", OK, {"s": ["@releaseDomain|t"]}),
     domains=(3, 7))

rule("B.6-75", "a special watch fires at once too, readable or not, and unknown names never again",
     ("g3", 0, "WATCH @releaseDomain|a|", OK, {"g3": ["@releaseDomain|a"]}),
     ("g3", 0, "WATCH @releaseDomain|b|", OK, {"g3": ["@releaseDomain|b"]}),
     ("g3", 0, "WATCH @releaseDomain|a|", "EEXIST"),
     ("s", 0, "WATCH @something|t|", OK, {"s": ["@something|t"]}),
     ("s", 0, "INTRODUCE $9|", OK), ("s", 0, "RELEASE 9|", OK),
     domains=(3,))

# A.3 Watch depth and the special watches of one domain

rule("A.3-depth", "depth limits how far below its path a watch fires",
     ("s2", 0, "WATCH /a|0|0|", OK, {"s2": ["/a|0"]}),
     ("s2", 0, "WATCH /a|1|1|", OK, {"s2": ["/a|1"]}),
     ("s2", 0, "WATCH /a|2|2|", OK, {"s2": ["/a|2"]}),
     ("s2", 0, "WATCH /a|all|", OK, {"s2": ["/a|all"]}),
     ("s", 0, "WRITE /a|v", OK, {"s2": {"/a|0", "/a|1", "/a|2", "/a|all"}}),
     ("s", 0, "WRITE /a/b|v", OK, {"s2": {"/a/b|1", "/a/b|2", "/a/b|all"}}),
     ("s", 0, "WRITE /a/b/c|v", OK, {"s2": {"/a/b/c|2", "/a/b/c|all"}}),
     ("s", 0, "WRITE /a/b/c/d|v", OK, {"s2": {"/a/b/c/d|all"}}),
     ("s", 0, "RM /a/b/c|", OK, {"s2": {"/a/b/c|2", "/a/b/c|all"}}),
     ("s", 0, "RM /a/b|", OK, {"s2": {"/a/b|1", "/a/b|2", "/a/b|all"}}),
     ("s2", 0, "UNWATCH /a|1|", OK),
     ("s", 0, "RM /a|", OK, {"s2": {"/a|0", "/a|2", "/a|all"}}),
     only="newer")

rule("A.3-depth/", "depth counts from / and from a relative path as well",
     ("g3", 0, "WATCH d|t|1|", OK, {"g3": ["d|t"]}),
     ("s2", 0, "WATCH /|r|1|", OK, {"s2": ["/|r"]}),
     ("s", 0, "WRITE /x|v", OK, {"s2": ["/x|r"]}), ("s", 0, "WRITE /x/y|v", OK),
     ("g3", 0, "WRITE d/e|v", OK, {"g3": ["d/e|t"]}), ("g3", 0, "WRITE d/e/f|v", OK),
     domains=(3,), only="newer")

rule("A.3-domid", "with depth a special watch names the domain; so does a watch on that name",
     ("s", 0, "WATCH @releaseDomain|d|1|", OK, {"s": ["@releaseDomain|d"]}),
     ("s", 0, "WATCH @introduceDomain|d|1|", OK, {"s": ["@introduceDomain|d"]}),
     ("s2", 0, "WATCH @releaseDomain|p|", OK, {"s2": ["@releaseDomain|p"]}),
     ("s2", 0, "WATCH @releaseDomain|z|0|", OK, {"s2": ["@releaseDomain|z"]}),
     ("s3", 0, "WATCH @releaseDomain/9|e|", OK, {"s3": ["@releaseDomain/9|e"]}),
     ("s3", 0, "WATCH @introduceDomain/9|e|", OK, {"s3": ["@introduceDomain/9|e"]}),
     ("s", 0, "INTRODUCE $9|", OK,
      {"s": ["@introduceDomain/9|d"], "s3": ["@introduceDomain/9|e"]}),
     ("s", 0, "INTRODUCE $8|", OK, {"s": ["@introduceDomain/8|d"]}),
     ("s", 0, "RELEASE 8|", OK,
      {"s": ["@releaseDomain/8|d"], "s2": {"@releaseDomain|p", "@releaseDomain|z"}}),
     ("s", 0, "RELEASE 9|", OK,
      {"s": ["@releaseDomain/9|d"], "s2": {"@releaseDomain|p", "@releaseDomain|z"},
       "s3": ["@releaseDomain/9|e"]}),
     only="newer")

rule("A.5-any", "domid 32757 in a later entry means every domain",
     write("/a", "n0|r32757", "x"), write("/b", "n0|n3|b32757", "y"),
     ("g3", 0, "READ /a|", "x"), ("g7", 0, "READ /a|", "x"), ("g3", 0, "WRITE /a|v", "EACCES"),
     ("g3", 0, "READ /b|", "EACCES"), ("g7", 0, "WRITE /b|v", OK),
     ("s", 0, "GET_PERMS /a|", "n0|r32757|"),
     ("s", 0, "INTRODUCE $9|", OK), ("g9", 0, "READ /a|", "x"),
     ("s", 0, "RELEASE 9|", OK), ("g3", 0, "READ /a|", "x"),
     ("g3", 0, "WRITE own|v", OK), ("g3", 0, "SET_PERMS own|n3|r32757|", OK),
     ("g7", 0, "READ /local/domain/3/own|", "v"),
     domains=(3, 7), only="newer")

# B.7 Domains, as far as they can be seen without rings

rule("B.7-76", "INTRODUCE of a new domain fires @introduceDomain before its own OK, once",
     ("s", 0, "WATCH @introduceDomain|t|", OK, {"s": ["@introduceDomain|t"]}),
     ("s", 0, "INTRODUCE $5|", OK, {"s": ["@introduceDomain|t"]}),
     ("s", 0, "INTRODUCE $5|", OK),
     ("s", 0, "RELEASE 5|", OK), ("s", 0, "INTRODUCE $5|", OK, {"s": ["@introduceDomain|t"]}))

rule("B.7-77", "INTRODUCE again resets the connection: watches and transactions go, nodes stay",
     ("g3", 0, "WATCH a|t|", OK, {"g3": ["a|t"]}), ("g3", 0, "START |", Bind("t")),
     ("g3", "t", "WRITE a|lost", OK), ("g3", 0, "WRITE kept|v", OK),
     ("s", 0, "INTRODUCE $3|", OK), lambda world: world.clients.pop("g3", None) and None,
     ("g3", "t", "END T|", "ENOENT"), ("g3", 0, "UNWATCH a|t|", "ENOENT"),
     ("g3", 0, "READ kept|", "v"), ("g3", 0, "READ a|", "ENOENT"),
     domains=(3,))

rule("B.7-79", "RELEASE removes the nodes first, then @releaseDomain fires once, then comes OK",
     ("s", 0, "WATCH @releaseDomain|r|", OK, {"s": ["@releaseDomain|r"]}),
     ("s", 0, "WATCH /local/domain/3|n|", OK, {"s": ["/local/domain/3|n"]}),
     ("s", 0, "RELEASE 3|", OK, {"s": ["/local/domain/3|n", "@releaseDomain|r"]}),
     ("s", 0, "RELEASE 3|", "ENOENT"),
     domains=(3,))

rule("B.7-82", "when a target is gone its stub domain keeps its own things",
     ("s", 0, "SET_TARGET 7|3|", OK), write("/shown", "n0|r3", "v"),
     ("g7", 0, "READ /shown|", "v"), ("s", 0, "RELEASE 3|", OK),
     ("g7", 0, "WRITE mine|v", OK), ("g7", 0, "READ mine|", "v"),
     ("s", 0, "INTRODUCE $3|", OK),
     ("g3", 0, "READ /shown|", Differs("EACCES", "v", "target-kept")),
     ("s", 0, "RELEASE 7|", OK), ("g3", 0, "GET_DOMAIN_PATH 3|", "/local/domain/3|"),
     domains=(3, 7))

rule("B.7-78", "INTRODUCE of a domain whose ring cannot be mapped, or that is not there, is EINVAL",
     ("s", 0, "WATCH @introduceDomain|t|", OK, {"s": ["@introduceDomain|t"]}),
     ("s", 0, "INTRODUCE 77|0|1|", "EINVAL"), ("s", 0, "IS_INTRODUCED 77|", "F|"),
     ("x", 0, "create 5", OK), ("x", 0, "fail-map 5 on", OK),
     ("s", 0, "INTRODUCE $5|", "EINVAL"), ("s", 0, "IS_INTRODUCED 5|", "F|"),
     ("s", 0, "RELEASE 5|", "ENOENT"), ("x", 0, "fail-map 5 off", OK),
     ("s", 0, "INTRODUCE $5|", OK, {"s": ["@introduceDomain|t"]}),
     ("g5", 0, "GET_DOMAIN_PATH 5|", "/local/domain/5|"))

RELEASED = ["@releaseDomain|r"]

rule("B.7-80", "a shutdown is announced once, until RESUME; a death again, after its nodes went",
     ("s", 0, "WATCH @releaseDomain|r|", OK, {"s": RELEASED}),
     ("s", 0, "WATCH /local/domain/3|n|", OK, {"s": ["/local/domain/3|n"]}),
     ("x", 0, "shutdown 3", OK, {"s": RELEASED}),
     ("s", 0, "IS_INTRODUCED 3|", "T|"), ("s", 0, "READ /local/domain/3|", ""),
     ("x", 0, "create 5", OK), ("x", 0, "destroy 5", OK),
     ("s", 0, "RESUME 3|", OK), ("x", 0, "resume 3", OK),
     ("x", 0, "create 5", OK), ("x", 0, "destroy 5", OK),
     ("x", 0, "shutdown 3 2", OK, {"s": RELEASED}),
     ("s", 0, "RESUME 3|", OK),
     ("x", 0, "create 5", OK), ("x", 0, "destroy 5", OK, {"s": RELEASED}),
     ("x", 0, "destroy 3", OK, {"s": ["/local/domain/3|n", *RELEASED]}),
     ("s", 0, "IS_INTRODUCED 3|", "F|"), ("s", 0, "READ /local/domain/3|", "ENOENT"),
     ("x", 0, "create 5", OK), ("x", 0, "destroy 5", OK), ("s", 0, "RELEASE 3|", "ENOENT"),
     domains=(3,))

rule("B.7-80d", "a domain that is dying is released at once, and not again when it is gone",
     ("s", 0, "WATCH @releaseDomain|r|", OK, {"s": RELEASED}),
     ("x", 0, "dying 3", OK, {"s": RELEASED}), ("s", 0, "IS_INTRODUCED 3|", "F|"),
     ("s", 0, "READ /local/domain/3|", "ENOENT"), ("x", 0, "destroy 3", OK),
     domains=(3,))

rule("B.7-80n", "deaths at once are announced one by one, shutdowns at once together",
     ("s", 0, "WATCH @releaseDomain|r|", OK, {"s": RELEASED}),
     ("x", 0, "destroy 3 4", OK, {"s": RELEASED * 2}),
     ("s", 0, "DIRECTORY /local/domain|", "5|6|"),
     ("x", 0, "shutdown 5", OK, {"s": RELEASED}), ("x", 0, "shutdown 6", OK, {"s": RELEASED}),
     domains=(3, 4, 5, 6))

rule("B.7-80b", "a shutdown and a death noticed together",
     ("s", 0, "WATCH @releaseDomain|r|", OK, {"s": RELEASED}),
     ("x", 0, "shutdown 5", OK, {"s": RELEASED}), ("s", 0, "RESUME 5|", OK),
     ("x", 0, "destroy 3", OK, Differs({"s": RELEASED * 2}, {"s": RELEASED}, "shutdown-and-death")),
     domains=(3, 5))

rule("B.7-80o", "what a dead domain had in several places goes in some order",
     ("s", 0, "SET_PERMS /|w0|", OK), ("g3", 0, "MKDIR /b|", OK), ("g3", 0, "MKDIR /a|", OK),
     ("s", 0, "WATCH /|r|", OK, {"s": ["/|r"]}),
     ("x", 0, "destroy 3", OK, Differs({"s": ["/a|r", "/b|r", "/local/domain/3|r"]},
                                       {"s": ["/local/domain/3|r", "/b|r", "/a|r"]},
                                       "order-of-end")),
     domains=(3,))

rule("B.7-80@", "the death of one that may see it goes on to the others",
     ("s", 0, "SET_PERMS @releaseDomain|n0|r3|r7|", OK),
     ("g3", 0, "WATCH @releaseDomain|r|", OK, {"g3": RELEASED}),
     ("g7", 0, "WATCH @releaseDomain|r|", OK, {"g7": RELEASED}),
     ("x", 0, "shutdown 5", OK, {"g3": RELEASED, "g7": RELEASED}),
     ("x", 0, "destroy 3", OK, {"g7": RELEASED}), ("x", 0, "destroy 5", OK, {"g7": RELEASED}),
     domains=(3, 5, 7))

rule("B.7-81", "a domain with the number of one that died is another one",
     write("/shown", "n0|b3", "v"), ("g3", 0, "READ /shown|", "v"),
     ("g3", 0, "WATCH a|t|", OK, {"g3": ["a|t"]}),
     ("x", 0, "destroy 3", OK), ("s", 0, "INTRODUCE $3|", OK),
     ("g3", 0, "READ /shown|", "EACCES"), ("g3", 0, "UNWATCH a|t|", "ENOENT"),
     domains=(3,))

rule("B.7-81q", "also when it is introduced before its predecessor's end was noticed",
     write("/shown", "n0|b3", "v"), ("g3", 0, "READ /shown|", "v"),
     lambda world: world.close("g3"),
     ("x", 0, "destroy 3", OK), ("x", 0, "create 3", OK), ("s", 0, "INTRODUCE $3|", OK),
     ("g3", 0, "READ /shown|", "EACCES"),
     domains=(3,))

rule("B.7-82d", "a stub domain's target may die, and it after it",
     ("s", 0, "SET_TARGET 7|3|", OK), write("/shown", "n0|r3", "v"),
     ("g7", 0, "READ /shown|", "v"), ("x", 0, "destroy 3", OK),
     ("g7", 0, "WRITE mine|v", OK), ("x", 0, "destroy 7", OK),
     ("s", 0, "INTRODUCE $3|", OK), ("s", 0, "INTRODUCE $7|", OK),
     ("g7", 0, "READ /shown|", "EACCES"), ("g3", 0, "READ /shown|", "EACCES"),
     domains=(3, 7))

rule("B.7-83", "domain 0's own ring is privileged, and a connection of its own",
     ("g0", 0, "WRITE a|v", OK), ("s", 0, "READ /local/domain/0/a|", "v"),
     ("g0", 0, "WATCH /|r|", OK, {"g0": ["/|r"]}),
     ("g0", 0, "IS_INTRODUCED 3|", "T|"), ("g0", 0, "IS_INTRODUCED 0|", "T|"),
     ("g0", 0, "START |", Bind("t")), ("s", "t", "READ /|", "ENOENT"),
     ("g0", "t", "WRITE /b|v", OK), ("g0", "t", "END T|", OK, {"g0": ["/b|r"]}),
     [("g0", 0, "START |", Bind(f"t{i}")) for i in range(15)],
     domains=(3,))

rule("A.7-p", "the domain named by -p is privileged",
     ("g5", 0, "WRITE /anywhere|v", OK), ("g5", 0, "INTRODUCE $6|", OK),
     ("g5", 0, "IS_INTRODUCED 6|", "T|"), ("g5", 0, "CONTROL help|", ANYTHING),
     ("g6", 0, "IS_INTRODUCED 6|", "EACCES"), ("g6", 0, "READ /anywhere|", "EACCES"),
     close("g6"), ("g5", 0, "RELEASE 6|", OK),
     domains=(5,), options=("--priv-domid=5",))

if __name__ == "__main__":
    sys.exit(main())
