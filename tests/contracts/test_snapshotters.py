"""All snapshotters keep the contract, and agree with each other."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from img_core.files import fs
from img_core.linux import syscalls
from img_core.spec.errors import ImgError, Unsupported
from img_core.spec.host import Host
from img_core.spec.snapshotter import Snapshotter
from img_core.testing.contracts.snapshotter import SnapshotterContract
from img_core.testing.namespaces import mappings, run_inside
from img_core.testing.shelves import OLD, Shelf, Tree
from img_lib_layers.clone import clone_tree
from img_snapshotter_moving._moving import MovingSnapshotter
from img_snapshotter_native._native import NativeSnapshotter
from img_snapshotter_overlayfs._overlay import OverlaySnapshotter

pytestmark = pytest.mark.rootless


class TestOverlayfs(SnapshotterContract):
    snapshotter = OverlaySnapshotter

    def test_more_layers_than_the_kernel_takes(self, inside) -> None:  # type: ignore[no-untyped-def]
        def body(shelf: Shelf) -> None:
            def make(number: int) -> str:
                """Write a layer as it lies on disk: 600 mounts would take long."""
                layer = f"{shelf.directory}/layer-{number}"
                os.makedirs(f"{layer}/fs/dir")
                for name in (f"f{number}", f"dir/{number}"):
                    Path(f"{layer}/fs/{name}").write_text(name)
                return layer

            parents = [make(number) for number in range(600)]
            tree = shelf.tree(parents)
            assert len(tree) == 1201

            def work(tree: Tree) -> None:
                tree.remove("f0", "f599")  # of a layer that the kernel gets merged, and of the topmost one
                tree.write("dir/1", "changed")

            top = shelf.step(parents, work)
            assert shelf.changes(top, parents) == ["dir/", "dir/1", "-f0", "-f599"]
            assert shelf.tree([*parents, top]).keys() == tree.keys() - {b"f0", b"f599"}

        inside(body)

    def test_layers_that_change_nothing_take_no_place(self, inside) -> None:  # type: ignore[no-untyped-def]
        """There may be more of them than the kernel takes; the root is that of the topmost."""

        def body(shelf: Shelf) -> None:
            base = shelf.step([], lambda tree: tree.write("file"))
            empty = [shelf.step([base], lambda tree: None)]
            for number in range(1200):  # copies of a real one, with what the kernel notes at its root
                empty.append(f"{shelf.directory}/empty-{number}")
                shutil.copytree(empty[0], empty[-1])
            hiding = shelf.step([base, *empty], lambda tree: tree.remove("file"))
            os.chmod(f"{empty[-1]}/fs", 0o711)
            view = shelf.driver.view([base, *empty])
            try:
                assert os.fstat(view.fd).st_mode & 0o777 == 0o711
            finally:
                view.close()
            assert shelf.tree([base, *empty]).keys() == {b"file"}
            assert shelf.tree([base, *empty, hiding, *empty[:5]]) == {}

        inside(body)

    def test_a_layer_may_come_twice(self, inside) -> None:  # type: ignore[no-untyped-def]
        def body(shelf: Shelf) -> None:
            base = shelf.step([], lambda tree: tree.write("base"))
            linked = shelf.step([], lambda tree: tree.write("dir/linked"))
            between = shelf.step([base, linked], lambda tree: tree.remove("dir"))
            stack = [base, linked, between, linked]
            assert set(shelf.tree(stack)) == {b"base", b"dir", b"dir/linked"}
            assert shelf.changes(shelf.step(stack, lambda tree: tree.write("dir/new")), stack) == ["dir/", "dir/new"]

        inside(body)

    def test_an_overlay_as_state_is_refused_with_the_kernel_s_words(self, inside) -> None:  # type: ignore[no-untyped-def]
        def body(shelf: Shelf) -> None:
            directory = os.path.join(shelf.driver.host.run_directory, "mounted")
            os.mkdir(directory)
            root = shelf.driver.prepare(shelf.new(), [])
            syscalls.move_mount(root.fd, directory)
            host = Host(shelf.mapping, directory, shelf.driver.host.run_directory)
            with pytest.raises(Unsupported, match=f"filesystem on {directory}/.* not supported as upperdir"):
                OverlaySnapshotter.probe(host)
            syscalls.umount2(directory, syscalls.MNT_DETACH)
            root.close()

        inside(body)

    def test_without_a_namespace_it_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(Unsupported, match="overlayfs needs a user namespace or root"):
            OverlaySnapshotter.probe(Host("none", str(tmp_path), str(tmp_path)))

    def test_nothing_is_mounted_in_our_namespace(self, inside) -> None:  # type: ignore[no-untyped-def]
        def body(shelf: Shelf) -> None:
            before = Path("/proc/self/mountinfo").read_text()
            root = shelf.driver.prepare(shelf.new(), [], mount_points=True)
            assert Path("/proc/self/mountinfo").read_text() == before
            root.close()

        inside(body)


class TestNative(SnapshotterContract):
    snapshotter = NativeSnapshotter


class TestMoving(SnapshotterContract):
    snapshotter = MovingSnapshotter


def test_large_files_are_copied_with_all_they_have_and_a_failure_names_one(tmp_path: Path) -> None:
    def body() -> None:
        shelf = Shelf.make(NativeSnapshotter, str(tmp_path / "shelf"), mappings()[0])

        def make(tree: Tree) -> None:
            for number in range(6):
                tree.write(f"dir/{number}", bytes([number]) * (1 + bool(number)) * (1 << 20), 0o4750)
                os.setxattr(tree.at(f"dir/{number}"), "user.number", bytes([number]))
                os.utime(tree.at(f"dir/{number}"), (OLD, OLD + number))
            os.link(tree.at("dir/0"), tree.at("other"))
            os.chmod(tree.at("dir"), 0o500)

        first = shelf.step([], make)
        second = shelf.step([first], lambda tree: None)
        assert shelf.tree([second], times=True) == shelf.tree([first], times=True)
        source, target = (os.open(f"{first}/fs", os.O_RDONLY), shelf.new())
        os.mkdir(target)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with pytest.raises(ImgError, match=r"cannot copy `/dir/[1-5]`: file too large"):
            clone_tree(source, os.open(target, os.O_RDONLY))
        os.close(source)

    run_inside(mappings()[0], body)


@pytest.mark.parametrize("snapshotter", [OverlaySnapshotter, NativeSnapshotter, MovingSnapshotter])
def test_holes_stay_holes_when_a_file_is_copied(snapshotter: type[Snapshotter], tmp_path: Path) -> None:
    def body() -> None:
        shelf = Shelf.make(snapshotter, str(tmp_path / "shelf"), mappings()[0])

        def make(tree: Tree) -> None:
            tree.write("sparse", "start")
            os.truncate(tree.at("sparse"), 64 << 20)

        def change(tree: Tree) -> None:
            with open(tree.at("sparse"), "r+b") as file:
                file.seek(32 << 20)
                file.write(b"middle")

        first = shelf.step([], make)
        second = shelf.step([first], change)
        info = os.stat(f"{second}/fs/sparse")
        fs.remove_tree(str(tmp_path / "shelf"))
        assert (info.st_size, info.st_blocks * 512 < 4 << 20) == (64 << 20, True)

    run_inside(mappings()[0], body)


NAMES = st.sampled_from(["a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "e", "e/a", "f/g/a"])
WRITE = st.tuples(st.just("write"), NAMES, st.sampled_from(["", "x", "other"]))
OTHERS = st.tuples(st.sampled_from(["mkdir", "remove", "chmod", "link", "touch"]), NAMES, st.just(""))
MOVES = st.tuples(st.just("move"), NAMES, NAMES)
STEPS = st.lists(st.lists(st.one_of(WRITE, OTHERS, MOVES), max_size=6), min_size=1, max_size=4)


def perform(tree: Tree, operations: list[tuple[str, str, str]]) -> None:
    """Do what is possible; both trees are equal, so the same things are."""
    for operation, name, text in operations:
        try:
            _one(tree, operation, name, text)
        except OSError:
            pass


def _one(tree: Tree, operation: str, name: str, text: str) -> None:
    path = tree.at(name)
    if operation == "write":
        tree.write(name, text)
        os.utime(path, (OLD, OLD))  # equal times make equal files hard to tell apart
    elif operation == "mkdir":
        os.mkdir(path)
    elif operation == "remove":
        tree.remove(name)
    elif operation == "chmod":
        os.chmod(path, 0o700)
    elif operation == "link":
        os.symlink("a", path)
        os.utime(path, (OLD, OLD), follow_symlinks=False)
    elif operation == "touch":
        os.utime(path, (OLD + 1, OLD + 1), follow_symlinks=False)
    elif not (text + "/").startswith(name + "/") and not os.path.lexists(tree.at(text)):
        tree.move(name, text)


class Twin:
    """The same steps on all snapshotters."""

    def __init__(self, base: str, mapping: str) -> None:
        drivers = (OverlaySnapshotter, NativeSnapshotter, MovingSnapshotter)
        self.shelves = [self._shelf(driver, base, mapping) for driver in drivers]
        self.parents: list[list[str]] = [[] for _ in drivers]
        self.applied: list[list[str]] = [[] for _ in drivers]

    @staticmethod
    def _shelf(driver: type[Snapshotter], base: str, mapping: str) -> Shelf:
        path = os.path.join(base, driver.name)
        os.makedirs(path, exist_ok=True)
        return Shelf.make(driver, path, mapping)  # type: ignore[arg-type]

    def step(self, operations: list[tuple[str, str, str]]) -> None:
        changes, layers, trees = [], [], []
        for shelf, parents, applied in zip(self.shelves, self.parents, self.applied, strict=True):
            directory = shelf.step(parents, lambda tree: perform(tree, operations))
            changes.append(shelf.changes(directory, parents))
            layers.append(shelf.layer(directory, parents))
            parents.append(directory)
            applied.append(shelf.apply(applied, layers[-1]))
            trees += [shelf.tree(parents), shelf.tree(applied)]
        assert all(found == changes[0] for found in changes)
        assert all(found == trees[0] for found in trees)

    def close(self) -> None:
        for shelf in self.shelves:
            for name in os.listdir(shelf.directory):
                shelf.driver.remove(os.path.join(shelf.directory, name))


@pytest.mark.parametrize("mapping", mappings())
def test_all_snapshotters_see_the_same_changes(tmp_path: Path, mapping: str) -> None:
    base = os.path.join(tmp_path, "twins")
    os.mkdir(base)

    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(STEPS)
    def agree(steps: list[list[tuple[str, str, str]]]) -> None:
        twin = Twin(base, mapping)
        try:
            for operations in steps:
                twin.step(operations)
        finally:
            twin.close()

    def body() -> None:
        try:
            agree()
        finally:
            fs.remove_tree(base)

    run_inside(mapping, body)  # type: ignore[arg-type]
