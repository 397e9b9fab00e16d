"""The same operations on the kernel's overlayfs and on ours come out alike: results, errors, the merged tree and what is on disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from img_snapshotter_fuse._snapshotter import FuseSnapshotter
from overlay_operations import CAPABILITY, MANY_IDS, OLD, OPERATIONS

from img_core.files import fs
from img_core.spec.host import IdMapping
from img_core.spec.snapshotter import Rootfs
from img_core.testing.namespaces import mappings, run_inside
from img_core.testing.shelves import Shelf, Tree
from img_core.testing.trees import fingerprint
from img_snapshotter_overlayfs._overlay import OverlaySnapshotter

pytestmark = [
    pytest.mark.rootless,
    pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse may not be opened"),
]

NAMES = st.sampled_from(
    [
        "file", "linked", "dir/linked", "dir", "dir/a", "dir/sub", "dir/sub/b", "dir/new", "gone", "opaque", "opaque/x", "opaque/new",
        "merged", "merged/one", "merged/two", "merged/both", "link", "dangling", "pipe", "program", "new", "other", "new/below",
        "other/below", "merged/deep/er", "merged/deep", "missing/name", "file/name", "empty", "",
    ]
)  # fmt: skip

#: names with which everything can be done that can be done at all
PAIRS = [
    ("dir/a", "new"), ("opaque", "other"), ("new", "other"), ("new", "dir/a"), ("link", "new"), ("file", "dir/a"), ("empty", "new"),
]  # fmt: skip
#: what overlayfs never does
REFUSED = {
    "create_in_a_removed_directory",
    "get_a_missing_attribute",
    "make_a_whiteout",
    "name_a_deleted_file_again",
    "name_a_nameless_file_that_gets_none",
    "rename_leaving_a_whiteout",
    "rename_with_unknown_flags",
    "set_a_broken_access_list",
}


def _lowest(tree: Tree) -> None:
    for name in ("file", "dir/a", "dir/sub/b", "gone", "opaque/x", "merged/one", "merged/both", "merged/deep/er"):
        tree.write(name, f"lowest {name}\n" * 20)
    tree.write("linked", "two names")
    os.link(tree.at("linked"), tree.at("dir/linked"))
    tree.write("program", "#!", 0o4755)
    os.setxattr(tree.at("program"), "security.capability", CAPABILITY)
    tree.mkdir("empty")
    os.symlink("dir", tree.at("link"))
    os.symlink("nowhere", tree.at("dangling"))
    os.mkfifo(tree.at("pipe"))
    os.setxattr(tree.at("file"), "user.x1", b"lower")
    os.setxattr(tree.at("merged"), "user.x2", b"lower")
    for name in ("file", "dir", "dir/a", "merged/both"):
        os.utime(tree.at(name), (OLD, OLD))


def _middle(tree: Tree) -> None:
    tree.remove("gone", "opaque")
    tree.write("opaque/new", "only this")
    tree.write("merged/two", "two")
    tree.write("merged/both", "of the middle")
    os.chmod(tree.at("dir/sub"), 0o700)


def _topmost(tree: Tree) -> None:
    tree.write("merged/deep/er", "top")
    tree.write("dir/a", "top")


class Pair:
    """A step on each of the two, over the same layers."""

    def __init__(self, base: str, mapping: IdMapping) -> None:
        self.kernel = Shelf.make(OverlaySnapshotter, base, mapping)
        self.ours = Shelf.make(FuseSnapshotter, base, mapping)
        self.parents: list[str] = []
        for work in (_lowest, _middle, _topmost):
            self.parents.append(self.kernel.step(self.parents, work))
        self.ours.count = 1000
        self.directories: list[str] = []
        self.roots: list[Rootfs] = []

    def start(self) -> None:
        self.directories = [self.kernel.new(), self.ours.new()]
        drivers = (self.kernel.driver, self.ours.driver)
        self.roots = [
            driver.prepare(path, self.parents) for driver, path in zip(drivers, self.directories, strict=True)
        ]

    def compare_trees(self) -> None:
        first, second = (_described(f"/proc/self/fd/{root.fd}") for root in self.roots)
        assert first == second, _difference(first, second)

    def finish(self) -> None:
        """Compare what is on disk, read by the driver that did not write it."""
        for root in self.roots:
            root.close()
        shelves = (self.ours, self.kernel)
        changes = [shelf.changes(path, self.parents) for shelf, path in zip(shelves, self.directories, strict=True)]
        trees = [
            _without_inodes(shelf.tree([*self.parents, path]))
            for shelf, path in zip(shelves, self.directories, strict=True)
        ]
        for path in self.directories:
            self.ours.driver.remove(path)
        assert changes[0] == changes[1], set(changes[0]) ^ set(changes[1])
        assert trees[0] == trees[1], _difference(*trees)


def _described(path: str) -> dict[bytes, tuple[Any, ...]]:
    return _without_inodes(fingerprint(path, times=False))


def _difference(first: dict[bytes, Any], second: dict[bytes, Any]) -> list[Any]:
    names = sorted(first.keys() | second.keys())
    return [(name, first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)]


def _without_inodes(tree: dict[bytes, tuple[Any, ...]]) -> dict[bytes, tuple[Any, ...]]:
    """Leave out which names share an inode: the kernel's overlayfs does not always tell, ours does."""
    return {path: (*item[:5], *item[6:]) for path, item in tree.items()}


