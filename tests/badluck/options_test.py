#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The command line and environment of 4.17's C xenstored, the trace file and the quota warnings."""

import os
import re
import socket
import unittest

from box import Box, HostedBox, alive, eventually, read, read_pid, read_text, write, xs

TRACE_LINE = re.compile(
    r"(IN|OUT) \S+ (\d{8} \d\d:\d\d:\d\d) ([A-Z_]+) \((.*)\)(?: tx (\d+))?")


class Options(unittest.TestCase):
    def setUp(self):
        self.box = Box()
        self.addCleanup(self.box.stop)

    def serves_with(self, *options):
        box = Box(*options)
        try:
            box.start()
            self.assertEqual(write(box.client(), "/x", b"y"), b"OK\0")
            return box.log()
        finally:
            box.stop()

    def test_all_of_4_17_are_accepted(self):
        for options in (
                ("-E", "500"), ("--entry-nb", "500"), ("--entry-nb=500",), ("-E500",),
                ("-S", "4000"), ("--entry-size", "4000"), ("-t", "32"), ("--transaction=32",),
                ("-A", "9"), ("--perm-nb", "9"), ("-M", "1000"), ("--path-max", "1000"),
                ("-W", "512"), ("--watch-nb=512",),
                ("-Q", "transaction-nodes=100"), ("--quota", "memory=1000000"),
                ("-Q", "outstanding=30"), ("-q", "memory=900000"),
                ("--quota-soft", "memory=900000"), ("-w", "watch-event=5"),
                ("--timeout", "watch-event=0"), ("-R",), ("--no-recovery",), ("-I",), ("-Ioff",),
                ("--internal-db",), ("--internal-db=on",), ("--internal-db=off",), ("-K",),
                ("--keep-orphans",), ("-V",), ("--verbose",), ("-P",), ("--output-pid",),
                ("-e", "3"), ("--event=3",), ("-m", "0"), ("--master-domid", "0"), ("-p", "1"),
                ("--priv-domid=1",), ("--no-domain-init",), ("--no-fork",),
                ("-V", "-K", "-R", "-I", "--transaction=32", "--watch-nb=512")):
            with self.subTest(options):
                log = self.serves_with(*options).lower()
                for word in ("unrecognized", "unknown", "invalid option"):
                    self.assertNotIn(word, log)

    def test_unknown_ones_are_reported_and_ignored(self):
        for option in ("--no-such-option", "--config-file=/etc/x", "-z", "-X"):
            with self.subTest(option):
                self.assertIn(option.strip("-").split("=")[0], self.serves_with(option))
        self.assertIn("one", self.serves_with("--one", "-E", "100", "--two"))

    def test_positional_arguments_are_refused(self):
        for arguments in (["extra"], ["-E", "100", "extra"], ["extra", "-V"], ["--", "extra"]):
            with self.subTest(arguments):
                self.box.options = arguments
                result = self.box.run()
                self.assertGreater(result.returncode, 0)
                self.assertIn("argument", result.stdout.lower())

    def test_help(self):
        for option in ("-H", "--help"):
            self.box.options = [option]
            result = self.box.run()
            self.assertEqual(result.returncode, 0)
            for word in ("--no-domain-init", "--pid-file", "--quota", "--area", "--supervise"):
                self.assertIn(word, result.stdout)

    def test_output_pid(self):
        self.box.options = ["-P"]
        self.box.start()
        eventually(lambda: re.search(rf"^{self.box.process.pid}$", self.box.log(), re.MULTILINE),
                   "the pid on a line of its own")

    def test_output_pid_of_the_daemonised_one(self):
        self.box.options, self.box.mode = ["-P"], ("-D",)
        printed = re.findall(r"^\d+$", self.box.run().stdout, re.MULTILINE)
        self.assertEqual([int(pid) for pid in printed], [read_pid(self.box.pid_file)])
        self.assertTrue(alive(int(printed[0])))

    def test_without_xen(self):
        """There is no Xen where the tests run: only -D starts."""
        for mode in (("-N",), ("-N", "--supervise"), ()):
            with self.subTest(mode=mode):
                self.box.mode = mode
                result = self.box.run()
                self.assertGreater(result.returncode, 0)
                self.assertIn("Xen", result.stdout.replace("XENSTORED_RUNDIR", ""))
                self.assertFalse(os.path.exists(self.box.pid_file))
                eventually(lambda: not self.box.processes(), "no process left")

    def test_xenstored_path_moves_the_socket(self):
        moved = os.path.join(self.box.rundir, "moved")
        self.box.env["XENSTORED_PATH"] = moved
        self.box.start(wait=False)
        eventually(lambda: os.path.exists(moved), "a socket at XENSTORED_PATH")
        usual = os.path.join(self.box.rundir, "socket")
        self.assertFalse(os.path.exists(usual))
        os.symlink(moved, usual)  # where this test's clients look
        self.box.wait_serving()

    def test_stale_socket_is_replaced(self):
        stale = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(stale.close)
        stale.bind(os.path.join(self.box.rundir, "socket"))
        self.box.start()

    def test_what_is_no_socket_is_not_touched(self):
        path = os.path.join(self.box.rundir, "socket")
        for make in (lambda: open(path, "wb").close(), lambda: os.mkdir(path)):
            make()
            result = self.box.run()
            self.assertGreater(result.returncode, 0)
            self.assertIn(path, result.stdout)
            (os.rmdir if os.path.isdir(path) else os.unlink)(path)

    def test_pid_file_that_cannot_be_written_is_an_error(self):
        self.box.pid_file = "/nowhere/at/all.pid"
        result = self.box.run()
        self.assertGreater(result.returncode, 0)
        self.assertIn("/nowhere/at/all.pid", result.stdout)


