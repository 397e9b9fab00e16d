"""What every snapshotter promises. Subclass `SnapshotterContract` and name the class::

    class TestMine(SnapshotterContract):
        snapshotter = MySnapshotter

Every test runs in a process of its own inside of a user namespace: as an ordinary user in full and in single-id mapping, as root with
real ids and in single-id mapping.
"""

# ruff: noqa: D102, S103 - a test's name is its claim; odd modes are what is tested
from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from img_core.archives.tar import write_layer
from img_core.files import faults, fs
from img_core.plugins._making import construct
from img_core.spec.errors import ArchiveError, ImgError, IntegrityError, Unsupported
from img_core.spec.host import Host, IdMapping
from img_core.spec.snapshotter import LayerStream, Snapshotter
from img_core.spec.values import DiffId, Digest
from img_core.testing import archives
from img_core.testing.contracts.driver import DriverContract
from img_core.testing.namespaces import mappings, run_inside
from img_core.testing.trees import fingerprint

__all__ = ["Shelf", "SnapshotterContract", "Tree"]

CAPABILITY = bytes.fromhex("0100000202000000000000000000000000000000")  # cap_chown=ep, revision 2
OLD = 1_000_000_000  # a time before every test


class Tree:
    """A root file system to write into, by paths."""

    def __init__(self, fd: int) -> None:
        self.path = f"/proc/self/fd/{fd}"

    def at(self, name: str) -> str:
        return f"{self.path}/{name}"

    def write(self, name: str, content: str | bytes = "", mode: int = 0o644) -> None:
        path = self.at(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, mode)

    def mkdir(self, *names: str) -> None:
        for name in names:
            os.makedirs(self.at(name), exist_ok=True)

    def remove(self, *names: str) -> None:
        for name in names:
            path = self.at(name)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)

    def relink(self, name: str, target: str) -> None:
        self.remove(name)
        os.symlink(target, self.at(name))

    def move(self, old: str, new: str) -> None:
        """Rename as mv(1) does: by copying where the file system asks for that."""
        try:
            os.rename(self.at(old), self.at(new))
        except OSError as err:
            if err.errno != errno.EXDEV:
                raise
            shutil.copytree(self.at(old), self.at(new), symlinks=True)
            shutil.rmtree(self.at(old))

    def read(self, name: str) -> str:
        return Path(self.at(name)).read_text()


Work = Callable[[Tree], None]


@dataclass(slots=True)
class Shelf:
    """A state directory with snapshots in it, as the core would keep them."""

    driver: Snapshotter
    directory: str
    mapping: IdMapping
    count: int = 0

    @classmethod
    def make(
        cls, snapshotter: type[Snapshotter], base: str, mapping: IdMapping, options: Mapping[str, Any] | None = None
    ) -> Shelf:
        directory = os.path.join(base, "state")
        run = os.path.join(base, "run")
        os.makedirs(directory, exist_ok=True)
        os.makedirs(run, exist_ok=True)
        return cls(
            construct("snapshotter", snapshotter, (Host(mapping, directory, run),), options or {}), directory, mapping
        )

    def new(self) -> str:
        self.count += 1
        return os.path.join(self.directory, f"new-{self.count}")

    def finish(self, directory: str) -> str:
        """Rename as the core does when a snapshot is complete."""
        final = os.path.join(self.directory, f"done-{self.count}")
        os.rename(directory, final)
        return final

    def step(self, parents: Sequence[str], work: Work, *, mount_points: bool = False) -> str:
        """Make a snapshot whose content *work* changes."""
        directory = self.new()
        root = self.driver.prepare(directory, parents, mount_points=mount_points)
        try:
            work(Tree(root.fd))
        finally:
            root.close()
        return self.finish(directory)

    def apply(self, parents: Sequence[str], blob: bytes, **wrong: Any) -> str:
        """Make a snapshot from the uncompressed layer *blob*; *wrong* replaces what the stream claims."""
        digest = "sha256:" + hashlib.sha256(blob).hexdigest()
        claims = {"digest": Digest(digest), "size": len(blob), "diff_id": DiffId(digest), **wrong}
        directory = self.new()
        layer = LayerStream(iter([blob[at : at + 4096] for at in range(0, len(blob), 4096)]), TAR, **claims)
        self.driver.apply(directory, parents, layer)
        return self.finish(directory)

    def tree(self, parents: Sequence[str], *, times: bool = False) -> dict[bytes, tuple[Any, ...]]:
        """Describe the merged tree of *parents*."""
        root = self.driver.view(parents)
        try:
            return fingerprint(f"/proc/self/fd/{root.fd}", times=times)
        finally:
            root.close()

    def changes(self, directory: str, parents: Sequence[str]) -> list[str]:
        """Return the changed paths; deletions with a minus, directories with a slash."""
        changes = self.driver.changes(directory, parents)
        try:
            return [_shown(path, info) for path, info in changes]
        finally:
            changes.close()

    def layer(self, directory: str, parents: Sequence[str]) -> bytes:
        """Return the changes as an uncompressed layer."""
        changes = self.driver.changes(directory, parents)
        blocks: list[bytes] = []
        try:
            write_layer(
                changes,
                changes.root_fd,
                blocks.append,
                compression="uncompressed",
                owner_of=lambda path, _info: changes.owner(path),
            )
        finally:
            changes.close()
        return b"".join(blocks)


