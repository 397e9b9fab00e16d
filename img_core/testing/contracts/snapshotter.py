"""What every snapshotter promises. Subclass `SnapshotterContract` and name the class::

    class TestMine(SnapshotterContract):
        snapshotter = MySnapshotter

Every test runs in a process of its own inside of a user namespace: as an ordinary user in full and in single-id mapping, as root with
real ids and in single-id mapping.
"""

# ruff: noqa: D102 - a test's name is its claim; odd modes are what is tested
from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest

from img_core.files import fs
from img_core.spec.errors import Unsupported
from img_core.spec.host import IdMapping
from img_core.spec.snapshotter import Snapshotter
from img_core.testing.contracts._snapshotter_changes import ChangePromises
from img_core.testing.contracts._snapshotter_layers import LayerPromises
from img_core.testing.namespaces import mappings, run_inside
from img_core.testing.processes import CEILING, LARGE, in_step, kill_when_told, memory_growth
from img_core.testing.shelf_lives import go_around, large_file, live, many_files, replace_directory, until, with_fault
from img_core.testing.shelves import Inside, Shelf, Tree, everything, example
from img_core.testing.trees import fingerprint

__all__ = ["SnapshotterContract"]


class SnapshotterContract(ChangePromises, LayerPromises):
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
    last = [f"last/{number}" for number in range(9)]  # one of them was made in the instant before the next step begins

    def links(tree: Tree) -> None:
        tree.mkdir("dir", "last")
        for name in ("kept", "replaced", "deleted", "dir/hidden", *last):
            os.symlink("target", tree.at(name))

    kept = dict.fromkeys((b"kept", *map(str.encode, last)), (7, 8))
    directory = shelf.new()
    root = shelf.driver.prepare(directory, [])
    links(Tree(root.fd))
    root.close()
    shelf.driver.record_owners(directory, dict.fromkeys((b"kept", b"replaced", b"deleted", b"dir/hidden"), (5, 6)))
    shelf.driver.record_owners(directory, kept)
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
    assert shelf.driver.owners([first, second]) == kept
    applied = shelf.apply([], shelf.layer(first, []))
    assert shelf.driver.owners([applied]) == shelf.driver.owners([first])
