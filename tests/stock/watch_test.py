# SPDX-License-Identifier: MIT
"""xenstore-watch: its events, and its end when the server is killed."""

import select
import subprocess
import unittest

import stock


class Watch(stock.StockTest):
    def watch(self, *arguments):
        """A running xenstore-watch that has shown its first, unconditional event."""
        process = subprocess.Popen(["xenstore-watch", *arguments], env=self.environment(),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
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


if __name__ == "__main__":
    unittest.main()