TAR = "application/vnd.oci.image.layer.v1.tar"


def _shown(path: bytes, info: os.stat_result | None) -> str:
    name = os.fsdecode(path)
    if info is None:
        return f"-{name}"
    return f"{name}/" if stat.S_ISDIR(info.st_mode) else name


def _example(tree: Tree) -> None:
    tree.write("etc/conf", "1")
    tree.write("dir/a", "a")
    tree.write("dir/sub/b", "b")
    tree.write("dir/sub/c", "c")
    tree.write("keep", "k")
    os.symlink("dir", tree.at("link"))


def _everything(tree: Tree) -> None:
    """Make one of everything that a file system can hold."""
    tree.write("plain", "text")
    tree.write("program", "#!", 0o6755)
    tree.write("closed", "secret", 0)
    tree.write("empty")
    tree.write("first", "linked")
    tree.mkdir("sticky", "deep/" + "/".join("d" * 20 for _ in range(100)), "private")
    os.link(tree.at("first"), tree.at("sticky/second"))
    os.chmod(tree.at("sticky"), 0o1777)
    os.chmod(tree.at("private"), 0o2700)
    os.symlink("../nowhere", tree.at("dangling"))
    os.symlink("x" * 1000, tree.at("long"))
    os.mkfifo(tree.at("pipe"), 0o620)
    tree.write("n" * os.statvfs(tree.path).f_namemax, "long name")
    with open(os.fsencode(tree.path) + b"/\xff\xfe\n\\", "wb") as file:
        file.write(b"not text")
    tree.write("sparse", "start")
    os.truncate(tree.at("sparse"), 8 << 20)
    os.setxattr(tree.at("plain"), "user.note", b"\0\1\2")
    os.setxattr(tree.at("sticky"), "user.note", b"directory")
    os.setxattr(tree.at("program"), "security.capability", CAPABILITY)
    for name in ("plain", "sticky", "deep"):
        os.utime(tree.at(name), (OLD, OLD))


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
            first = shelf.step([], _example)
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
            first = shelf.step([], _example)
            for parents in ([], [first], [first, shelf.step([first], lambda tree: None)]):
                root = shelf.driver.view(parents)
                with pytest.raises(OSError, match="Read-only file system"):
                    Tree(root.fd).write("new")
                root.close()

        inside(body)

    def test_remove_leaves_nothing(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            done = shelf.step([], _everything)
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

            first = shelf.step([], _example)

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

    # --- changes ---

    def test_everything_survives_a_snapshot(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            def work(tree: Tree) -> None:
                _everything(tree)
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
            first = shelf.step([], _example)

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
            first = shelf.step([], _example)

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
            first = shelf.step([], _example)
            second = shelf.step([first], work)
            assert shelf.changes(second, [first]) == expected

        inside(body)

    def test_a_replaced_directory_names_what_vanished(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            first = shelf.step([], _example)

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

    @pytest.mark.parametrize("make", [_example, _everything])
    def test_a_layer_gives_what_the_step_made(self, inside: Inside, make: Work) -> None:
        def body(shelf: Shelf) -> None:
            first = shelf.step([], _example)

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
            first = shelf.step([], _example)
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
                _example(tree)
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
    def test_what_a_fault_leaves_can_be_removed(self, inside: Inside, fault: str) -> None:
        def body(shelf: Shelf) -> None:
            first = shelf.step([], _example)
            layer = shelf.layer(shelf.step([first], lambda tree: (tree.remove("dir"), tree.write("dir/x"))[0]), [first])  # type: ignore[func-returns-value]
            before = sorted(os.listdir(shelf.directory))
            number, finished = 0, False
            while not finished:
                number += 1
                finished = _with_fault(fault, number, lambda: shelf.apply([first], layer))
                for name in set(os.listdir(shelf.directory)) - set(before):
                    shelf.driver.remove(os.path.join(shelf.directory, name))
                assert sorted(os.listdir(shelf.directory)) == before
            assert number > 5
            assert b"keep" in shelf.tree([first])

        inside(body)

    # --- owners ---

    def test_owners_are_kept(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            if shelf.mapping == "single":
                _check_records(shelf)
                return

            def work(tree: Tree) -> None:
                _example(tree)
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


def _with_fault(fault: str, number: int, work: Callable[[], object]) -> bool:
    """Do *work* in a process that meets *fault* at its mutation *number*; tell whether it got through."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            faults.install(crash_at=number) if fault == "crash" else faults.install(fail_at=number)
            work()
            status = 0
        except (ImgError, OSError):
            status = 2
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 2, 137), f"mutation {number}: status {status}"
    return status == 0


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