def test_names_of_one_file_show_one_inode_whatever_happens(tmp_path: Path) -> None:
    mapping = mappings()[0]
    base = os.path.join(tmp_path, "pair")
    os.mkdir(base)

    def body() -> None:
        shelf = Shelf.make(FuseSnapshotter, base, mapping)
        first = shelf.step([], _lowest)

        def work(tree: Tree) -> None:
            def number(name: str) -> int:
                return os.lstat(tree.at(name)).st_ino

            assert number("linked") == number("dir/linked")
            os.link(tree.at("file"), tree.at("new"))
            assert number("file") == number("new")
            tree.write("dir/linked", "written")
            assert number("linked") != number("dir/linked")
            assert tree.read("linked") == "two names"

        shelf.step([first], work)
        fs.remove_tree(base)

    run_inside(mapping, body)


def _outcome(name: str, root: Rootfs, first: str, second: str, number: int) -> Any:
    try:
        return OPERATIONS[name](f"/proc/self/fd/{root.fd}", first, second, number)
    except OSError as err:
        return f"error {os.strerror(err.errno or 0)}"


def _blocks(name: str, root: Rootfs, *paths: str) -> bool:
    """Tell whether an operation would wait for the other end of a FIFO."""
    for path in paths:
        try:
            if stat.S_ISFIFO(os.stat(path, dir_fd=root.fd).st_mode):
                return not name.startswith(("lstat", "stat", "link", "list", "unlink", "rename", "chmod", "chown"))
        except OSError:
            pass
    return False


def _machine(pair: Pair, names: list[str]) -> type[RuleBasedStateMachine]:
    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            pair.start()

        @rule(name=st.sampled_from(names), first=NAMES, second=NAMES, number=st.integers(0, 7))
        def operate(self, name: str, first: str, second: str, number: int) -> None:
            if _blocks(name, pair.roots[0], first, second):
                return
            kernel, ours = (_outcome(name, root, first, second, number) for root in pair.roots)
            assert ours == kernel, f"{name}({first!r}, {second!r}, {number})"

        def teardown(self) -> None:
            try:
                pair.compare_trees()
            finally:
                pair.finish()

    return Machine


def test_there_are_many_kinds_of_operations_and_each_can_succeed(tmp_path: Path) -> None:
    """So that none of them compares one error with another for ever."""
    assert len(OPERATIONS) >= 60
    base = os.path.join(tmp_path, "pair")
    os.mkdir(base)

    def succeeds(shelf: Shelf, parents: list[str], name: str) -> bool:
        for first, second in PAIRS:
            root = shelf.driver.prepare(shelf.new(), parents)
            outcome = _outcome(name, root, first, second, 1)
            root.close()
            if not str(outcome).startswith("error"):
                return True
        return False

    def body() -> None:
        shelf = Shelf.make(OverlaySnapshotter, base, mappings()[0])
        parents = [shelf.step([], _lowest)]
        try:
            failed = {name for name in OPERATIONS if not succeeds(shelf, parents, name)}
        finally:
            fs.remove_tree(base)
        assert failed == REFUSED

    run_inside(mappings()[0], body)


@pytest.mark.parametrize("mapping", mappings())
def test_operations_come_out_as_on_the_kernel_s_overlayfs(tmp_path: Path, mapping: IdMapping) -> None:
    base = os.path.join(tmp_path, "pair")
    os.mkdir(base)
    examples, steps = int(os.environ.get("IMG_FUSE_EXAMPLES", "60")), int(os.environ.get("IMG_FUSE_STEPS", "40"))
    names = sorted(OPERATIONS) if mapping != "single" else sorted(set(OPERATIONS) - MANY_IDS)

    def body() -> None:
        try:
            run_state_machine_as_test(
                _machine(Pair(base, mapping), names),
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=steps,
                    deadline=None,
                    database=None,
                    derandomize="CI" in os.environ,  # as all of our generated input
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            fs.remove_tree(base)

    run_inside(mapping, body)
