#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""State of an earlier boot is set aside with a message; state of a newer format is refused."""

import ctypes
import os
import struct
import unittest

from box import Box, eventually, read, tree, write

BOOT_ID = "/proc/sys/kernel/random/boot_id"


class EarlierBoot(unittest.TestCase):
    def setUp(self):
        self.box = Box()
        self.addCleanup(self.box.stop)

    def boot(self, number):
        """From now on the daemon sees another boot id."""
        path = os.path.join(self.box.rundir, f"boot{number}")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"0badc0de-0000-4000-8000-{number:012}\n")
        self.box.prefix = ("unshare", "-m", "sh", "-c",
                           f'mount --bind "$0" {BOOT_ID} && exec "$@"', path)

    def run_once(self, path):
        """Starts, writes `path`, kills -9; returns the tree as it was found."""
        self.box.start()
        client = self.box.client()
        found = tree(client)
        self.assertEqual(write(client, path, b"x"), b"OK\0")
        self.box.kill()
        return found

    def test_same_boot_goes_on(self):
        self.boot(1)
        self.run_once("/one")
        self.assertIn("/one", self.run_once("/two"))
        self.assertEqual(os.listdir(self.box.area).count("state"), 1)

    def test_earlier_boot_is_set_aside(self):
        self.boot(1)
        fresh = self.run_once("/one")
        before = set(os.listdir(self.box.area))
        self.boot(2)
        self.assertEqual(self.run_once("/two"), fresh)
        new = set(os.listdir(self.box.area)) - before
        self.assertTrue(any(name in self.box.log() for name in new), self.box.log())
        self.assertIn("boot", self.box.log())
        self.assertIn("/two", self.run_once("/three"))

    def test_many_boots_do_not_fill_the_area(self):
        for number in range(12):
            self.boot(number)
            self.assertNotIn("/one", self.run_once("/one"))
        self.assertLess(len(os.listdir(self.box.area)), 12)

    def test_earlier_boot_under_a_keeper(self):
        self.boot(1)
        self.run_once("/one")
        self.boot(2)
        self.box.options.append("--supervise")
        self.box.start()
        self.assertEqual(read(self.box.client(), "/one"), "ENOENT")


class OtherFormat(unittest.TestCase):
    """A daemon must not touch what it cannot read: it was downgraded, or what it replaced could
    still serve the state of this boot."""

    def setUp(self):
        self.box = Box()
        self.addCleanup(self.box.stop)
        self.box.start()
        self.assertEqual(write(self.box.client(), "/kept", b"x"), b"OK\0")
        self.box.kill()

    def set_version(self, change):
        """Adds `change` to the version of the state; gives the new one. state/seal begins with
        "XSJOURN\\n", the version (32 bits) and more; at offset 56 is the XXH3 of all that."""
        digest = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
        digest.argtypes, digest.restype = (ctypes.c_char_p, ctypes.c_size_t), ctypes.c_uint64
        with open(os.path.join(self.box.area, "state", "seal"), "r+b") as file:
            header = file.read(64)
            self.assertEqual(header[:8], b"XSJOURN\n")
            self.assertEqual(struct.unpack("=Q", header[56:])[0], digest(header, 56))
            version = struct.unpack("=I", header[8:12])[0] + change
            header = header[:8] + struct.pack("=I", version) + header[12:56]
            file.seek(0)
            file.write(header + struct.pack("=Q", digest(header, 56)))
        return version

    def is_refused_and_left_alone(self, change):
        version = self.set_version(change)
        before = set(os.listdir(self.box.area))
        for mode in (("-D", "-N"), ("-D", "-N", "--supervise"), ("-D",)):
            with self.subTest(mode=mode):
                self.box.mode = mode
                result = self.box.run()
                self.assertGreater(result.returncode, 0)
                self.assertRegex(result.stdout, "(?i)newer|older|version")
                self.assertIn(str(version), result.stdout)
                self.assertEqual(set(os.listdir(self.box.area)), before)
                eventually(lambda: not self.box.processes(), "no process left")
        self.set_version(-change)
        self.box.mode = ("-D", "-N")
        self.box.start()
        self.assertEqual(read(self.box.client(), "/kept"), b"x")

    def test_newer(self):
        self.is_refused_and_left_alone(1)

    def test_older(self):
        self.is_refused_and_left_alone(-1)


if __name__ == "__main__":
    unittest.main()