class Trace(unittest.TestCase):
    def setUp(self):
        self.box = Box()
        self.addCleanup(self.box.stop)
        self.trace = os.path.join(self.box.rundir, "trace")
        self.box.options = ["-T", self.trace]
        self.box.start()
        self.client = self.box.client()

    def lines(self, word):
        """Trace lines with `word`, once there are any."""
        def found():
            return [line for line in read_text(self.trace).splitlines() if word in line]
        return eventually(found, f"{word} in the trace")

    def test_requests_and_replies(self):
        self.assertEqual(write(self.client, "/a/b", b"val"), b"OK\0")
        self.assertEqual(read(self.client, "/nonode"), "ENOENT")
        request = TRACE_LINE.fullmatch(self.lines("(/a/b val)")[0])
        self.assertIsNotNone(request, self.lines("(/a/b val)"))
        self.assertEqual((request[1], request[3]), ("IN", "WRITE"))
        self.assertRegex(request[2], r"^20\d{6} [012]\d:[0-5]\d:[0-6]\d$")
        reply = TRACE_LINE.fullmatch(self.lines("(OK )")[-1])
        self.assertEqual((reply[1], reply[3]), ("OUT", "WRITE"))
        error = TRACE_LINE.fullmatch(self.lines("(ENOENT )")[0])
        self.assertEqual((error[1], error[3]), ("OUT", "ERROR"))

    def test_transaction_id_is_in_the_line(self):
        for _ in range(41):
            self.client.call(xs.TRANSACTION_START, b"\0")
        tx = int(self.client.call(xs.TRANSACTION_START, b"\0")[:-1])
        self.assertEqual(write(self.client, "/in/tx", b"x", tx), b"OK\0")
        line = self.lines("(/in/tx x)")[0]
        self.assertEqual(TRACE_LINE.fullmatch(line)[5], str(tx), line)

    def test_connections_watches_and_transactions_come_and_go(self):
        client = self.box.client()
        self.assertEqual(client.call(xs.WATCH, b"/w\0t\0"), b"OK\0")
        self.assertEqual(client.recv()[0], xs.WATCH_EVENT)
        tx = int(client.call(xs.TRANSACTION_START, b"\0")[:-1])
        self.assertEqual(client.call(xs.TRANSACTION_END, b"F\0", tx), b"OK\0")
        self.assertEqual(client.call(xs.UNWATCH, b"/w\0t\0"), b"OK\0")
        client.close()
        for word in ("connection", "watch", "transaction"):
            self.lines(f"CREATE {word} ")
            self.lines(f"DESTROY {word} ")
        self.lines("WATCH_EVENT")

    def test_hostile_payload_cannot_forge_lines(self):
        write(self.client, "/f", b"x)\nIN 0xdead 20200101 00:00:00 RM (/everything")
        self.lines("/f ")
        self.assertFalse([line for line in read_text(self.trace).splitlines()
                          if line.startswith("IN 0xdead")])

    def test_unwritable_trace_does_not_stop_it(self):
        box = Box("-T", "/nowhere/at/all/trace")
        self.addCleanup(box.stop)
        box.start()
        self.assertIn("/nowhere/at/all/trace", box.log())


