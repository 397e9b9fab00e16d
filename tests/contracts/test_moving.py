"""What is special about the snapshotter `moving`: one tree goes from step to step, and whoever needs an earlier one gets it again."""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from img_core.files import faults, fs
from img_core.spec.errors import ImgError, StateError, Unsupported
from img_core.spec.host import Host
from img_core.spec.snapshotter import Snapshotter
from img_core.testing.namespaces import mappings, run_forked, run_inside
from img_core.testing.shelves import OLD, Shelf, Tree
from img_snapshotter_moving._index import Look, TreeIndex, look, settle
from img_snapshotter_moving._moving import MovingSnapshotter
from img_snapshotter_native._native import NativeSnapshotter

pytestmark = pytest.mark.rootless


def on_shelf(
    base: str, work: Callable[[Shelf], None], snapshotter: type[Snapshotter] = MovingSnapshotter
) -> Callable[[], None]:
    def body() -> None:
        try:
            work(Shelf.make(snapshotter, base, mappings()[0]))
        finally:
            fs.remove_tree(base)

    return body


@pytest.fixture
def inside(tmp_path: Path) -> Callable[[Callable[[Shelf], None]], None]:
    """Run a function with a shelf, in a namespace with many ids."""
    base = str(tmp_path / "shelf")
    os.mkdir(base)
    return lambda work: run_inside(mappings()[0], on_shelf(base, work))


Inside = Callable[[Callable[[Shelf], None]], None]


def make(tree: Tree) -> None:
    for name in ("dir/a", "dir/b", "keep", "etc/hosts"):
        tree.write(name, name)
        os.utime(tree.at(name), (OLD, OLD))
    os.symlink("keep", tree.at("link"))
    os.link(tree.at("dir/a"), tree.at("same"))


def test_the_tree_itself_goes_from_step_to_step_and_earlier_ones_are_made_again(inside: Inside) -> None:
    def body(shelf: Shelf) -> None:
        first = shelf.step([], make)
        inode = os.stat(f"{first}/fs/keep").st_ino
        before = shelf.tree([first], times=True)
        second = shelf.step([first], lambda tree: tree.write("new", "2"))
        third = shelf.step([first, second], lambda tree: tree.remove("new", "dir"))
        assert [os.path.exists(f"{made}/fs") for made in (first, second, third)] == [False, False, True]
        assert os.stat(f"{third}/fs/keep").st_ino == inode
        assert shelf.tree([first], times=True) == before
        assert shelf.tree([first, second]).keys() == {*before, b"new"}
        assert shelf.changes(third, [first, second]) == ["-dir", "-new"]  # `same` has one link less, which is no change
        assert shelf.step([first], lambda tree: tree.write("other")) != third
        assert shelf.changes(second, [first]) == ["new"]

    inside(body)


def change_back(tree: Tree) -> None:
    """Touch everything and leave it as it was."""
    os.chmod(tree.at("keep"), 0o600)
    os.chmod(tree.at("keep"), 0o644)
    os.rename(tree.at("dir/b"), tree.at("elsewhere"))
    os.rename(tree.at("elsewhere"), tree.at("dir/b"))
    for name in ("etc/hosts", "link"):
        os.rename(tree.at(name), tree.at("aside"))
        os.rename(tree.at("aside"), tree.at(name))
    os.rename(tree.at("dir"), tree.at("moved"))
    os.rename(tree.at("moved"), tree.at("dir"))


def test_what_is_as_it_was_is_no_change_and_what_only_looks_so_is_one(inside: Inside) -> None:
    def replace(tree: Tree) -> None:
        for name, text in (("dir/b", "dir/B"), ("keep", "keep")):
            tree.remove(name)
            tree.write(name, text)
            os.utime(tree.at(name), (OLD, OLD))

    def body(shelf: Shelf) -> None:
        first = shelf.step([], make)
        second = shelf.step([first], change_back)
        third = shelf.step([first, second], change_back)
        fourth = shelf.step([first, second, third], replace)
        stack = [first, second, third, fourth]
        for made in (second, third):
            assert shelf.changes(made, stack[: stack.index(made)]) == []
        assert shelf.changes(fourth, stack[:3]) == ["dir/", "dir/b"]
        assert shelf.layer(fourth, stack[:3]) == b"".join(shelf.driver.packed(fourth, stack[:3]).chunks)  # type: ignore[union-attr]

    inside(body)


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (lambda tree: tree.write("same", "other"), ["dir/", "dir/a", "same"]),
        (lambda tree: tree.remove("same"), ["-same"]),
        (lambda tree: os.rename(tree.at("same"), tree.at("z")), ["dir/", "dir/a", "-same", "z"]),
    ],
    ids=["written through one name", "one name removed", "another name"],
)
def test_hard_links(inside: Inside, work: Callable[[Tree], None], expected: list[str]) -> None:
    def body(shelf: Shelf) -> None:
        first = shelf.step([], make)
        assert shelf.changes(shelf.step([first], work), [first]) == expected

    inside(body)


