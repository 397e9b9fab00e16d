"""Whoever goes along a path of strangers beneath a root meets the same hostile trees: each comes to the same place, and none leaves."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path

import pytest

from img_core.files import _rooted, fs
from img_core.files.copy._places import NewDirectory, TargetRoot
from img_core.files.copy._tree import SourceTree, resolve
from img_core.files.ownership import Owners
from img_core.files.walker import LINK_LIMIT, Walk
from img_core.spec.errors import ImgError
from img_lib_containers.mountpoints import MountPoints

#: What is in the root: directories (None), files (bytes) and links (text).
TREE: dict[str, bytes | str | None] = {
    "etc": None,
    "etc/f": b"f",
    "usr/lib/deep": None,
    "lib": "usr/lib",
    "absolute": "/usr/lib",
    "etc/absolute": "/usr/lib",
    "etc/absolutely-new": "/usr/made",
    "up": "../../../../etc",
    "out": "/../../outside",
    "out-of-two": "usr/../../outside",
    "dots": "./usr/.//lib/../lib/deep/..",
    "loop": "loop",
    "to": "fro",
    "fro": "to",
    "through-file": "etc/f/x",
    "new": "usr/new/er",
    "long-0": "etc",
    **{f"long-{number}": f"long-{number - 1}" for number in range(1, LINK_LIMIT + 2)},
}
#: path -> where it is without links; None: a circle, or a file on the way
EXISTING = {
    "etc": "etc",
    "/": "",
    "lib/deep": "usr/lib/deep",
    "absolute/deep": "usr/lib/deep",
    "etc/absolute/deep": "usr/lib/deep",
    "usr/../lib/../../etc": "etc",
    "up": "etc",
    "lib/../../../etc": "etc",
    "dots": "usr/lib",
    f"long-{LINK_LIMIT - 1}": "etc",
    f"long-{LINK_LIMIT}": None,
    "loop": None,
    "to/etc": None,
    "etc/f/x": None,
}
#: the same for paths of which something is missing, which only those who make it reach
MISSING = {
    "var/cache": "var/cache",
    "lib/x/y": "usr/lib/x/y",
    "new": "usr/new/er",
    "etc/absolutely-new/x": "usr/made/x",
    "new/../est": "usr/new/est",
    "out": "outside",
    "out-of-two/x": "outside/x",
    "../../outside": "outside",
    "etc/../../../outside/x": "outside/x",
    "through-file": None,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    for name, content in TREE.items():
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir(parents=True)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.symlink_to(content)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("")
    return made


def listing(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


class Walker(ABC):
    """Goes to a directory beneath a root."""

    makes = False  #: makes what is missing

    @abstractmethod
    def reach(self, root_fd: int, path: bytes) -> int:
        """Return a descriptor of the directory. Raises OSError or ImgError."""


class Kernel(Walker):
    def reach(self, root_fd: int, path: bytes) -> int:
        return fs.open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY)


class ByHand(Walker):
    def reach(self, root_fd: int, path: bytes) -> int:
        return _rooted.walk(root_fd, path, os.O_PATH | os.O_DIRECTORY, 0, _rooted.RESOLVE_IN_ROOT)


class CopySource(Walker):
    def reach(self, root_fd: int, path: bytes) -> int:
        found = resolve(SourceTree(root_fd), path)
        if found is None:
            raise FileNotFoundError
        return fs.open_beneath(root_fd, found[0] or b".", os.O_PATH | os.O_DIRECTORY)


class CopyTarget(Walker):
    makes = True

    def reach(self, root_fd: int, path: bytes) -> int:
        return TargetRoot(root_fd, Owners("single"), None).directory(path, NewDirectory(0o755, 0, 0))[0]


class MadeDirectories(Walker):
    makes = True

    def reach(self, root_fd: int, path: bytes) -> int:
        return fs.make_directories(root_fd, path)


class MountTarget(Walker):
    makes = True

    def reach(self, root_fd: int, path: bytes) -> int:
        self.made = MountPoints(root_fd)  # stays: leaving would remove what it made
        self.made.ensure(os.fsdecode(path), directory=True)
        return fs.open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY)


WALKERS = [Kernel(), ByHand(), CopySource(), CopyTarget(), MadeDirectories(), MountTarget()]
MAKERS = [walker for walker in WALKERS if walker.makes]


def check(walker: Walker, root: Path, path: str, expected: str | None) -> None:
    before = listing(root.parent / "outside")
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    open_before = len(os.listdir("/proc/self/fd"))
    try:
        try:
            reached = walker.reach(root_fd, path.encode())
        except (OSError, ImgError):
            assert expected is None
        else:
            try:
                assert expected is not None
                assert os.path.samestat(os.fstat(reached), os.stat(root / expected, follow_symlinks=False))
            finally:
                os.close(reached)
        if not isinstance(walker, MountTarget):
            assert len(os.listdir("/proc/self/fd")) == open_before
    finally:
        os.close(root_fd)
    assert listing(root.parent / "outside") == before
    assert sorted(os.listdir(root.parent)) == ["outside", "root"]


@pytest.mark.parametrize("walker", WALKERS, ids=lambda walker: type(walker).__name__)
@pytest.mark.parametrize(("path", "expected"), EXISTING.items())
def test_a_path_leads_to_one_place_within_the_root(walker: Walker, root: Path, path: str, expected: str | None) -> None:
    check(walker, root, path, expected)


@pytest.mark.parametrize("walker", MAKERS, ids=lambda walker: type(walker).__name__)
@pytest.mark.parametrize(("path", "expected"), MISSING.items())
def test_what_is_missing_is_made_within_the_root(walker: Walker, root: Path, path: str, expected: str | None) -> None:
    check(walker, root, path, expected)


@pytest.mark.parametrize(
    "walker", [walker for walker in WALKERS if not walker.makes], ids=lambda walker: type(walker).__name__
)
@pytest.mark.parametrize("path", MISSING)
def test_what_is_missing_is_not_found_by_who_makes_nothing(walker: Walker, root: Path, path: str) -> None:
    before = listing(root)
    check(walker, root, path, None)
    assert listing(root) == before


def test_a_directory_that_moves_out_of_the_root_does_not_take_the_walk_along(root: Path) -> None:
    """``..`` is where we came from: the directory we are in may be anywhere by now."""
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with Walk(root_fd, b"usr/lib/../../etc") as walk:
            for name in (b"usr", b"lib"):
                assert walk.next() == name
                walk.go(name, walk.look(name))
            (root / "usr/lib").rename(root.parent / "outside/lib")
            assert walk.next() == b"etc"
            assert os.path.samestat(os.fstat(walk.here), root.stat())
    finally:
        os.close(root_fd)


@pytest.mark.parametrize("path", [b"/etc", b"../x", b"etc/../../x", b"absolute/deep", b"up/f"])
def test_who_is_not_clamped_is_told_that_a_path_leads_out(root: Path, path: bytes) -> None:
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError, match="cross-device"):
            _rooted.walk(root_fd, path, os.O_PATH, 0, _rooted.RESOLVE_BENEATH)
    finally:
        os.close(root_fd)