class QuotaWarnings(unittest.TestCase):
    """The first refusal per domain and kind is logged, the next ones are not."""

    def setUp(self):
        self.box = HostedBox("-E", "5", "-W", "3", "-t", "2", "-S", "1000", "-A", "2")
        self.addCleanup(self.box.stop)
        self.box.start()
        self.root = self.box.client()
        self.guests = {domid: self.guest(domid) for domid in (17, 23)}

    def guest(self, domid):
        home = f"/local/domain/{domid}"
        ring = b"%d\0%d\0%d\0" % (domid, *self.box.machine.create(domid))
        self.assertEqual(self.root.call(xs.INTRODUCE, ring), b"OK\0")
        self.assertEqual(write(self.root, home, b""), b"OK\0")
        self.assertEqual(self.root.call(xs.SET_PERMS, f"{home}\0n{domid}\0".encode()), b"OK\0")
        return self.box.client(domid)

    def refused(self, domid, op, payload, error):
        """Repeats the request until it is refused, then four times more."""
        refusals = 0
        for number in range(40):
            answer = self.guests[domid].call(op, payload.replace(b"%", b"%d" % number))
            if answer == error:
                refusals += 1
            if refusals == 5:
                return
        self.fail(f"no {error} for {payload}")

    def warned(self, domid):
        return [line for line in self.box.warnings("quota")
                if re.search(rf"\bdom(ain)? ?{domid}\b", line)]

    def test_once_per_domain_and_kind(self):
        kinds = ((xs.WRITE, b"n%\0x", "ENOSPC"), (xs.WATCH, b"w%\0t\0", "E2BIG"),
                 (xs.TRANSACTION_START, b"\0", "ENOSPC"),
                 (xs.SET_PERMS, b"n0\0n17\0r1\0r2\0r3\0", "ENOSPC"))
        for count, (op, payload, error) in enumerate(kinds, 1):
            self.refused(17, op, payload, error)
            eventually(lambda: len(self.warned(17)) >= count,  # pylint: disable=W0640
                       f"warning {count}; log:\n{self.box.log()}")
            self.assertEqual(len(self.warned(17)), count, self.warned(17))
        self.assertEqual(self.warned(23), [])
        self.refused(23, xs.WATCH, b"w%\0t\0", "E2BIG")
        eventually(lambda: self.warned(23), f"the other domain's warning; log:\n{self.box.log()}")
        self.assertEqual(len(self.warned(23)), 1)
        self.assertEqual(len(self.warned(17)), len(kinds))

    def test_node_size(self):
        self.refused(17, xs.WRITE, b"n\0" + b"x" * 1500, "ENOSPC")
        eventually(lambda: self.warned(17), f"a warning; log:\n{self.box.log()}")
        self.assertEqual(len(self.warned(17)), 1)

    def test_privileged_clients_have_no_quota(self):
        for number in range(50):
            self.assertEqual(write(self.root, f"/many/{number}", b"x" * 3000), b"OK\0")
            self.assertEqual(self.root.call(xs.WATCH, b"/many\0%d\0" % number), b"OK\0")
            self.root.recv()
        self.assertEqual(self.box.warnings("quota"), [])


if __name__ == "__main__":
    unittest.main()