def test_changes_at_once_after_the_index_was_taken_are_seen(inside: Inside) -> None:
    """Same size, same time of modification, same inode: only the time of change tells, if the clock went on."""

    def body(shelf: Shelf) -> None:
        parents = [shelf.step([], lambda tree: tree.write("file", "0000"))]
        for number in range(1, 60):

            def work(tree: Tree, number: int = number) -> None:
                with open(tree.at("file"), "r+b") as file:
                    file.write(b"%04d" % number)
                os.utime(tree.at("file"), (OLD, OLD))

            parents.append(shelf.step(parents, work))
        for number in range(2, len(parents)):
            layer = shelf.driver.packed(parents[number], parents[:number])
            assert layer is not None
            assert b"%04d" % number in b"".join(layer.chunks)

    inside(body)


def test_a_clock_that_was_set_back_delays_nothing(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").touch()
    fd = os.open(tmp_path / "tree", os.O_RDONLY)
    found = look(fd, TreeIndex())
    settled = settle(fd, str(tmp_path), Look(found.index, found.stats, found.latest + 3600 * 10**9))
    assert settled.latest <= found.latest
    os.close(fd)


def test_whoever_reads_a_tree_keeps_it(inside: Inside) -> None:
    def body(shelf: Shelf) -> None:
        first = shelf.step([], make)
        view = shelf.driver.view([first])
        shelf.step([first], lambda tree: tree.remove("dir", "keep"))
        assert sorted(os.listdir(Tree(view.fd).path)) == ["dir", "etc", "keep", "link", "same"]
        view.close()
        shelf.step([first], lambda tree: tree.remove("keep"))
        assert not os.path.exists(f"{first}/fs")

    inside(body)


def test_a_tree_in_a_lower_layer_of_an_overlay_stays_there_and_is_made_anew(inside: Inside) -> None:
    """A state directory that came with the image of the container: its directories cannot be renamed."""

    def rename(source: str, path: str, **more: Any) -> None:
        if source == f"{trees[0]}/fs":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        original(source, path, **more)

    def body(shelf: Shelf) -> None:
        trees.append(shelf.step([], make))
        before = shelf.tree(trees, times=True)
        fs.rename = rename  # type: ignore[assignment]  # in this process only
        second = shelf.step(trees, lambda tree: tree.write("new"))
        assert shelf.changes(second, trees) == ["new"]
        assert os.path.exists(f"{trees[0]}/fs")
        assert shelf.tree(trees, times=True) == before

    trees: list[str] = []
    original = fs.rename
    inside(body)


def crashed(number: int, work: Callable[[], object]) -> bool:
    """Do *work* in a process that is killed at its mutation *number*; tell whether it was."""
    child = os.fork()
    if child == 0:
        faults.install(crash_at=number)
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


@pytest.mark.parametrize("what", ["a step", "a look", "changes", "a layer"])
def test_killed_at_any_moment_nothing_is_lost(inside: Inside, what: str) -> None:
    def body(shelf: Shelf) -> None:
        first = shelf.step([], make)
        trees = [shelf.tree([first], times=True)]
        second = shelf.step([first], lambda tree: (tree.write("new", "2"), tree.remove("keep"))[0])  # type: ignore[func-returns-value]
        trees.append(shelf.tree([first, second], times=True))
        attempts: dict[str, Callable[[], object]] = {
            "a step": lambda: shelf.step([first, second], lambda tree: tree.write("x")),
            "a look": lambda: shelf.tree([first]),
            "changes": lambda: shelf.changes(first, []),
            "a layer": lambda: shelf.driver.packed(second, [first]),
        }
        number = 1
        while crashed(number, attempts[what]):
            for name in os.listdir(shelf.directory):
                if name.startswith("new-"):
                    shelf.driver.remove(os.path.join(shelf.directory, name))
            if number % 3 == 0:
                assert [shelf.tree([first], times=True), shelf.tree([first, second], times=True)] == trees
                assert shelf.changes(second, [first]) == ["-keep", "new"]
            number += 1
        assert number > 2

    inside(body)


def test_several_processes_build_on_one_snapshot(inside: Inside) -> None:
    def body(shelf: Shelf) -> None:
        first = shelf.step([], make)
        before = shelf.tree([first], times=True)

        def build(worker: int) -> None:
            for number in range(6):
                directory = os.path.join(shelf.directory, f"worker-{worker}-{number}")
                root = shelf.driver.prepare(directory, [first])
                Tree(root.fd).write(f"file-{worker}-{number}")
                root.close()
                assert shelf.changes(directory, [first]) == [f"file-{worker}-{number}"]
                assert shelf.tree([first], times=True) == before

        children = []
        for worker in range(3):
            child = os.fork()
            if child == 0:
                run_forked_body(lambda: build(worker))  # noqa: B023 - ends in this round
            children.append(child)
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]

    inside(body)


