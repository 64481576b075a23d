#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A request that kills the server twice is answered EIO, saved and logged, and not run again.

xenstored-faulty is the daemon with a fault planted: a WRITE whose value starts with "please-crash"
is a SIGSEGV while it is executed."""

import os
import random
import signal
import struct
import subprocess
import threading
import unittest

from box import Box, eventually, kill_server, read, write, xs

FATAL = b"/poison\0please-crash now"


class Poison(unittest.TestCase):
    def setUp(self):
        self.box = Box("--supervise", binary="xenstored-faulty")
        self.addCleanup(self.box.stop)
        self.box.start()

    def crash(self, payload=FATAL):
        """Sends the request, which kills the server."""
        dead, client = self.box.server_pid(), self.box.client()
        client.send(xs.WRITE, payload)
        with self.assertRaises(xs.Closed):
            client.recv()
        client.close()
        self.box.next_server_pid(dead)

    def saved(self):
        """Contents of the files under area/poisoned."""
        directory, contents = os.path.join(self.box.area, "poisoned"), []
        for name in os.listdir(directory) if os.path.isdir(directory) else ():
            with open(os.path.join(directory, name), "rb") as file:
                contents.append(file.read())
        return contents

    def test_third_time_is_answered_eio(self):
        witness = self.box.client()
        self.assertEqual(write(witness, "/before", b"x"), b"OK\0")
        self.crash()
        self.assertEqual(self.saved(), [])
        self.crash()
        server = self.box.server_pid()
        client = self.box.client()
        self.assertEqual(client.call(xs.WRITE, FATAL), "EIO")
        self.assertEqual(self.box.server_pid(), server)
        self.assertEqual(write(client, "/same/connection", b"x"), b"OK\0")
        other = self.box.client()
        self.assertEqual(read(other, "/before"), b"x")
        self.assertEqual(read(other, "/poison"), "ENOENT")
        self.assertEqual(write(other, "/poison", b"harmless"), b"OK\0")
        self.assertEqual(len(self.saved()), 1)
        self.assertIn(FATAL, self.saved()[0])
        self.assertIn("poison", self.box.log().lower())

    def test_stays_poisoned(self):
        self.crash()
        self.crash()
        for _ in range(5):
            self.assertEqual(self.box.client().call(xs.WRITE, FATAL), "EIO")
        kill_server(self.box)
        self.assertEqual(self.box.client().call(xs.WRITE, FATAL), "EIO")
        self.assertEqual(len(self.saved()), 1)

    def test_others_work_in_between(self):
        stopping, failures = threading.Event(), []

        def work():
            number = 0
            while not stopping.is_set():
                client = self.box.client()
                try:
                    for _ in range(20):
                        number += 1
                        answer = write(client, "/worker", b"%d" % number)
                        if answer != b"OK\0":
                            failures.append(answer)
                except (xs.Closed, ConnectionError):
                    pass  # the dying server closes it; a new one must be served
                except OSError as error:
                    failures.append(repr(error))
                client.close()
        worker = threading.Thread(target=work)
        worker.start()
        try:
            self.crash()
            self.crash()
            self.assertEqual(self.box.client().call(xs.WRITE, FATAL), "EIO")
        finally:
            stopping.set()
            worker.join()
        self.assertEqual(failures, [])

    def test_two_poisons(self):
        for number in range(2):
            payload = b"/poison/%d\0please-crash" % number
            self.crash(payload)
            self.crash(payload)
            self.assertEqual(self.box.client().call(xs.WRITE, payload), "EIO")
        self.assertEqual(len(self.saved()), 2)
        for number in range(2):
            payload = b"/poison/%d\0please-crash" % number
            self.assertEqual(self.box.client().call(xs.WRITE, payload), "EIO")

    def test_request_behind_others_in_one_batch(self):
        """Not the first of its turn: what stands before it is not blamed."""
        for _ in range(2):
            dead, client = self.box.server_pid(), self.box.client()
            client.send_raw(b"".join(
                struct.pack("=IIII", xs.WRITE, 0, 0, len(payload)) + payload
                for payload in (b"/innocent\0x", FATAL, b"/behind\0x")))
            with self.assertRaises(xs.Closed):
                while True:
                    client.recv()
            self.box.next_server_pid(dead)
        client = self.box.client()
        self.assertEqual(client.call(xs.WRITE, b"/innocent\0x"), b"OK\0")
        self.assertEqual(client.call(xs.WRITE, FATAL), "EIO")
        self.assertEqual(client.call(xs.WRITE, b"/behind\0x"), b"OK\0")

    def test_killed_by_hand_is_not_poison(self):
        """SIGKILL at random times in a long request is an operator's or the OOM killer's doing."""
        client = self.box.client()
        for number in range(3000):
            client.send(xs.WRITE, b"/big/%d\0x" % number)
            client.recv()
        draw, request = random.Random(7), b"/big\0"
        for _ in range(12):
            client = self.box.client()
            dead = self.box.server_pid()
            client.send(xs.RM, request)
            client.quiet(draw.random() * 0.002)
            kill_server(self.box)
            self.box.next_server_pid(dead)
            client = self.box.client()
            if read(client, "/big") == "ENOENT":
                for number in range(3000):
                    client.send(xs.WRITE, b"/big/%d\0x" % number)
                    client.recv()
        self.assertEqual(self.box.client().call(xs.RM, request), b"OK\0")
        self.assertEqual(self.saved(), [])

    def test_not_executing_is_not_poison(self):
        """An idle server that dies of SIGSEGV blames nobody."""
        for _ in range(3):
            client = self.box.client()
            self.assertEqual(write(client, "/last/request", b"x"), b"OK\0")
            dead = self.box.server_pid()
            os.kill(dead, signal.SIGSEGV)
            self.box.next_server_pid(dead)
        self.assertEqual(write(self.box.client(), "/last/request", b"x"), b"OK\0")
        self.assertEqual(self.saved(), [])

    def test_garbage_in_place_of_the_poisoned_directory(self):
        with open(os.path.join(self.box.area, "poisoned"), "wb") as file:
            file.write(b"in the way")
        self.crash()
        self.crash()
        self.assertEqual(self.box.client().call(xs.WRITE, FATAL), "EIO")
        eventually(lambda: "poison" in self.box.log().lower(), "a word in the log")


class SecondThread(unittest.TestCase):
    def test_history_is_left_out_when_it_has_killed_the_server_twice(self):
        box = Box("--supervise", "--history=on", binary="xenstored-faulty")
        self.addCleanup(box.stop)
        box.start()
        client = box.client()
        self.assertEqual(write(client, "/before", b"1"), b"OK\0")
        path = os.path.join(box.area, "history.git")
        in_history = lambda name: subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", path, "cat-file", "blob", f"HEAD:{name}/.value"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
        eventually(lambda: in_history("before") == b"1", "history has begun", seconds=60)
        # Until the state says so, a start tells the whole tree, and does not come to what crashes.
        # With one more round written, the next request notices, and the one after it stores that.
        write(client, "/settled", b"1")
        eventually(lambda: in_history("settled") == b"1", "one more round", seconds=60)
        write(client, "/settled", b"2")
        write(client, "/settled", b"3")
        client.send(xs.WRITE, b"/value\0crash-later")
        # A sanitizer takes seconds to describe each of the two deaths.
        eventually(lambda: "killed the server 2 times" in box.log(), "history given up", seconds=60)
        client = box.client()
        self.assertEqual(read(client, "/before"), b"1")
        self.assertEqual(read(client, "/value"), b"crash-later")
        # It is nobody's fault, and tried again at the next start, with the tree as it is by then.
        self.assertEqual(write(client, "/value", b"harmless"), b"OK\0")
        kill_server(box)
        client = box.client()
        self.assertEqual(write(client, "/after", b"2"), b"OK\0")
        eventually(lambda: in_history("after") == b"2", "the last change in the history", seconds=60)
        self.assertNotIn("suspect", box.log())


if __name__ == "__main__":
    unittest.main()
