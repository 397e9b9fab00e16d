"""What we make in a directory that hands down an access control list is what the kernel makes, and never closed to us."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from copy_bench import Bench, archive

from img_core.files import fs, xattrs
from img_core.files.ownership import OWNER_ATTRIBUTE, Owners
from img_core.spec.graph import Copy, FileAction, MakeDirectory, WriteFile
from img_lib_containers.mountpoints import MountPoints
from img_lib_layers.clone import clone_tree

NOBODY = 0xFFFFFFFF
ACCESS_LIST = "system.posix_acl_access"


def access_list(owner: int, *, other: int = 4) -> bytes:
    """Return a list of an owner, group and others, see acl(5)."""
    rows = (1, owner, NOBODY), (4, 4, NOBODY), (32, other, NOBODY)
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.owners = Owners("fake")
    (made.root / "d").mkdir()
    os.setxattr(made.root / "d", xattrs.DEFAULT_LIST, access_list(0))
    made.source("f", mode=0o640)
    made.source("tree/sub/g", mode=0o604)
    (made.context / "tree").chmod(0o750)
    (made.context / "x.tar").write_bytes(archive([("t/h", "hi", {"mode": 0o604})]))
    return made


def mode(bench: Bench, name: str) -> int:
    """Return the mode that *name* is to have: it may be opened for us, with a note."""
    path = bench.root / name
    try:
        return int(os.getxattr(path, xattrs.MODE), 8)
    except OSError:
        return stat.S_IMODE(path.lstat().st_mode)


#: what is done, and the modes of what it makes
ROWS: dict[str, tuple[FileAction, dict[str, int]]] = {
    "WORKDIR": (MakeDirectory("/d/w/v"), {"d/w": 0o044, "d/w/v": 0o044}),
    "WORKDIR of a user": (MakeDirectory("/d/w/v", owner="0:0"), {"d/w": 0o044, "d/w/v": 0o044}),
    "COPY of a file": (Copy(0, ("f",), "/d/f"), {"d/f": 0o640}),
    "COPY below": (Copy(0, ("f",), "/d/n/m/f"), {"d/n": 0o044, "d/n/m": 0o044, "d/n/m/f": 0o640}),
    "COPY of a directory": (Copy(0, ("tree",), "/d/"), {"d/sub": 0o755, "d/sub/g": 0o604}),
    "COPY --parents": (Copy(0, ("tree/sub/g",), "/d/", parents=True), {"d/tree": 0o750, "d/tree/sub/g": 0o604}),
    "COPY --chmod": (Copy(0, ("tree",), "/d/t/", mode="0711"), {"d/t/sub": 0o711, "d/t/sub/g": 0o711}),
    "a heredoc": (WriteFile("EOF", b"text", "/d/h/"), {"d/h": 0o044, "d/h/EOF": 0o644}),
    "ADD": (Copy(0, ("x.tar",), "/d/a/", unpack=True, add=True), {"d/a": 0o044, "d/a/t": 0o755, "d/a/t/h": 0o604}),
}


@pytest.mark.parametrize("what", ROWS)
def test_what_is_made_is_as_the_kernel_makes_it(bench: Bench, what: str) -> None:
    action, expected = ROWS[what]
    bench.run(action)
    assert {name: mode(bench, name) for name in expected} == expected


@pytest.mark.parametrize(
    "action",
    [
        Copy(0, ("f",), "/d/f", owner="3:4"),
        MakeDirectory("/d/f", owner="3:4"),
        Copy(0, ("y.tar",), "/d/", unpack=True, add=True),
    ],
    ids=["file", "directory", "archive"],
)
def test_owners_can_be_noted(bench: Bench, action: FileAction) -> None:
    (bench.context / "y.tar").write_bytes(archive([("f", "hi", {"uid": 3, "gid": 4})]))
    bench.run(action)
    assert os.getxattr(bench.root / "d/f", OWNER_ATTRIBUTE) == b"3:4"


def test_a_list_that_gives_more_than_asked_for_does_not_count(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    (bench.root / "d").mkdir()
    os.setxattr(bench.root / "d", xattrs.DEFAULT_LIST, access_list(7, other=7))
    bench.run(MakeDirectory("/d/w"))
    assert mode(bench, "d/w") == 0o745


def _make_point(root: int) -> None:
    with MountPoints(root) as points:
        points.ensure("/d/x/y", directory=True)
        assert os.path.isdir(f"/proc/self/fd/{root}/d/x/y")


@pytest.mark.parametrize(
    "make",
    [_make_point, lambda root: os.close(fs.make_directories(root, b"d/x/y")), lambda root: fs.mkdir(b"d/x", 0o755, dir_fd=root)],
    ids=["mount point", "directories", "directory"],
)  # fmt: skip
def test_who_makes_directories_can_go_on(tmp_path: Path, make: Callable[[int], None]) -> None:
    (tmp_path / "d").mkdir()
    os.setxattr(tmp_path / "d", xattrs.DEFAULT_LIST, access_list(0))
    with fs.opened_directory(str(tmp_path)) as root:
        make(root)


@pytest.mark.parametrize("owner", [0, 7])
def test_a_copy_of_a_tree_has_the_lists_of_the_tree(tmp_path: Path, owner: int) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "d/before").mkdir(parents=True)
    (source / "d/before/f").write_text("f")
    (source / "d/f").write_text("f")
    named = struct.pack("<HHI", 2, 4, 77)
    rows = access_list(owner)
    os.setxattr(
        source / "d",
        xattrs.DEFAULT_LIST,
        rows[:12] + named + rows[12:20] + struct.pack("<HHI", 16, 4, NOBODY) + rows[20:],
    )
    target.mkdir()
    with fs.opened_directory(str(source)) as one, fs.opened_directory(str(target)) as other:
        clone_tree(one, other)
    for name in (".", "d", "d/before", "d/before/f", "d/f"):
        assert lists(target / name) == lists(source / name), name
        assert (target / name).stat().st_mode == (source / name).stat().st_mode, name
    assert lists(target / "d") != {}


def lists(path: Path) -> dict[str, bytes]:
    return {name: os.getxattr(path, name) for name in os.listxattr(path) if name.startswith("system.posix_acl")}
