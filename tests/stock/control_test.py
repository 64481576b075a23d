# SPDX-License-Identifier: MIT
"""xenstore-control: each sub-command of 4.17, with what the stock tool prints."""

import os
import unittest

import stock

HELP = ("check\n"
        "inspect [<cursor>]\n"
        "log on|off\n"
        "logfile <file>\n"
        "memreport [<file>]\n"
        "print <string>\n"
        "quota [set <name> <val>|<domid>]\n"
        "quota-soft [set <name> <val>]\n"
        "help\n")


class Control(stock.StockTest):
    def control(self, *words):
        done = self.run_client(os.path.join(stock.XEN_BIN, "xenstore-control"), *words)
        return done.returncode, done.stdout, done.stderr

    def expect_ok(self, *words):
        self.assertEqual(self.control(*words), (0, "OK\n", ""))

    def expect_refused(self, *words):
        """The tool's way to say EINVAL: it asks for help and shows that."""
        self.assertEqual(
            self.control(*words),
            (3, "", "Command not supported. Valid commands are:\n" + HELP + "\n"), words)

    def quotas(self, command):
        code, out, err = self.control(command)
        self.assertEqual((code, err), (0, ""))
        rows = [line.split(":") for line in out.splitlines() if line]
        return {name.strip(): int(rest.split()[0]) for name, rest in rows}

    def file(self, name):
        return os.path.join(self.daemon.rundir, name)

    def content(self, name):
        with open(self.file(name), encoding="utf-8") as file:
            return file.read()

    def test_help(self):
        self.assertEqual(self.control("help"), (0, HELP + "\n", ""))

    def test_check(self):
        self.expect("xenstore-write /a/b/c 1")
        self.expect_ok("check")

    def test_quota_lists_the_defaults_of_4_17(self):
        self.assertEqual(self.quotas("quota"), {
            "nodes": 1000, "watches": 128, "transactions": 10, "outstanding": 20,
            "transaction-nodes": 1024, "memory": 2621440, "node-size": 2048, "path-max": 2048,
            "node-permissions": 5})
        self.assertEqual(self.quotas("quota-soft"), {"memory": 2097152})

    def test_quota_set(self):
        self.expect_ok("quota", "set", "nodes", "1100")
        self.assertEqual(self.quotas("quota")["nodes"], 1100)
        self.expect_ok("quota-soft", "set", "memory", "4096")
        self.assertEqual(self.quotas("quota-soft"), {"memory": 4096})

    def test_quota_refuses_what_makes_no_sense(self):
        self.expect_refused("quota", "set", "nodes", "0")
        self.expect_refused("quota", "set", "no-such-quota", "5")
        self.expect_refused("quota", "set", "nodes")
        self.expect_refused("quota-soft", "set", "nodes", "5")

    def test_quota_of_an_unknown_domain(self):
        self.assertEqual(self.control("quota", "7"),
                         (3, "", "Error 2 when trying to execute command.\n"))

    def test_memreport_into_a_file(self):
        self.expect_ok("memreport", self.file("memory"))
        self.assertNotEqual(self.content("memory"), "")

    def test_memreport_without_a_trace_file_is_refused(self):
        self.expect_refused("memreport")

    def test_logfile_log_and_print(self):
        self.expect_ok("logfile", self.file("trace"))
        self.expect_ok("log", "on")
        self.expect_ok("print", "hello-from-the-test")
        self.expect("xenstore-write /seen 1")
        self.expect_ok("log", "off")
        self.expect("xenstore-write /unseen 1")
        trace = self.content("trace")
        self.assertIn("hello-from-the-test\n", trace)
        self.assertRegex(trace, r"IN 0x[0-9a-f]+ \d{8} \d\d:\d\d:\d\d WRITE \(/seen 1\)")
        self.assertNotIn("/unseen", trace)

    def test_memreport_goes_to_the_trace_file_when_there_is_one(self):
        self.expect_ok("logfile", self.file("trace"))
        self.expect_ok("memreport")
        self.assertNotEqual(self.content("trace"), "")

    def test_unknown_commands_and_wrong_counts_of_arguments(self):
        self.expect_refused("no-such-command")
        self.expect_refused("check", "now")
        self.expect_refused("log")
        self.expect_refused("log", "maybe")
        self.expect_refused("logfile")
        self.expect_refused("print")

    # Live update is "start again": the daemon's state needs no hand-over.
    def test_live_update_is_refused_and_harmless(self):
        code, _, err = self.control("live-update", "/bin/true")
        self.assertEqual((code, err), (3, "Setting update binary failed:\nInvalid argument\n"))
        self.expect("xenstore-write /a 1")


if __name__ == "__main__":
    unittest.main()
