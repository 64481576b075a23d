# SPDX-License-Identifier: MIT
"""xenstore-read, -write, -ls, -list, -exists, -chmod and -rm, with all that they print."""

import unittest

import stock


class WriteAndRead(stock.StockTest):
    def test_what_was_written_is_read(self):
        self.expect("xenstore-write /a/b hello")
        self.expect("xenstore-read /a/b", "hello\n")
        self.expect("xenstore-read -p /a/b", "/a/b: hello\n")

    def test_missing_parents_are_made_empty(self):
        self.expect("xenstore-write /a/b/c x")
        self.expect("xenstore-read /a/b", "\n")

    def test_many_pairs_in_one_transaction(self):
        self.expect("xenstore-write /a 1 /b 2 /c 3")
        self.expect("xenstore-read /a /b /c", "1\n2\n3\n")

    def test_bytes_that_are_no_text_come_back_escaped(self):
        self.expect(r"xenstore-write /a one\ttwo\x01")
        self.expect("xenstore-read /a", "one\\ttwo\\001\n")

    def test_a_long_value(self):
        self.expect("xenstore-write /a " + 3000 * "v")
        self.expect("xenstore-read /a", 3000 * "v" + "\n")

    def test_reading_a_missing_node_fails(self):
        self.expect("xenstore-read /nowhere", "", "xenstore-read: couldn't read path /nowhere\n", 1)

    def test_writing_an_illegal_path_fails(self):
        self.expect("xenstore-write /a//b x", "", "xenstore-write: could not write path /a//b\n", 1)

    def test_a_relative_path_is_below_domain_0(self):
        self.expect("xenstore-write name dom0")
        self.expect("xenstore-read /local/domain/0/name", "dom0\n")


class List(stock.StockTest):
    def setUp(self):
        super().setUp()
        self.expect("xenstore-write /d/z 26 /d/a 1 /d/m/deep 13")

    def test_children_come_in_the_order_of_creation(self):
        self.expect("xenstore-list /d", "z\na\nm\n")
        self.expect("xenstore-list -p /d", "/d/z\n/d/a\n/d/m\n")

    def test_a_leaf_has_no_children(self):
        self.expect("xenstore-list /d/z")

    def test_a_missing_node_cannot_be_listed(self):
        self.expect("xenstore-list /d/q", "", "xenstore-list: could not list path /d/q\n", 1)

    def test_ls_shows_the_tree_below_a_path(self):
        self.expect("xenstore-ls /d", 'z = "26"\na = "1"\nm = ""\n deep = "13"\n')

    def test_ls_with_full_paths_and_permissions(self):
        self.expect("xenstore-ls -f /d",
                    '/d/z = "26"\n/d/a = "1"\n/d/m = ""\n/d/m/deep = "13"\n')
        done = self.run_client("xenstore-ls", "-fp", "/d")
        self.assertEqual([line.split() for line in done.stdout.splitlines()],
                         [["/d/z", "=", '"26"', "(n0)"], ["/d/a", "=", '"1"', "(n0)"],
                          ["/d/m", "=", '""', "(n0)"], ["/d/m/deep", "=", '"13"', "(n0)"]])

    def test_ls_of_a_missing_node_fails(self):
        self.expect("xenstore-ls /q", "",
                    "xenstore-ls: xs_directory (/q): No such file or directory\n", 1)

    # 4,096 bytes of names do not fit a reply: libxenstore asks again in parts.
    def test_a_directory_too_large_for_one_reply(self):
        names = [f"child-with-a-long-name-{i:04}" for i in range(400)]
        for start in range(0, 400, 50):
            pairs = [word for name in names[start:start + 50] for word in (f"/wide/{name}", "x")]
            self.assertEqual(self.run_client("xenstore-write", *pairs).returncode, 0)
        self.expect("xenstore-list /wide", "".join(name + "\n" for name in names))


class Exists(stock.StockTest):
    def test_the_exit_code_tells(self):
        self.expect("xenstore-write /a 1")
        self.expect("xenstore-exists /a")
        self.expect("xenstore-exists /b", code=1)
        self.expect("xenstore-exists /a /b", code=1)


class Remove(stock.StockTest):
    def test_a_node_goes_with_all_below_it(self):
        self.expect("xenstore-write /a/b/c 1 /a/d 2")
        self.expect("xenstore-rm /a/b")
        self.expect("xenstore-ls /a", 'd = "2"\n')

    def test_tidy_removes_parents_that_became_empty(self):
        self.expect("xenstore-write /a/b/c 1 /a/d 2")
        self.expect("xenstore-rm -t /a/b/c")
        self.expect("xenstore-list /a", "d\n")

    def test_removing_what_is_not_there(self):
        self.expect("xenstore-write /a 1")
        self.expect("xenstore-rm /a/b")
        self.expect("xenstore-rm /q/b/c", "", "xenstore-rm: could not remove path /q/b/c\n", 1)

    def test_the_root_stays(self):
        self.expect("xenstore-rm /", "", "xenstore-rm: could not remove path /\n", 1)


class Chmod(stock.StockTest):
    def setUp(self):
        super().setUp()
        self.expect("xenstore-write /a/b/c 1")

    def permissions(self):
        done = self.run_client("xenstore-ls", "-fp", "/a")
        return {line.split()[0]: line.split()[-1] for line in done.stdout.splitlines()}

    def test_one_node(self):
        self.expect("xenstore-chmod /a/b r0 b3 w4")
        self.assertEqual(self.permissions(), {"/a/b": "(r0,b3,w4)", "/a/b/c": "(n0)"})

    def test_recursively(self):
        self.expect("xenstore-chmod -r /a/b r0")
        self.assertEqual(self.permissions(), {"/a/b": "(r0)", "/a/b/c": "(r0)"})

    def test_new_children_inherit(self):
        self.expect("xenstore-chmod /a/b n0 r5")
        self.expect("xenstore-write /a/b/new 1")
        self.assertEqual(self.permissions()["/a/b/new"], "(n0,r5)")

    def test_a_missing_node(self):
        done = self.run_client("xenstore-chmod", "/q", "n0")
        self.assertEqual(done.returncode, 1)


if __name__ == "__main__":
    unittest.main()
