"""What every snapshotter promises. Subclass `SnapshotterContract` and name the class::

    class TestMine(SnapshotterContract):
        snapshotter = MySnapshotter

Every test runs in a process of its own inside of a user namespace: as an ordinary user in full and in single-id mapping, as root with
real ids and in single-id mapping.
"""

# ruff: noqa: D102, S103 - a test's name is its claim; odd modes are what is tested
from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from img_core.files import fs
from img_core.spec.errors import ArchiveError, IntegrityError, Unsupported
from img_core.spec.host import IdMapping
from img_core.spec.snapshotter import Snapshotter
from img_core.spec.values import DiffId, Digest
from img_core.testing import archives
from img_core.testing.contracts.driver import DriverContract
from img_core.testing.namespaces import mappings, run_inside
from img_core.testing.processes import CEILING, LARGE, in_step, kill_when_told, memory_growth
from img_core.testing.shelf_lives import go_around, large_file, live, many_files, replace_directory, until, with_fault
from img_core.testing.shelves import OLD, Shelf, Tree, Work, everything, example
from img_core.testing.trees import fingerprint

__all__ = ["SnapshotterContract"]

#: runs a function with a new shelf inside of a namespace
Inside = Callable[[Callable[[Shelf], None]], None]


class SnapshotterContract(DriverContract):
    """The promises of `img_core.spec.Snapshotter`, each as a test."""

    kind = "snapshotter"
    holder = "snapshotter"
    snapshotter: ClassVar[type[Snapshotter]]

    @pytest.fixture(params=mappings())
    def inside(self, request: pytest.FixtureRequest, tmp_path: Path) -> Inside:
        """Run a function with a new shelf inside of a namespace."""
        mapping: IdMapping = request.param
        base = os.path.join(tmp_path, "shelf")
        os.mkdir(base)

        def run(work: Callable[[Shelf], None]) -> None:
            def body() -> None:
                try:
                    work(Shelf.make(self.snapshotter, base, mapping, self.options))
                finally:
                    fs.remove_tree(base)  # with the rights to do so

            run_inside(mapping, body)

        return run

    # --- life ---

    def test_the_probe_leaves_nothing_behind(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            with suppress(Unsupported):  # it may refuse, but tried it has
                type(shelf.driver).probe(shelf.driver.host)
            assert os.listdir(shelf.directory) == []

        inside(body)

    def test_nothing_on_nothing_is_empty(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            assert shelf.tree([]) == {}
            first = shelf.step([], lambda tree: None)
            assert shelf.tree([first]) == {}
            assert shelf.changes(first, []) == []

        inside(body)

    def test_a_step_sees_its_parents_and_does_not_change_them(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            first = shelf.step([], example)
            before = shelf.tree([first], times=True)

            def work(tree: Tree) -> None:
                assert tree.read("dir/a") == "a"
                tree.write("dir/a", "changed")
                tree.remove("keep")
                os.chmod(tree.at("dir/sub"), 0o700)

            second = shelf.step([first], work)
            assert shelf.tree([first], times=True) == before
            merged = shelf.tree([first, second])
            assert b"keep" not in merged
            assert merged[b"dir/sub"][0] == oct(stat.S_IFDIR | 0o700)

        inside(body)

    def test_a_view_is_read_only(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            first = shelf.step([], example)
            for parents in ([], [first], [first, shelf.step([first], lambda tree: None)]):
                root = shelf.driver.view(parents)
                with pytest.raises(OSError, match="Read-only file system"):
                    Tree(root.fd).write("new")
                root.close()

        inside(body)

    def test_remove_leaves_nothing(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            done = shelf.step([], everything)
            half = shelf.new()
            root = shelf.driver.prepare(half, [done])
            Tree(root.fd).write("file")
            root.close()
            root.close()
            for directory in (half, done):
                shelf.driver.remove(directory)
            assert os.listdir(shelf.directory) == []

        inside(body)

    def test_half_made_snapshots_can_be_removed(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            half = shelf.new()
            root = shelf.driver.prepare(half, [])  # as after kill -9: never closed
            Tree(root.fd).write("file")
            shelf.driver.remove(half)
            assert os.listdir(shelf.directory) == []

        inside(body)

    def test_usage_grows_with_content(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            empty = shelf.step([], lambda tree: None)
            full = shelf.step([], lambda tree: tree.write("big", b"x" * 300_000))
            assert shelf.driver.usage(full) - shelf.driver.usage(empty) >= 300_000

        inside(body)

    def test_several_threads_make_snapshots_at_once(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            from concurrent.futures import ThreadPoolExecutor

            first = shelf.step([], example)

            def make(number: int) -> str:
                directory = os.path.join(shelf.directory, f"thread-{number}")
                root = shelf.driver.prepare(directory, [first])
                Tree(root.fd).write(f"file-{number}")
                root.close()
                return directory

            with ThreadPoolExecutor(4) as pool:
                made = list(pool.map(make, range(12)))
            for number, directory in enumerate(made):
                assert shelf.changes(directory, [first]) == [f"file-{number}"]

        inside(body)

    # --- processes ---

    def test_two_processes_work_on_the_same_snapshots_at_once(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            first = shelf.step([], example)
            second = shelf.step([first], lambda tree: (tree.write("dir/a", "changed"), tree.remove("keep"))[0])  # type: ignore[func-returns-value]
            stacks = [[first], [first, second]]
            before = [shelf.tree(stack, times=True) for stack in stacks]

            def work(name: str, meet: Callable[[], None]) -> None:
                own = shelf.another(name)
                for number in range(6):  # on the same stack, and on different ones
                    which = (number + (number > 2 and name == "b")) % 2
                    live(own, stacks[which], before[which], meet)

            in_step(partial(work, "a"), partial(work, "b"))
            assert [shelf.tree(stack, times=True) for stack in stacks] == before
            assert _left(shelf, first, second) == []

        inside(body)

    @pytest.mark.parametrize("moment", ["view", "prepare", "apply", "changes"])
    def test_a_process_that_is_killed_leaves_the_other_right(self, inside: Inside, moment: str) -> None:
        def body(shelf: Shelf) -> None:
            first = shelf.step([], example)
            stack = [first, shelf.step([first], lambda tree: tree.remove("keep"))]
            before = shelf.tree(stack, times=True)

            def die(when: str) -> None:
                kill_when_told(lambda reached: until(moment, shelf.another(f"killed-{when}"), stack, reached))

            die("alone")
            view = shelf.driver.view(stack)
            mine = shelf.new()
            root = shelf.driver.prepare(mine, stack)
            Tree(root.fd).write("mine", "1")
            die("beside-us")
            assert Tree(root.fd).read("mine") == "1"
            Tree(root.fd).write("mine", "2")
            assert fingerprint(f"/proc/self/fd/{view.fd}") == before
            for opened in (root, view):
                opened.close()
            mine = shelf.finish(mine)
            assert shelf.changes(mine, stack) == ["mine"]
            assert shelf.tree([*stack, mine], times=True).keys() - before.keys() == {b"mine"}
            for name in _left(shelf, mine, *stack):
                shelf.driver.remove(os.path.join(shelf.directory, name))
            assert _left(shelf, mine, *stack) == []
            assert shelf.tree(stack, times=True) == before

        inside(body)

    # --- memory ---

    @pytest.mark.parametrize("inside", mappings()[:1], indirect=True)
    @pytest.mark.parametrize("content", ["a large file", "many files"])
    def test_much_takes_little_memory(self, inside: Inside, content: str) -> None:
        def body(shelf: Shelf) -> None:
            pieces = {"a large file": large_file, "many files": many_files}[content]
            go_around(shelf, partial(pieces, 1 << 20))  # imports what it needs
            assert memory_growth(lambda: go_around(shelf, partial(pieces, LARGE))) < CEILING

        inside(body)

    # --- changes ---

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

    # --- layers ---

    @pytest.mark.parametrize("make", [example, everything])
    def test_a_layer_gives_what_the_step_made(self, inside: Inside, make: Work) -> None:
        def body(shelf: Shelf) -> None:
            first = shelf.step([], example)

            def work(tree: Tree) -> None:
                tree.remove("dir")
                tree.mkdir("dir/sub")
                tree.remove("keep", "link")
                make(tree)

            made = shelf.step([first], work)
            applied = shelf.apply([first], shelf.layer(made, [first]))
            assert shelf.tree([first, applied]) == shelf.tree([first, made])
            assert shelf.layer(applied, [first]) == shelf.layer(made, [first])

        inside(body)

    def test_deletions_of_a_layer_hide_lower_files(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            first = shelf.step([], example)
            blob = b"".join(
                (
                    archives.directory(b"dir/"),
                    archives.entry(b"dir/.wh..wh..opq"),
                    archives.entry(b"dir/new", b"n"),
                    archives.entry(b".wh.keep"),
                    archives.entry(b".wh.nothing"),
                    archives.END,
                )
            )
            second = shelf.apply([first], blob)
            assert set(shelf.tree([first, second])) == {b"dir", b"dir/new", b"etc", b"etc/conf", b"link"}

        inside(body)

    def test_parents_that_a_layer_does_not_describe_keep_their_look(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            def base(tree: Tree) -> None:
                example(tree)
                os.chmod(tree.at("dir"), 0o1711)
                os.chmod(tree.at("dir/sub"), 0o700)

            first = shelf.step([], base)
            between = shelf.step([first], lambda tree: os.chmod(tree.at("dir/sub"), 0o750))
            second = shelf.apply([first, between], archives.entry(b"dir/sub/new", b"n") + archives.END)
            merged = shelf.tree([first, between, second])
            assert [merged[name][0] for name in (b"dir", b"dir/sub")] == [oct(0o41711), oct(0o40750)]
            assert b"dir/sub/new" in merged

        inside(body)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"digest": Digest("sha256:" + "0" * 64)},
            {"diff_id": DiffId("sha256:" + "0" * 64)},
            {"size": 5},
            {"size": 10**9},
        ],
    )
    def test_a_layer_that_is_not_what_it_claims_is_refused(self, inside: Inside, wrong: Mapping[str, Any]) -> None:
        def body(shelf: Shelf) -> None:
            with pytest.raises(IntegrityError):
                shelf.apply([], archives.entry(b"f", b"x" * 10_000) + archives.END, **wrong)

        inside(body)

    @pytest.mark.parametrize("name", [b"../up", b"a/../../up"])
    def test_a_layer_cannot_leave_its_root(self, inside: Inside, name: bytes) -> None:
        def body(shelf: Shelf) -> None:
            with pytest.raises(ArchiveError):
                shelf.apply([], archives.entry(name, b"x") + archives.END)
            assert not any("up" in names for _, _, names in os.walk(shelf.directory))

        inside(body)

    def test_one_hundred_and_thirty_layers(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            parents: list[str] = []
            for number in range(130):
                parents.append(shelf.step(parents, lambda tree, number=number: tree.write(f"dir/{number}")))  # type: ignore[misc]
            assert len(shelf.tree(parents)) == 131
            assert shelf.changes(parents[-1], parents[:-1]) == ["dir/", "dir/129"]

        inside(body)

    # --- faults ---

    @pytest.mark.parametrize("fault", ["crash", "full disk"])
    @pytest.mark.parametrize("work", ["apply", "step"])
    def test_what_a_fault_leaves_can_be_removed(self, inside: Inside, fault: str, work: str) -> None:
        def body(shelf: Shelf) -> None:
            first = shelf.step([], example)
            layer = shelf.layer(shelf.step([first], replace_directory), [first])
            before = _left(shelf, first), shelf.tree([first], times=True)

            def meet_fault() -> None:
                if work == "apply":
                    shelf.apply([first], layer)
                else:
                    shelf.layer(shelf.step([first], replace_directory), [first])

            number, finished = 0, False  # it finishes at once if the driver does not change the disk through `fs`
            while not finished:
                number += 1
                finished = with_fault(fault, number, meet_fault)
                for name in set(_left(shelf, first)) - set(before[0]):
                    shelf.driver.remove(os.path.join(shelf.directory, name))
                assert (_left(shelf, first), shelf.tree([first], times=True)) == before, f"mutation {number}"

        inside(body)

    # --- owners ---

    def test_owners_are_kept(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            if shelf.mapping == "single":
                _check_records(shelf)
                return

            def work(tree: Tree) -> None:
                example(tree)
                for name, uid, gid in (("keep", 1, 2), ("dir", 3, 4), ("link", 5, 6)):
                    os.chown(tree.at(name), uid, gid, follow_symlinks=False)

            first = shelf.step([], work)
            second = shelf.step([first], lambda tree: os.chown(tree.at("dir/a"), 7, 8))
            applied = shelf.apply([], shelf.layer(first, []))
            assert shelf.tree([first]) == shelf.tree([applied])
            merged = shelf.tree([first, second])
            ids = [merged[name][1:3] for name in (b"keep", b"dir", b"link", b"dir/a")]
            assert ids == [(1, 2), (3, 4), (5, 6), (7, 8)]
            assert shelf.driver.owners([first, second]) == {}

        inside(body)


def _left(shelf: Shelf, *but: str) -> list[str]:
    """Return the names in the state of what is not one of the snapshots *but*."""
    return sorted(set(os.listdir(shelf.directory)) - {os.path.basename(directory) for directory in but})


def _check_records(shelf: Shelf) -> None:
    """Records of links follow the merged tree, and layers carry them."""

    def links(tree: Tree) -> None:
        for name in ("kept", "replaced", "deleted", "dir/hidden"):
            tree.mkdir("dir")
            os.symlink("target", tree.at(name))

    directory = shelf.new()
    root = shelf.driver.prepare(directory, [])
    links(Tree(root.fd))
    root.close()
    shelf.driver.record_owners(directory, dict.fromkeys((b"kept", b"replaced", b"deleted", b"dir/hidden"), (5, 6)))
    shelf.driver.record_owners(directory, {b"kept": (7, 8)})
    first = shelf.finish(directory)
    assert shelf.driver.owners([first])[b"kept"] == (7, 8)
    changes = shelf.driver.changes(first, [])
    assert (changes.owner(b"kept"), changes.owner(b"dir")) == ((7, 8), None)
    changes.close()

    def work(tree: Tree) -> None:
        tree.remove("replaced", "deleted", "dir")
        os.symlink("other", tree.at("replaced"))
        tree.write("dir/file")

    second = shelf.step([first], work)
    assert shelf.driver.owners([first, second]) == {b"kept": (7, 8)}
    applied = shelf.apply([], shelf.layer(first, []))
    assert shelf.driver.owners([applied]) == shelf.driver.owners([first])
