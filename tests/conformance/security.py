#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each public xenstore advisory that concerns a server without rings, as a test.

XSA-206 is in contention.py, XSA-38 and 420 (lengths) in bad_input.py.
"""

import resource
import time

import worlds
from script import OK, OneOf, shown, xs
from worlds import World, WorldTest, frame, frames, pump, stuff

# What a hostile client may cost the daemon in private memory, beyond what it was before.
BOUND_KB = 16 * 1024


class Xsa72LongDirectory(WorldTest):
    def test_a_reply_above_4096_bytes_is_e2big_and_the_connection_goes_on(self):
        self.burst("s", [f"MKDIR /d/{i:06}|" for i in range(1000)])
        self.is_answered("s", "DIRECTORY /d|", "E2BIG")
        self.is_answered("s", "READ /d|", "")


class Xsa115Leaks(WorldTest):
    domains = (3, 5)

    def events_after(self, request):
        self.world.ok("s", request)
        events = []
        self.world.client("g3").call(xs.GET_DOMAIN_PATH, b"0\0", events=events)
        return [shown(event) for event in events]

    def test_events_do_not_name_nodes_that_a_guest_cannot_read(self):
        world = self.world
        for path in ("/", "/local/domain/5", "@introduceDomain", "@releaseDomain"):
            world.ok("g3", f"WATCH {path}|t|")
        self.events_after("READ /|")
        self.assertEqual(self.events_after("WRITE /hidden/name|v"), [])
        self.assertEqual(self.events_after("WRITE /local/domain/5/hidden|v"), [])
        self.assertEqual(self.events_after("RM /hidden|"), [])
        self.assertEqual(self.events_after("INTRODUCE $9|"), [])
        self.assertEqual(self.events_after("RELEASE 9|"), [])
        world.ok("s", "WRITE /open|")
        self.assertEqual(self.events_after("SET_PERMS /open|r0|"), ["/open|t|"])
        self.assertEqual(self.events_after("WRITE /open/x|v"), ["/open/x|t|"])
        self.assertEqual(self.events_after("SET_PERMS /open/x|n0|"), ["/open/x|t|"])

    def test_domains_are_not_to_be_asked_for(self):
        self.is_answered("g3", "IS_INTRODUCED 5|", "EACCES")


class Xsa233Targets(WorldTest):
    domains = (3, 7)

    def test_stub_and_target_die_in_any_order(self):
        for settings in (["7|3"], ["7|3", "7|3"], ["3|3"], ["7|3", "3|7"]):
            for order in ((3, 7), (7, 3)):
                with self.subTest(settings=settings, order=order):
                    for setting in settings:
                        self.world.ok("s", f"SET_TARGET {setting}|")
                    for domid in order:
                        self.world.ok("s", f"RELEASE {domid}|")
                    for domid in order:
                        self.world.introduce(domid)


class Xsa272NodeQuota(WorldTest):
    domains = (3,)

    def test_a_refused_creation_changes_nothing(self):
        self.world.ok("s", "SET_QUOTA 3|nodes|10|")
        for i in range(9):
            self.world.ok("g3", f"WRITE n{i}|v")
        before = self.world.tree()
        for request in ("WRITE more|v", "WRITE n1/a/b|v", "MKDIR deep/er|", "MKDIR n2/a|"):
            self.is_answered("g3", request, "ENOSPC")
            self.assertEqual(self.world.tree(), before)


class Xsa322DomidReuse(WorldTest):
    domains = (7,)

    def give_rights(self):
        for request in ("WRITE /shown|v", "SET_PERMS /shown|n0|b7|",
                        "SET_PERMS @releaseDomain|n0|r7|"):
            self.world.ok("s", request)
        self.is_answered("g7", "READ /shown|", "v")

    def has_none(self):
        self.is_answered("g7", "READ /shown|", "EACCES")
        self.is_answered("g7", "WRITE /shown|mine", "EACCES")
        self.is_answered("g7", "WATCH @releaseDomain|t|", OK)
        self.world.ok("s", "INTRODUCE $9|")
        self.world.ok("s", "RELEASE 9|")
        events = []
        self.world.client("g7").call(xs.GET_DOMAIN_PATH, b"0\0", events=events)
        self.assertLessEqual(len(events), 1, "the initial event only")

    def test_a_new_domain_has_nothing_of_the_old_one_with_its_number(self):
        self.give_rights()
        self.world.close("g7")
        self.world.ok("s", "RELEASE 7|")
        self.world.ok("s", "INTRODUCE $7|")
        self.has_none()

    def test_nor_when_the_daemon_was_killed_between(self):
        self.give_rights()
        self.world.close("g7")
        self.world.ok("s", "RELEASE 7|")
        self.world.restart()
        self.world.ok("s", "INTRODUCE $7|")
        self.world.restart()
        self.has_none()


class Xsa323PathLengths(WorldTest):
    domains = (3,)

    def test_length_does_not_depend_on_the_digits_of_the_domid(self):
        for length, expected in ((2048, "ENOENT"), (2049, "EINVAL")):
            name = "n" * length
            for path in (name, f"/local/domain/3/{name}", f"/local/domain/65535/{name}"):
                self.is_answered("s", f"READ {path}|", expected)
            self.is_answered("g3", f"READ {name}|", expected)


class Xsa324LongEvent(WorldTest):
    domains = (3,)

    def test_an_event_above_4096_bytes_is_dropped(self):
        token, name = "t" * 2060, "n" * 2048
        for who, base in (("s", "/local/domain/3"), ("g3", "/local/domain/3")):
            self.is_answered(who, f"WATCH {base}|{token}|", OK)
            self.is_answered(who, f"WATCH {base}/{name}|{token[:1900]}|", OK)
        self.world.ok("s", f"WRITE /local/domain/3/{name}|v")
        self.world.ok("s", f"RM /local/domain/3/{name}|")
        self.is_answered("g3", "WRITE a|v", OK)


class Xsa325BrokenConnection(WorldTest):
    domains = (3,)

    def test_a_domain_with_a_broken_connection_is_still_released_and_announced(self):
        self.world.ring(3).put(frame("READ")[:12] + b"\xff\xff\xff\xff" + b"x" * 100)
        self.world.ok("s", "WATCH @releaseDomain|t|")
        events = []
        self.world.client("s").call(xs.READ, b"/\0", events=events)
        self.world.client("s").call(xs.RELEASE, b"3\0", events=events)
        self.assertEqual(events, [b"@releaseDomain\0t\0"] * 2)
        self.world.introduce(3)
        self.is_answered("g3", "WRITE a|v", OK)


class Xsa326Memory(WorldTest):
    """A guest that never reads cannot make the daemon grow without bound, nor slow others."""

    domains = (3, 7)

    def setUp(self):
        super().setUp()
        for request in ("WRITE /big|" + "v" * 4000, "SET_PERMS /big|r0|", "READ /big|"):
            self.world.ok("s", request)
        self.before = self.world.anonymous_kb()

    def is_bounded(self):
        grown = self.world.anonymous_kb() - self.before
        self.assertLess(grown, BOUND_KB, f"{grown} KiB more")
        begin = time.monotonic()
        for who in ("s", "g7"):
            for _ in range(50):
                self.world.ok(who, "READ /big|")
        self.assertLess(time.monotonic() - begin, 2)

    def test_a_million_reads(self):
        stuff(self.world.client("g3"), frames(["READ /big|"] * 1000), 24_000_000)
        self.is_bounded()

    def test_watch_on_everything_while_others_write(self):
        self.burst("g3", ["WATCH /|" + "t" * 3000 + f"{i}|" for i in range(50)])
        self.world.ok("s", "SET_PERMS /|r0|")
        for _ in range(10):
            self.burst("s", [f"WRITE /big/{i}|v" for i in range(300)])
        self.is_bounded()

    def test_transactions_full_of_nodes(self):
        client = self.world.client("g3")
        client.send_raw(frame("START", b"\0") * 11)
        requests = [f"WRITE d{i % 20}/n{i}|" + "v" * 1900 for i in range(1000)]
        for tx in range(1, 12):
            if stuff(client, frames(requests, tx), 2_000_000) < 100_000:
                break  # the daemon reads no more from a domain at its memory limit
        self.is_bounded()

    def test_transactions_full_of_nodes_whose_replies_are_read(self):
        requests = [f"WRITE d{i % 20}/n{i}|" + "v" * 1900 for i in range(500)]
        for tx in range(1, 12):
            self.world.call("g3", "START |")
            client = self.world.client("g3")
            try:
                pump(client, frames(requests, tx), len(requests), seconds=2)
            except AssertionError:
                break  # the daemon reads no more from a domain at its memory limit
        self.is_bounded()

    def test_long_watches(self):
        stuff(self.world.client("g3"), frames([f"WATCH a{i}|" + "t" * 4000 + "|"
                                               for i in range(200)]), 800_000)
        self.is_bounded()

    def test_long_watches_whose_replies_are_read(self):
        replies = self.burst("g3", [f"WATCH a{i}|" + "t" * 4000 + "|" for i in range(200)])
        self.assertEqual(replies, [b"OK\0"] * 129 + ["E2BIG"] * 71)
        self.is_bounded()


class Xsa330ResetWatches(WorldTest):
    domains = (3,)

    def test_watches_that_were_reset_leave_nothing(self):
        def rounds(count):
            for _ in range(count):
                self.burst("g3", ["WATCH a/b|" + "t" * 200 + "|", "WATCH c|t|", "RESET_WATCHES |"]
                           * 100)
        rounds(20)
        before = self.world.anonymous_kb()
        rounds(100)
        self.assertLess(self.world.anonymous_kb() - before, 2048)
        self.assertEqual(self.world.usage(3)["watches"], 0)
        self.world.ok("s", "WRITE /local/domain/3/a/b|v")
        self.assertTrue(self.world.client("g3").quiet())


class Xsa352Ownership(WorldTest):
    domains = (3, 7)

    def test_a_guest_cannot_give_its_node_away(self):
        self.world.ok("g3", "WRITE mine|v")
        for perms in ("n7", "n0", "b7|b3", "n32757"):
            self.is_answered("g3", f"SET_PERMS mine|{perms}|", OneOf("EPERM", "EINVAL", "ENOENT"))
        self.is_answered("g3", "SET_PERMS mine|n7|", "EPERM")
        self.is_answered("s", "GET_PERMS /local/domain/3/mine|", "n3|")
        self.assertEqual(self.world.usage(7)["nodes"], 1)


class Xsa353Root(WorldTest):
    domains = (3,)

    def test_a_guest_cannot_change_the_root(self):
        before = self.world.tree()
        for request in ("WRITE /|v", "MKDIR /|", "SET_PERMS /|n3|", "SET_PERMS /|b0|",
                        "WRITE /new|v", "MKDIR /new|", "RM /tool|", "READ /|", "DIRECTORY /|"):
            self.is_answered("g3", request, "EACCES")
        self.is_answered("g3", "RM /|", OneOf("EACCES", "EINVAL"))
        self.assertEqual(self.world.tree(), before)


class Xsa354ManyKeys(WorldTest):
    def test_a_thousand_keys_are_listed_quickly(self):
        self.burst("s", [f"MKDIR /d/{i}|" for i in range(1000)])
        begin = time.monotonic()
        for _ in range(100):
            self.world.ok("s", "DIRECTORY /d|")
        self.assertLess(time.monotonic() - begin, 1)


class Xsa414And415FailedCreation(WorldTest):
    domains = (3,)

    def test_a_quota_hit_at_each_level_leaves_nothing(self):
        before = self.world.tree()
        for room in range(5):
            self.world.ok("s", f"SET_QUOTA 3|nodes|{1 + room}|")
            self.is_answered("g3", "WRITE a/b/c/d/e|v", "ENOSPC" if room < 5 else OK)
            self.assertEqual(self.world.tree(), before)
            self.assertEqual(self.world.usage(3)["nodes"], 1)

    def test_nor_in_a_transaction(self):
        before = self.world.tree()
        for room in range(5):
            self.world.ok("s", f"SET_QUOTA 3|nodes|{1 + room}|")
            self.world.start("g3", "t")
            self.is_answered("g3", "WRITE a/b/c/d/e|v", "ENOSPC", "t")
            self.is_answered("g3", "END T|", OneOf("ENOMEM", "ENOSPC"), "t")
            self.assertEqual(self.world.tree(), before)
            self.assertEqual(self.world.usage(3)["nodes"], 1)
        self.world.ok("s", "SET_QUOTA 3|nodes|6|")
        self.is_answered("g3", "WRITE a/b/c/d/e|v", OK)


class Xsa416RequestsNeverRead(WorldTest):
    domains = (3,)

    def test_long_requests_of_a_guest_that_never_reads(self):
        before = self.world.anonymous_kb()
        stuff(self.world.client("g3"), frame("WRITE", b"a\0" + b"v" * 4000), 4_000_000)
        stuff(self.world.client("g3"), frame("CONTROL", b"x" * 4096), 4_000_000)
        self.assertLess(self.world.anonymous_kb() - before, BOUND_KB)


class Xsa417UnknownDomain(WorldTest):
    def test_rights_given_before_a_domain_was_are_not_its_own(self):
        for request in ("WRITE /a|v", "SET_PERMS /a|n0|b9|", "WRITE /a/child|v"):
            self.world.ok("s", request)
        self.world.ok("s", "INTRODUCE $9|")
        for path in ("/a", "/a/child"):
            self.is_answered("g9", f"READ {path}|", "EACCES")
            self.is_answered("g9", f"WRITE {path}|w", "EACCES")


class Xsa418DeepTrees(WorldTest):
    domains = (3,)

    def setUp(self):
        small = 256 * 1024

        def shrink():
            resource.setrlimit(resource.RLIMIT_STACK, (small, small))
        self.world = World(self.options, self.domains, preexec_fn=shrink)
        self.world.__enter__()
        self.addCleanup(self.world.__exit__)
        self.addCleanup(self.check_world)

    def test_a_path_of_a_thousand_levels_on_a_small_stack(self):
        deep = "/a" * 1000
        self.is_answered("s", f"WRITE {deep}|v", OK)
        self.is_answered("s", f"WATCH {deep}|t|", OK)
        self.is_answered("s", "CONTROL check|", OK)
        self.world.restart()
        self.is_answered("s", f"READ {deep}|", "v")
        self.is_answered("s", "CONTROL check|", OK)
        self.world.start("s", "t")
        self.is_answered("s", "RM /a|", OK, "t")
        self.is_answered("s", f"WRITE {deep}|w", OK, "t")
        self.is_answered("s", "END T|", OK, "t")
        self.is_answered("s", f"READ {deep}|", "w")
        self.is_answered("s", "RM /a|", OK)
        self.is_answered("s", "READ /a|", "ENOENT")
        self.world.restart()
        self.is_answered("s", "READ /a|", "ENOENT")

    def test_and_by_a_guest_that_then_dies(self):
        self.is_answered("g3", "WRITE " + "/".join("a" * 900) + "|v", OK)
        self.assertEqual(self.world.usage(3)["nodes"], 901)
        self.world.close("g3")
        self.is_answered("s", "RELEASE 3|", OK)
        self.is_answered("s", "READ /local/domain/3|", "ENOENT")


class Xsa419NodesOfTheDead(WorldTest):
    def test_what_domains_made_goes_with_them(self):
        for request in ("WRITE /shared|", "SET_PERMS /shared|b0|"):
            self.world.ok("s", request)
        empty = None
        for _ in range(10):
            self.world.introduce(3)
            self.world.introduce(7)
            self.burst("g3", [f"WRITE /shared/three-{i}|v" for i in range(50)] +
                       [f"WRITE own/{i}|v" for i in range(50)])
            self.burst("g7", [f"WRITE /shared/seven-{i}|v" for i in range(50)])
            self.world.close("g3")
            self.world.close("g7")
            self.world.ok("s", "RELEASE 3|")
            self.world.ok("s", "RELEASE 7|")
            left = self.world.tree()
            empty = empty or left
            self.assertEqual(left, empty)


class Xsa421CreateAndRemove(WorldTest):
    domains = (3,)

    def test_counts_and_tree_after_making_and_removing_inside(self):
        scripts = ((["WRITE a/b|1", "RM a|"], {}), (["RM x|", "WRITE x|1"], {"x": "1"}),
                   (["WRITE x|2", "RM x|", "WRITE x|3", "RM x|"], {}),
                   (["WRITE p/q/r|1", "RM p/q|", "WRITE p/q/s|2"],
                    {"p": "", "p/q": "", "p/q/s": "2"}),
                   (["RM p|", "MKDIR p|", "RM p|", "WRITE p|9"], {"p": "9"}))
        model = {}
        for requests, after in scripts:
            with self.subTest(requests=requests):
                self.world.start("g3", "t")
                for request in requests:
                    self.is_answered("g3", request, OK, "t")
                self.is_answered("g3", "END T|", OK, "t")
                gone = {request[3:-1] for request in requests if request.startswith("RM ")}
                model = {path: value for path, value in model.items() if not any(
                    path == top or path.startswith(top + "/") for top in gone)} | after
                tree = self.world.tree("/local/domain/3")
                self.assertEqual({path[len("/local/domain/3/"):]: value.decode()
                                  for path, (value, _) in tree.items()
                                  if path != "/local/domain/3"}, model)
                self.assertEqual(self.world.usage(3)["nodes"], 1 + len(model))


class Xsa425ReleaseInOneTurn(WorldTest):
    domains = (3,)

    def test_release_and_introduce_with_input_and_output_pending(self):
        for _ in range(20):
            ring = self.world.ring(3)
            ring.put(frames(["WATCH a|t|"] + ["WRITE a|v", "READ a|"] * 20)
                     + frame("READ", b"a\0")[:10])
            got = self.burst("s", ["WRITE /local/domain/3/a|w", "RELEASE 3|", "INTRODUCE $3|",
                                   "MKDIR /local/domain/3|", "SET_PERMS /local/domain/3|n3|",
                                   "WRITE /local/domain/3/a|w"])
            self.assertEqual(got, [b"OK\0"] * 6)
            self.assertEqual(ring.call(xs.READ, b"a\0"), b"w")


class Xsa440RemovedTwice(WorldTest):
    domains = (3,)

    def test_two_transactions_remove_the_same_nodes(self):
        for i in range(50):
            self.world.ok("g3", f"WRITE d/{i}|v")
        for name in ("one", "two"):
            self.world.start("g3", name)
            for i in range(50):
                self.is_answered("g3", f"RM d/{i}|", OK, name)
        self.is_answered("g3", "END T|", OK, "one")
        self.is_answered("g3", "END T|", OneOf(OK, "EAGAIN"), "two")
        self.is_answered("g3", "DIRECTORY d|", "")
        self.assertEqual(self.world.usage(3)["nodes"], 2)


class Xsa481OddPaths(WorldTest):
    domains = (3,)

    def test_every_operation_with_odd_paths(self):
        paths = [b"", b"/", b"//", b"/local/domain/", b"/local/domain", b"/local/domain/3",
                 b"/local/domain/3/", b"/local/domain/99999/x", b"/local/domain//x",
                 b"/local/domain/-1/x", b"/local/domain/99999999999999999999/x", b"@", b"@@", b"a/",
                 b"\xff", b"a" * 3073, b"/" + b"a/" * 1500 + b"a", b"/local/domain/x/y", b"@/"]
        rest = [b"\0", b"\0t\0", b"\0n0\0", b"\x000\0", b"\0v", b""]
        requests = [(op, path + tail) for op in range(0, 27) for path in paths for tail in rest
                    if op not in (xs.INTRODUCE, xs.RELEASE, xs.CONTROL)]
        for who in ("s", "g3"):
            for op, payload in requests:
                self.world.client(who).call(op, payload)
            self.assertTrue(self.world.alive())
            self.is_answered(who, "GET_DOMAIN_PATH 1|", "/local/domain/1|")


class Xsa483CountersOfReusedDomids(WorldTest):
    domains = (7,)

    def fill_and_die(self):
        self.burst("g7", [f"WRITE d{i % 10}/{i}|v" for i in range(1000)])
        self.is_answered("g7", "WRITE more|v", "ENOSPC")
        self.burst("g7", [f"WATCH w{i}|t|" for i in range(130)])
        self.world.close("g7")
        self.world.ok("s", "RELEASE 7|")

    def starts_anew(self):
        self.assertEqual(self.world.usage(7)["nodes"], 1)
        self.assertEqual(self.world.usage(7)["watches"], 0)
        self.is_answered("g7", "WRITE a|v", OK)
        self.is_answered("g7", "WATCH a|t|", OK)

    def test_a_new_domain_starts_with_a_quota_of_its_own(self):
        self.fill_and_die()
        self.world.introduce(7)
        self.starts_anew()

    def test_also_across_kills(self):
        self.fill_and_die()
        self.world.restart()
        self.world.introduce(7)
        self.world.restart()
        self.starts_anew()


class Xsa484ResetInsideTransaction(WorldTest):
    domains = (3,)

    def test_the_running_transaction_goes_and_the_daemon_lives(self):
        for who in ("s", "g3"):
            self.world.start(who, "t")
            self.world.ok(who, "WRITE a|lost", "t")
            self.is_answered(who, "RESET_WATCHES |", OK, "t")
            self.is_answered(who, "END T|", "ENOENT", "t")
            self.is_answered(who, "READ a|", "ENOENT")


class Xsa512Watches(WorldTest):
    def test_ever_new_watches_leave_nothing(self):
        self.serial = 0

        def round_of(guest_requests):
            self.world.introduce(3)
            for _ in range(10):
                self.serial += 1
                self.burst("g3", [request.replace("#", f"{self.serial}-{i}") for i in range(50)
                                  for request in guest_requests])
            self.world.close("g3")
            self.world.ok("s", "RELEASE 3|")

        loops = (["WATCH p#|t#|", "UNWATCH p#|t#|"], ["WATCH p#|t#|", "RESET_WATCHES |"],
                 ["WATCH p#/q/r|t#|"])
        for loop in loops:
            with self.subTest(loop=loop):
                for _ in range(3):
                    round_of(loop)
                before = self.world.anonymous_kb()
                for _ in range(8):
                    round_of(loop)
                self.assertLess(self.world.anonymous_kb() - before, 1024)


if __name__ == "__main__":
    worlds.main()