def run_forked_body(work: Callable[[], None]) -> None:
    """Never return."""
    status = 1
    try:
        run_forked(work)
        status = 0
    finally:
        os._exit(status)


@pytest.mark.parametrize("name", ["before", "after", "layer.json"])
def test_damage_is_said_in_one_line(inside: Inside, name: str) -> None:
    def body(shelf: Shelf) -> None:
        first = shelf.step([], make)
        second = shelf.step([first], lambda tree: None)
        place = second if name == "before" else first
        Path(place, name).write_bytes(b"damaged")
        with pytest.raises(StateError, match="of a snapshot is damaged"):
            shelf.tree([first]) if place == first else shelf.driver.packed(second, [first])

    inside(body)


def test_a_layer_that_lies_in_the_store_takes_no_space_again(inside: Inside) -> None:
    from img_core.spec.snapshotter import LayerStream

    def body(shelf: Shelf) -> None:
        blob = shelf.layer(shelf.step([], lambda tree: tree.write("big", os.urandom(300_000))), [])
        kept = f"{shelf.directory}/blob"
        Path(kept).write_bytes(blob)
        import hashlib

        digest = "sha256:" + hashlib.sha256(blob).hexdigest()
        directory = shelf.new()
        stream = LayerStream([blob], "application/vnd.oci.image.layer.v1.tar", digest, len(blob), file=kept)  # type: ignore[arg-type]
        shelf.driver.apply(directory, [], stream)
        assert os.path.samefile(kept, f"{directory}/layer")
        assert shelf.driver.usage(directory) < 2 * len(blob)
        os.unlink(kept)  # `img prune` may take the blob
        shelf.step([directory], lambda tree: None)
        assert shelf.tree([directory]).keys() == {b"big"}

    inside(body)


def test_file_systems_that_hide_changes_are_refused_or_compared() -> None:
    """On a tmpfs, writing through shared memory changes no time."""

    def write(tree: Tree) -> None:
        with open(tree.at("file"), "r+b") as file, mmap.mmap(file.fileno(), 6) as mapped:
            assert mapped[0:6] == b"before"
            mapped[0:5] = b"after"

    with tempfile.TemporaryDirectory(dir="/dev/shm") as base:

        def body(shelf: Shelf) -> None:
            with pytest.raises(Unsupported, match="those through memory show nowhere"):
                MovingSnapshotter.probe(Host(shelf.mapping, shelf.directory, shelf.driver.host.run_directory))
            first = shelf.step([], lambda tree: tree.write("file", "before"))
            assert shelf.changes(shelf.step([first], write), [first]) == ["file"]

        run_inside(mappings()[0], on_shelf(f"{base}/shelf", body, NativeSnapshotter))


def test_with_a_single_id_it_leaves_the_field_to_others(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="`native` does"):
        MovingSnapshotter.probe(Host("single", str(tmp_path), str(tmp_path)))


def test_paths_that_are_too_long_are_an_error_of_one_line(inside: Inside) -> None:
    def deep(tree: Tree) -> None:
        fd = os.open(tree.path, os.O_RDONLY)
        for _ in range(20):
            os.mkdir("d" * 250, dir_fd=fd)
            below = os.open("d" * 250, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        os.close(fd)

    def body(shelf: Shelf) -> None:
        first = shelf.step([], deep)
        with pytest.raises(ImgError, match="cannot read a snapshot: file name too long"):
            shelf.step([first], lambda tree: None)

    inside(body)
