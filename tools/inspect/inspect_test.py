#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""xs-inspect on a real daemon's area and, on the daemon while it runs, by CONTROL inspect."""

import os
import shutil
import unittest

from inspecting import as_json, digest, inspect, xs

UUID = "00112233-4455-6677-8899-aabbccddeeff"
GUEST = 3


class Scene(unittest.TestCase):
    """A domain with two watches, a transaction that stays open, and messages that it leaves in
    its ring, more than that holds."""

    def setUp(self):
        self.daemon = xs.HostedDaemon()
        self.area = os.path.join(self.daemon.rundir, "area")
        self.addCleanup(self.daemon.stop)
        self.daemon.start()
        self.dom0 = self.daemon.client()
        self.addCleanup(self.dom0.close)
        gfn, port = self.daemon.machine.create(GUEST, UUID)
        self.dom0.call(xs.INTRODUCE, f"{GUEST}\0{gfn}\0{port}\0".encode())
        self.dom0.call(xs.WRITE, b"/shown\0")
        self.dom0.call(xs.SET_PERMS, f"/shown\0b{GUEST}\0".encode())
        guest = self.daemon.client(GUEST)
        self.addCleanup(guest.close)
        guest.call(xs.WATCH, b"/shown\0odd \\ \xff\0", events=[])
        guest.call(xs.WATCH, b"data\0relative\0", events=[])
        self.tx = int(guest.call(xs.TRANSACTION_START, b"\0", events=[]).rstrip(b"\0"))
        self.stop_reading()
        for number in range(60):
            self.dom0.call(xs.WRITE, f"/shown/{number:030}\0".encode())

    def stop_reading(self):
        self.daemon.bridge.stop()
        self.daemon.bridge = None

    def check_guest(self, document):
        domain = next(one for one in document["domains"] if one["domid"] == GUEST)
        self.assertEqual(domain["handle"], UUID.replace("-", ""))
        self.assertEqual((domain["gfn"], domain["port"]), self.daemon.machine.ring_of(GUEST))
        self.assertEqual((domain["introduced"], domain["shutdown"]), (1, 0))
        conn = next(one for one in document["connections"] if one["conn"] == domain["conn"])
        self.assertEqual((conn["domid"], conn["is_domain"], conn["watches"]), (GUEST, 1, 2))
        self.assertEqual((conn["partial"], conn["resetting"], conn["error"]), (0, 0, 0))
        self.assertGreater(conn["in_off"], 0)
        self.assertGreater(conn["out_bytes"], 60 * 40 - 1024)
        self.assertGreater(conn["out_frames"], 20)
        mine = [one for one in document["watches"] if one["conn"] == conn["conn"]]
        self.assertEqual([(one["path"], one["token"], one["relative"]) for one in mine],
                         [("/shown", "odd\\x20\\x5c\\x20\\xff", 0),
                          (f"/local/domain/{GUEST}/data", "relative", 1)])
        self.assertEqual([one["depth"] for one in mine], [-1, -1])
        return conn

    def check_parts(self, *where):
        """Of domain 3's ring, what is told."""
        whole = as_json(*where)
        for part in ("domains", "watches", "transactions"):
            alone = as_json(part, *where)
            self.assertEqual(list(alone), ["source", part])
            for item in alone[part]:
                item.pop("client", None)
            self.assertEqual(alone[part], whole[part])
            lines = inspect(part, *where).stdout.splitlines()
            self.assertEqual(len(lines), len(whole[part]) + 1)
        watches = [line.split() for line in inspect("watches", *where).stdout.splitlines()]
        self.assertEqual(watches[0], ["conn", "depth", "relative", "client", "path", "token"])
        self.assertIn(["-1", "0", "domain", "3", "/shown", "odd\\x20\\x5c\\x20\\xff"],
                      [line[1:] for line in watches])
        rings = as_json("rings", *where)["rings"]
        self.assertEqual([ring["domid"] for ring in rings if ring["domid"] != 0], [GUEST])
        self.assertEqual(len(inspect("rings", *where).stdout.splitlines()), len(rings) + 1)
        return next(ring for ring in rings if ring["domid"] == GUEST)


