#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The keeper: clients that connect while the server is dead wait and are served; who is told what
and when at a start."""

import fcntl
import os
import signal
import socket
import threading
import time
import unittest

from box import Box, alive, children, eventually, kill_server, read, read_pid, tree, write, xs

KILLS = 100


class Connector(threading.Thread):
    """Connects and reads in a loop; notes every exchange that went wrong, with its times."""

    def __init__(self, box):
        super().__init__()
        self.box, self.stopping = box, threading.Event()
        self.served, self.failed_connects, self.broken = 0, [], []

    def run(self):
        while not self.stopping.is_set():
            start = time.monotonic()
            try:
                client = self.box.client()
            except OSError as error:
                self.failed_connects.append(repr(error))
                continue
            try:
                assert isinstance(read(client, "/"), bytes)
                self.served += 1
            except (OSError, xs.Closed) as error:
                self.broken.append((start, time.monotonic(), repr(error)))
            client.close()


class Kills(unittest.TestCase):
    def setUp(self):
        self.box = Box("--supervise")
        self.addCleanup(self.box.stop)
        self.box.start()

    def test_a_tool_that_reads_the_area_just_then(self):
        """It holds the lock for an instant, and the keeper does not give up."""
        client = self.box.client()
        write(client, "/kept", b"v")
        for seconds in (0.3, 2):  # longer than a server waits, too
            tool = threading.Thread(target=self.hold_lock, args=(seconds,))
            tool.start()
            eventually(self.is_lock_awaited, "that the tool waits for the lock")
            kill_server(self.box)
            tool.join()
            self.assertEqual(read(self.box.client(), "/kept"), b"v")

    def is_lock_awaited(self):
        inode = os.stat(os.path.join(self.box.area, "lock")).st_ino
        with open("/proc/locks", encoding="ascii") as locks:
            return any("-> FLOCK" in line and f":{inode} " in line for line in locks)

    def hold_lock(self, seconds):
        with open(os.path.join(self.box.area, "lock"), encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            time.sleep(seconds)

    def test_a_hundred_kills(self):
        connector = Connector(self.box)
        connector.start()
        kills, pids = [], {self.box.server_pid()}
        try:
            for number in range(KILLS):
                client = self.box.client()
                self.assertEqual(write(client, f"/kill/{number}", b"%d" % number), b"OK\0")
                begin = time.monotonic()
                dead = kill_server(self.box)
                kills.append((begin, time.monotonic()))
                late = self.box.client()  # connects while nobody serves
                self.assertEqual(read(late, f"/kill/{number}"), b"%d" % number)
                with self.assertRaises(xs.Closed):
                    client.recv()
                pids.add(self.box.next_server_pid(dead))
                client.close()
                late.close()
        finally:
            connector.stopping.set()
            connector.join()
        self.assertEqual(connector.failed_connects, [])
        self.assertGreater(connector.served, KILLS)
        for start, end, error in connector.broken:  # only whom a dying server had accepted
            self.assertTrue(any(start <= dead and begin <= end for begin, dead in kills),
                            f"closed without a kill: {error}")
        self.assertEqual(read_pid(self.box.pid_file), self.box.process.pid)
        self.assertEqual(len(tree(self.box.client(), "/kill")), KILLS + 1)
        self.assertEqual(len(children(self.box.process.pid)), 1, "one server, no zombies")

    def test_many_clients_that_connected_during_the_outage(self):
        os.kill(self.box.process.pid, signal.SIGSTOP)  # the keeper cannot restart meanwhile
        try:
            kill_server(self.box)
            waiting = [self.box.client() for _ in range(50)]
            for client in waiting:
                client.send(xs.READ, b"/\0")
        finally:
            os.kill(self.box.process.pid, signal.SIGCONT)
        for client in waiting:
            self.assertEqual(client.recv()[0], xs.READ)

    def test_one_that_gave_up_during_the_outage(self):
        os.kill(self.box.process.pid, signal.SIGSTOP)
        try:
            kill_server(self.box)
            for _ in range(20):
                client = self.box.client()
                client.send(xs.WRITE, b"/gave/up\0x")
                client.close()
        finally:
            os.kill(self.box.process.pid, signal.SIGCONT)
        self.assertEqual(read(self.box.client(), "/"), b"")

    def test_restart_is_quick(self):
        times = []
        for _ in range(10):
            kill_server(self.box)
            begin = time.monotonic()
            read(self.box.client(), "/")
            times.append(time.monotonic() - begin)
        self.assertLess(sorted(times)[5], 0.5, times)

    def test_server_that_ends_by_other_signals_is_restarted(self):
        for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS):
            dead = self.box.server_pid()
            os.kill(dead, number)
            self.box.next_server_pid(dead)
            self.assertEqual(read(self.box.client(), "/"), b"")
        self.assertIsNone(self.box.process.poll())

    def test_server_goes_on_without_its_keeper(self):
        client = self.box.client()
        server = self.box.server_pid()
        self.box.kill()
        self.assertEqual(write(client, "/on", b"x"), b"OK\0")
        for _ in range(50):
            self.assertEqual(read(self.box.client(), "/on"), b"x")
        self.assertTrue(alive(server))

    def test_server_without_keeper_stops_on_sigterm(self):
        server = self.box.server_pid()
        self.box.kill()
        os.kill(server, signal.SIGTERM)
        eventually(lambda: not alive(server), "the server's end")


class NotKept(unittest.TestCase):
    """--close-clients: a socket ends with its server."""

    def setUp(self):
        self.box = Box("--supervise", "--close-clients")
        self.addCleanup(self.box.stop)
        self.box.start()

    def test_transactions_and_watches_go_with_it(self):
        client = self.box.client()
        tx = int(client.call(xs.TRANSACTION_START, b"\0")[:-1])
        self.assertEqual(write(client, "/never/committed", b"x", tx), b"OK\0")
        kill_server(self.box)
        with self.assertRaises(xs.Closed):
            client.recv()
        self.assertEqual(read(self.box.client(), "/never/committed"), "ENOENT")


class Start(unittest.TestCase):
    def setUp(self):
        self.box = Box()
        self.addCleanup(self.box.stop)

    def cannot_start(self):
        """An area that no daemon can use; returns its path."""
        path = os.path.join(self.box.rundir, "a-file")
        with open(path, "wb") as file:
            file.write(b"in the way")
        self.box.options += ["--area", path]
        return path

    def test_foreground_is_one_process(self):
        self.box.start()
        pid = self.box.process.pid
        self.assertEqual(self.box.processes(), [pid])
        self.assertEqual(read_pid(self.box.pid_file), pid)

    def test_keeper_and_server(self):
        self.box.options.append("--supervise")
        self.box.start()
        keeper = self.box.process.pid
        self.assertEqual(read_pid(self.box.pid_file), keeper)
        self.assertEqual(children(keeper), [self.box.server_pid()])

    def test_daemonised_returns_when_it_serves(self):
        self.box.mode = ("-D",)
        result = self.box.run()  # would time out if the daemon kept the caller's output open
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertEqual(read(self.box.client(), "/"), b"")
        keeper, server = read_pid(self.box.pid_file), self.box.server_pid()
        self.assertEqual(sorted(self.box.processes()), sorted((keeper, server)))
        self.assertEqual(children(keeper), [server])
        self.assertEqual(os.readlink(f"/proc/{keeper}/cwd"), "/")
        self.assertNotEqual(os.getsid(keeper), os.getsid(0))
        dead = kill_server(self.box)
        self.assertEqual(read(self.box.client(), "/"), b"")
        self.assertNotEqual(self.box.next_server_pid(dead), dead)

    def test_daemonised_that_cannot_start_says_why(self):
        path = self.cannot_start()
        self.box.mode = ("-D",)
        result = self.box.run()
        self.assertGreater(result.returncode, 0)
        self.assertIn(path, result.stdout)
        eventually(lambda: not self.box.processes(), "no process left")

    def test_supervised_that_cannot_start_says_why(self):
        path = self.cannot_start()
        self.box.options.append("--supervise")
        result = self.box.run()
        self.assertGreater(result.returncode, 0)
        self.assertIn(path, result.stdout)
        eventually(lambda: not self.box.processes(), "no process left")

    def test_socket_is_for_its_owner_only(self):
        self.box.start()
        mode = os.stat(os.path.join(self.box.rundir, "socket")).st_mode
        self.assertEqual(mode & 0o777, 0o600)


class Ready(unittest.TestCase):
    def setUp(self):
        self.box = Box()
        self.addCleanup(self.box.stop)
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.notified.close)
        self.notified.settimeout(10)

    def listen(self, name):
        self.notified.bind(name.replace("@", "\0", 1))
        self.box.env["NOTIFY_SOCKET"] = name

    def assert_ready_means_serving(self):
        lines = self.notified.recv(4096).decode().split("\n")
        self.assertIn("READY=1", lines)
        self.assertEqual(read(self.box.client(), "/"), b"")

    def test_foreground(self):
        self.listen(os.path.join(self.box.rundir, "notify"))
        self.box.start(wait=False)
        self.assert_ready_means_serving()

    def test_keeper(self):
        self.listen(os.path.join(self.box.rundir, "notify"))
        self.box.options.append("--supervise")
        self.box.start(wait=False)
        self.assert_ready_means_serving()

    def test_abstract_socket(self):
        self.listen("@" + self.box.rundir)
        self.box.start(wait=False)
        self.assert_ready_means_serving()

    def test_not_ready_when_it_cannot_start(self):
        self.listen(os.path.join(self.box.rundir, "notify"))
        with open(self.box.area, "wb") as file:
            file.write(b"in the way")
        self.assertGreater(self.box.run().returncode, 0)
        self.notified.setblocking(False)
        try:
            self.assertNotIn(b"READY=1", self.notified.recv(4096))
        except BlockingIOError:
            pass  # nothing at all is right too

    def test_nobody_listens(self):
        self.box.env["NOTIFY_SOCKET"] = os.path.join(self.box.rundir, "nobody")
        self.box.start()


if __name__ == "__main__":
    unittest.main()
