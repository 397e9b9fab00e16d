"""What a snapshotter says that a step changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from img_core.testing.contracts.driver import DriverContract
from img_core.testing.shelves import OLD, Inside, Shelf, Tree, Work, everything, example
from img_core.testing.trees import fingerprint

__all__ = ["ChangePromises"]


def again(tree: Tree, *files: list[str], text: str = "s") -> None:
    """Write each of *files*, of one or several names, anew, with the same content and time."""
    for names in files:
        for name in names:
            tree.mkdir(os.path.dirname(name))
            Path(tree.at(name)).unlink(missing_ok=True)
        tree.write(names[0], text)
        os.utime(tree.at(names[0]), (OLD, OLD))
        for name in names[1:]:
            os.link(tree.at(names[0]), tree.at(name))


def behind_a_link(tree: Tree) -> None:
    """Give a file the directory of whose other name became a link a new name."""
    tree.relink("one", "two")
    again(tree, ["two/y", "new"])


class ChangePromises(DriverContract):
    """Promises about changes."""

    def test_everything_survives_a_snapshot(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            def work(tree: Tree) -> None:
                everything(tree)
                seen.update(fingerprint(tree.path))

            seen: dict[bytes, Any] = {}
            first = shelf.step([], work)
            assert shelf.tree([first], times=True) == seen
            second = shelf.step([first], lambda tree: None)
            assert shelf.tree([first, second], times=True) == seen
            assert shelf.changes(second, [first]) == []
            assert set(shelf.changes(first, [])) == {
                os.fsdecode(path)
                + ("/" if int(item[0], 8) & 0o040000 == 0o040000 and not int(item[0], 8) & 0o100000 else "")
                for path, item in seen.items()
            }

        inside(body)

    def test_looking_and_temporary_files_are_no_change(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            first = shelf.step([], example)

            def work(tree: Tree) -> None:
                assert tree.read("keep") == "k"
                with open(tree.at("dir/a"), "rb+"):
                    pass  # overlayfs copies it up
                tree.write("dir/tmp")
                tree.remove("dir/tmp")
                os.utime(tree.at("dir/sub"))

            assert shelf.changes(shelf.step([first], work), [first]) == []

        inside(body)

    def test_changes_come_in_order_with_their_parents(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            first = shelf.step([], example)

            def work(tree: Tree) -> None:
                tree.write("dir/sub/b", "other")
                tree.write("dir/new/x", "x")
                tree.write("a", "a")
                tree.remove("keep")
                os.chmod(tree.at("etc"), 0o700)

            second = shelf.step([first], work)
            assert shelf.changes(second, [first]) == [
                "a",
                "dir/",
                "dir/new/",
                "dir/new/x",
                "dir/sub/",
                "dir/sub/b",
                "etc/",
                "-keep",
            ]

        inside(body)

    @pytest.mark.parametrize(
        ("work", "expected"),
        [
            (lambda tree: os.chmod(tree.at("keep"), 0o600), ["keep"]),
            (lambda tree: os.utime(tree.at("keep"), (OLD, OLD)), ["keep"]),
            (lambda tree: os.utime(tree.at("link"), (OLD, OLD), follow_symlinks=False), ["link"]),
            (lambda tree: os.setxattr(tree.at("keep"), "user.x", b"1"), ["keep"]),
            (lambda tree: os.setxattr(tree.at("dir/sub"), "user.x", b"1"), ["dir/", "dir/sub/"]),
            (lambda tree: tree.remove("dir"), ["-dir"]),
            (lambda tree: tree.remove("dir/sub/b"), ["dir/", "dir/sub/", "-dir/sub/b"]),
            (lambda tree: (tree.remove("dir"), tree.write("dir", "now a file")), ["dir"]),
            (lambda tree: (tree.remove("keep"), tree.write("keep/file", "now a directory")), ["keep/", "keep/file"]),
            (lambda tree: (tree.remove("link"), tree.write("link/a", "a")), ["link/", "link/a"]),
            (lambda tree: tree.relink("link", "etc"), ["link"]),
            (lambda tree: tree.move("keep", "moved"), ["-keep", "moved"]),
            (lambda tree: tree.move("dir/sub", "dir/zzz"), ["dir/", "-dir/sub", "dir/zzz/", "dir/zzz/b", "dir/zzz/c"]),
            (lambda tree: os.link(tree.at("keep"), tree.at("also")), ["also", "keep"]),
            (lambda tree: os.mkfifo(tree.at("pipe")), ["pipe"]),
        ],
    )  # fmt: skip
    def test_kinds_of_changes(self, inside: Inside, work: Work, expected: list[str]) -> None:
        def body(shelf: Shelf) -> None:
            first = shelf.step([], example)
            second = shelf.step([first], work)
            assert shelf.changes(second, [first]) == expected

        inside(body)

    @pytest.mark.parametrize(
        ("work", "expected"),
        [
            (lambda tree: again(tree, ["one/x", "two/y"]), []),
            (lambda tree: again(tree, ["one/x"]), []),
            (lambda tree: again(tree, ["one/x"], ["two/y"]), []),
            (lambda tree: again(tree, ["one/x", "two/y", "new"]), ["new", "one/", "one/x", "two/", "two/y"]),
            (lambda tree: again(tree, ["one/x", "two/like"], ["two/y"]), ["one/", "one/x", "two/", "two/like"]),
            (lambda tree: again(tree, ["one/x", "two/y"], text="k"), ["one/", "one/x", "two/", "two/y"]),
            (behind_a_link, ["new", "one", "two/", "two/y"]),
            (lambda tree: tree.remove("two/y"), ["two/", "-two/y"]),
        ],
    )  # fmt: skip
    def test_files_of_several_names_change_when_one_of_them_does(
        self, inside: Inside, work: Work, expected: list[str]
    ) -> None:
        def body(shelf: Shelf) -> None:
            first = shelf.step([], lambda tree: again(tree, ["one/x", "two/y"], ["two/like"]))
            second = shelf.step([first], work)
            assert shelf.changes(second, [first]) == expected

        inside(body)

    def test_a_replaced_directory_names_what_vanished(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            first = shelf.step([], example)

            def work(tree: Tree) -> None:
                tree.remove("dir")
                tree.write("dir/sub/c", "new")
                tree.write("dir/z")

            second = shelf.step([first], work)
            assert shelf.changes(second, [first]) == ["dir/", "-dir/a", "dir/sub/", "-dir/sub/b", "dir/sub/c", "dir/z"]
            assert b"dir/a" not in shelf.tree([first, second])

        inside(body)

    def test_a_directory_moved_into_the_place_of_another_is_compared(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            def make(tree: Tree) -> None:
                for name, text in (("one/x", "1"), ("one/same", "s"), ("two/x", "2"), ("two/same", "s")):
                    tree.write(name, text)
                    os.utime(tree.at(name), (OLD, OLD))

            first = shelf.step([], make)

            def work(tree: Tree) -> None:
                tree.remove("one")
                tree.move("two", "one")

            second = shelf.step([first], work)
            assert shelf.changes(second, [first]) == ["one/", "one/x", "-two"]

        inside(body)

    def test_mount_points_leave_no_trace(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            first = shelf.step([], lambda tree: tree.write("bin/sh"))
            second = shelf.step([first], lambda tree: None, mount_points=True)
            assert shelf.changes(second, [first]) == []
            third = shelf.step([first, second], lambda tree: tree.write("etc/new"), mount_points=True)
            assert shelf.changes(third, [first, second]) == ["etc/", "etc/new"]
            assert set(shelf.tree([first, second, third])) == {b"bin", b"bin/sh", b"etc", b"etc/new"}

        inside(body)
