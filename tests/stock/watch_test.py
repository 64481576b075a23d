# SPDX-License-Identifier: MIT
"""xenstore-watch: its events, and what becomes of it when the server is killed."""

import os
import select
import signal
import subprocess
import unittest

import stock


class Watching(stock.StockTest):
    def watch(self, *arguments):
        """A running xenstore-watch that has shown its first, unconditional event."""
        process = subprocess.Popen(["xenstore-watch", *arguments], env=self.environment(),
                                   stdout=subprocess.PIPE, bufsize=0)
        self.addCleanup(self.finish, process)
        for path in (word for word in arguments if word.startswith("/")):
            self.assertEqual(self.next_line(process), path)
        return process

    def finish(self, process):
        process.kill()
        process.communicate()

    def next_line(self, process):
        self.assertTrue(select.select([process.stdout], [], [], 20)[0], "no event in 20 s")
        return process.stdout.readline().decode().rstrip("\n")


class Watch(Watching):
    def test_a_change_by_another_client_is_shown(self):
        watching = self.watch("/a")
        self.expect("xenstore-write /a/b 1")
        self.assertEqual(self.next_line(watching), "/a/b")
        self.expect("xenstore-rm /a")
        self.assertEqual(self.next_line(watching), "/a")

    def test_it_ends_after_the_events_it_was_asked_for(self):
        watching = self.watch("-n", "2", "/a")
        self.expect("xenstore-write /a/b 1")
        self.assertEqual(self.next_line(watching), "/a/b")
        self.assertEqual(watching.wait(20), 0)

    def test_other_nodes_are_not_shown(self):
        watching = self.watch("/a")
        self.expect("xenstore-write /b 1")
        self.expect("xenstore-write /a 1")
        self.assertEqual(self.next_line(watching), "/a")

    def test_several_clients_each_see_every_event(self):
        watchers = [self.watch("/a") for _ in range(4)]
        self.expect("xenstore-write /a/x 1")
        self.assertEqual([self.next_line(process) for process in watchers], 4 * ["/a/x"])


class WatchAndKill(Watching):
    daemon_options = ("--supervise", "--close-clients")

    def kill_server(self):
        pid_file = os.path.join(self.daemon.rundir, "xenstored-server.pid")
        with open(pid_file, encoding="ascii") as file:
            os.kill(int(file.read()), signal.SIGKILL)

    # A killed server's clients are closed, and libxenstore never connects again: the stock
    # client shows no event any more. With -n it counts its failed reads and ends; without, it
    # reads in vain, at full speed, until it is stopped (seen with 4.17's; nothing of ours).
    def test_after_a_kill_it_ends_without_a_false_event(self):
        watching = self.watch("-n", "50", "/a")
        self.kill_server()
        self.assertEqual(watching.wait(20), 0)
        self.assertEqual(watching.stdout.read(), b"")

    def test_after_a_kill_a_new_one_works(self):
        self.kill_server()
        watching = self.watch("/a")
        self.expect("xenstore-write /a/b 1")
        self.assertEqual(self.next_line(watching), "/a/b")


if __name__ == "__main__":
    unittest.main()