class Stored(Scene):
    """The state of a daemon that was killed."""

    def test_shows_what_is_there(self):
        self.daemon.kill()
        before = digest(self.area)
        document = as_json("--area", self.area)
        conn = self.check_guest(document)
        self.assertEqual(document["transactions"],
                         [{"conn": conn["conn"], "id": self.tx, "doomed": 1}])
        self.assertEqual(document["source"]["area"], self.area)
        self.assertGreater(document["source"]["nodes"], 60)
        text = inspect("--area", self.area).stdout
        for part in (f"domain {GUEST}\n", f"transaction {self.tx} doomed", "watch /shown  token odd",
                     f"output {conn['out_bytes']} bytes in {conn['out_frames']} messages"):
            self.assertIn(part, text)
        self.assertEqual(digest(self.area), before)

    def test_shows_each_part_alone(self):
        self.daemon.kill()
        conn = self.check_parts("--area", self.area)["conn"]
        self.assertEqual(inspect("transactions", "--area", self.area).stdout,
                         "conn  id  doomed  client\n"
                         f"{conn:<4}  {self.tx:<2}  1       domain {GUEST}\n")

    def test_reads_copies_that_may_not_be_written(self):
        self.daemon.kill()
        copy = os.path.join(self.daemon.rundir, "copy")
        shutil.copytree(self.area, copy)
        os.unlink(os.path.join(copy, "lock"))
        for name in os.listdir(os.path.join(copy, "state")):
            os.chmod(os.path.join(copy, "state", name), 0o400)
        self.check_guest(as_json("--area", copy))
        os.rename(os.path.join(copy, "state"), os.path.join(copy, "state.damaged-1"))
        self.check_guest(as_json("--area", copy, "--state", "state.damaged-1"))

    def test_leaves_a_served_area_alone(self):
        result = inspect("--area", self.area)
        self.assertEqual(result.returncode, 1)
        self.assertIn("served by a running daemon", result.stderr)
        self.assertEqual(result.stdout, "")

    def test_says_what_is_wrong(self):
        self.daemon.kill()
        data = os.path.join(self.area, "state", "data.mdb")
        with open(data, "r+b") as file:
            content = file.read()
            file.seek(content.rfind(b"/shown"))
            file.write(b"/SHOWN")
        for options in (("--area", self.area), ("--area", self.daemon.rundir),
                        ("--socket", os.path.join(self.daemon.rundir, "nothing"))):
            result = inspect(*options)
            self.assertEqual((result.returncode, result.stdout), (1, ""))
            self.assertTrue(result.stderr.startswith("xs-inspect: "), result.stderr)


class Running(Scene):
    """A daemon that runs."""

    def setUp(self):
        super().setUp()
        self.socket = os.path.join(self.daemon.rundir, "socket")

    def test_shows_what_is_there(self):
        document = as_json("--socket", self.socket)
        conn = self.check_guest(document)
        self.assertEqual(document["transactions"],
                         [{"conn": conn["conn"], "id": self.tx, "doomed": 0}])
        self.assertEqual(conn["rsp_prod"] - conn["rsp_cons"], 1024)
        self.assertEqual(conn["out_off"] + conn["out_sent"], conn["rsp_prod"])
        self.assertEqual((conn["req_cons"], conn["req_prod"]), (conn["in_off"], conn["in_off"]))
        self.assertTrue(any(one["is_domain"] == 0 for one in document["connections"]))
        self.assertIn("in the ring: requests ", inspect("--socket", self.socket).stdout)

        self.daemon.kill()
        stored = self.check_guest(as_json("--area", self.area))
        self.assertEqual(stored["in_off"], conn["in_off"])
        self.assertEqual(stored["out_off"] + stored["out_bytes"],
                         conn["out_off"] + conn["out_bytes"])

    def test_shows_each_part_alone(self):
        ring = self.check_parts("--socket", self.socket)
        self.assertEqual(ring["rsp_prod"] - ring["rsp_cons"], 1024)

    def test_tells_doomed_transactions(self):
        self.daemon.kill()
        self.daemon.start()
        self.assertEqual([(one["id"], one["doomed"])
                          for one in as_json("--socket", self.socket)["transactions"]],
                         [(self.tx, 1)])

    def test_more_than_a_reply_holds_is_shown_once(self):
        for number in range(300):
            self.dom0.call(xs.WATCH, f"/many/{number}\0{'t' * (number * 10)}\0".encode(), events=[])
        watches = [one for one in as_json("--socket", self.socket)["watches"]
                   if one["path"].startswith("/many/")]
        self.assertEqual([one["path"] for one in watches], [f"/many/{n}" for n in range(300)])
        self.assertEqual([one["token_bytes"] for one in watches], [n * 10 for n in range(300)])
        self.assertEqual(max(len(one["token"]) for one in watches), 200)

    def test_refuses_nonsense(self):
        for cursor in (b"x", b"1", b"1.2", b"1.2.", b"1.2.3.", b"-1.0.0", b"1.2.99999999999999999999"):
            with self.subTest(cursor=cursor):
                self.assertEqual(self.dom0.call(xs.CONTROL, b"inspect\0" + cursor + b"\0"),
                                 "EINVAL")
        for cursor in (b"4.0.0", b"99.0.0", b"3.18446744073709551615.18446744073709551615"):
            self.assertEqual(self.dom0.call(xs.CONTROL, b"inspect\0" + cursor + b"\0"), b"end\n\0")


class KeptSocket(unittest.TestCase):
    """A socket client that the keeper lets live on."""

    def test_shows_who_it_is(self):
        with xs.Daemon("--supervise") as daemon:
            client = daemon.client()
            self.addCleanup(client.close)
            client.call(xs.WATCH, b"/mine\0token\0", events=[])
            socket = os.path.join(daemon.rundir, "socket")
            kept = [one for one in as_json("--socket", socket)["connections"] if one["kept"]]
            self.assertEqual([(one["pid"], one["uid"], one["watches"]) for one in kept],
                             [(os.getpid(), os.getuid(), 1)])
            with open("/proc/self/comm") as command:
                self.assertIn(f"socket client, process {os.getpid()} ({command.read().strip()}) of "
                              f"user {os.getuid()}, goes on after a crash",
                              inspect("--socket", socket).stdout)


if __name__ == "__main__":
    del Scene
    unittest.main()
