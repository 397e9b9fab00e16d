"""Of a disk that fails in the middle of a copy it is told which file failed: the one that is read or the one that is written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from copy_bench import Bench, archive

from img_core.archives import unpacking
from img_core.files.copy import Reading, SourceTree, apply, copy_path, digest, holds_archives, select, unpacked_digests
from img_core.files.ownership import Owners
from img_core.spec.errors import ImgError
from img_core.spec.graph import Copy
from img_lib_layers.clone import clone_tree

SMALL, LARGE = 1000, 3 << 20


class Disk:
    """Fails the system calls that have to do with one file from now on."""

    def __init__(self, bench: Bench, patch: pytest.MonkeyPatch) -> None:
        self.bench = bench
        self._patch = patch

    def fail(self, path: Path, calls: tuple[str, ...], error: int = errno.EIO) -> None:
        place = os.stat(path, follow_symlinks=False)
        for name in calls:
            self._patch.setattr(os, name, self._failing(getattr(os, name), (place.st_dev, place.st_ino), error))

    @staticmethod
    def _failing(call: Callable[..., Any], place: tuple[int, int], error: int) -> Callable[..., Any]:  # Any: any call
        look, look_at = os.stat, os.fstat

        def failing(*given: Any, **named: Any) -> Any:  # Any: as above
            for what in given[: 2 if call.__name__ == "copy_file_range" else 1]:
                found = look_at(what) if isinstance(what, int) else look(what, follow_symlinks=False, **named)
                if (found.st_dev, found.st_ino) == place:
                    raise OSError(error, os.strerror(error))
            return call(*given, **named)

        failing.__name__ = call.__name__
        return failing


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(Bench(tmp_path), monkeypatch)


def run(bench: Bench, action: Copy, *, keep_owner: bool = False, reading: bool = False) -> None:
    context = os.open(bench.context, os.O_RDONLY | os.O_DIRECTORY)
    root = os.open(bench.root, os.O_PATH | os.O_DIRECTORY)
    try:
        selection = select(SourceTree(context, keep_owner=keep_owner), action)
        selection = replace(selection, reading=Reading(marked=keep_owner) if reading else None)
        apply([action], [selection], root, owners=Owners("single"), archives=unpacking)
    finally:
        os.close(context)
        os.close(root)


def copy_whole(bench: Bench, path: str) -> None:
    context = os.open(bench.context, os.O_RDONLY | os.O_DIRECTORY)
    try:
        tree = SourceTree(context, keep_owner=True)
        copy_path(tree, path, str(bench.root), "to", Owners("single"), lambda: None)
    finally:
        os.close(context)


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE, errno.ENOSPC], ids=errno.errorcode.get)
@pytest.mark.parametrize("keep_owner", [False, True], ids=["context", "stage"])
@pytest.mark.parametrize("reading", [False, True], ids=["plain", "hashed"])
@pytest.mark.parametrize(
    ("size", "calls"),
    [
        (SMALL, ("read",)),
        (LARGE, ("pread", "copy_file_range")),
        (LARGE, ("pread",)),
        (LARGE, ("copy_file_range",)),
        (-LARGE, ("lseek",)),
        (-LARGE, ("pread", "copy_file_range")),
        (SMALL, ("getxattr",)),
        (SMALL, ("listxattr",)),
    ],
    ids=["read", "large", "pread", "copy_file_range alone", "seek", "holes", "getxattr", "listxattr"],
)
def test_a_file_that_cannot_be_read_is_named(
    disk: Disk, size: int, calls: tuple[str, ...], reading: bool, keep_owner: bool, error: int
) -> None:
    source = disk.bench.source("dir/f")
    with source.open("wb") as file:
        file.write(b"x" * size if size > 0 else b"")
        file.seek(abs(size) - 1)
        file.write(b"x")
    os.setxattr(source, "user.a", b"b")
    disk.fail(source, calls, error)
    action = Copy(0, ("dir",), "/to")
    needed = not {"pread", "copy_file_range"} >= {*calls} or len(calls) == 2
    needed = needed and (keep_owner or not {"getxattr", "listxattr"} & {*calls})
    try:
        run(disk.bench, action, keep_owner=keep_owner, reading=reading)
    except ImgError as err:
        assert err.message == f"cannot read `/dir/f` in the build context: {os.strerror(error).lower()}"
    else:
        assert not needed, "it was not read"
        assert (disk.bench.root / "to/f").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("what", ["directory", "parent", "archive", "link", "whole path"])
def test_what_is_read_beside_files_is_named(disk: Disk, what: str) -> None:
    bench = disk.bench
    bench.source("dir/sub/f")
    (bench.context / "dir/l").symlink_to("f")
    (bench.context / "x.tar").write_bytes(archive([("t/f", "hi" * 3000, {})]))
    os.setxattr(bench.context / "dir/sub", "user.a", b"b")
    failing, calls, action, shown = {
        "directory": ("dir/sub", ("getxattr",), Copy(0, ("dir",), "/to"), "dir/sub"),
        "parent": ("dir/sub", ("listxattr",), Copy(0, ("dir/sub/f",), "/to/", parents=True), "dir/sub"),
        "archive": ("x.tar", ("pread", "read"), Copy(0, ("x.tar",), "/to/", unpack=True), "x.tar"),
        "link": ("dir/l", ("readlink",), Copy(0, ("dir",), "/to/"), "dir/l"),
        "whole path": ("dir/sub", ("listxattr",), None, "dir/sub"),
    }[what]
    disk.fail(bench.context / failing, calls)
    with pytest.raises(ImgError) as caught:
        run(bench, action, keep_owner=True) if action else copy_whole(bench, "dir/sub")
    assert caught.value.message == f"cannot read `/{shown}` in the build context: input/output error"


@pytest.mark.parametrize(("size", "calls"), [(SMALL, ("write",)), (LARGE, ("write", "pwrite", "copy_file_range"))])
def test_what_cannot_be_written_is_told_as_the_destination(
    disk: Disk, size: int, calls: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.bench.source("f", "x" * size)

    def full(*_given: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in calls:
        monkeypatch.setattr(os, name, full)
    with pytest.raises(ImgError, match=r"^no space left on device: `/`$"):
        run(disk.bench, Copy(0, ("f",), "/to/f"))


@pytest.mark.parametrize("call", ["read", "fstat", "listxattr", "stat", "pread"])
def test_who_computes_a_key_names_the_file(disk: Disk, call: str) -> None:
    bench = disk.bench
    action, name = Copy(0, ("dir",), "/to"), "dir/f"
    if call == "pread":
        action, name = Copy(0, ("x.tar",), "/to/", unpack=True, add=True), "x.tar"
    elif call == "stat":
        name = "dir/l"
    bench.source("dir/f")
    (bench.context / "dir/l").symlink_to("f")
    (bench.context / "x.tar").write_bytes(archive([("t/f", "hi", {})]))
    context = os.open(bench.context, os.O_RDONLY | os.O_DIRECTORY)
    selection = select(SourceTree(context, keep_owner=True), action)
    if call == "stat":
        looked = os.stat

        def failing(path: Any, **named: Any) -> os.stat_result:  # Any: as in the library
            if path == b"l":
                raise OSError(errno.EIO, "")
            return looked(path, **named)

        disk._patch.setattr(os, "stat", failing)
    else:
        disk.fail(bench.context / name, (call,))
    asked: list[Callable[[], object]] = [lambda: digest(selection)]
    if call == "pread":
        asked = [lambda: holds_archives(selection, unpacking), lambda: unpacked_digests(selection, unpacking)]
    for ask in asked:
        with pytest.raises(ImgError) as caught:
            ask()
        assert caught.value.message == f"cannot read `/{name}` in the build context: input/output error"
    os.close(context)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_who_copies_a_root_names_the_file(disk: Disk, size: int) -> None:
    disk.bench.source("dir/f", "x" * size)
    disk.fail(disk.bench.context / "dir/f", ("read", "pread", "copy_file_range"))
    context = os.open(disk.bench.context, os.O_RDONLY | os.O_DIRECTORY)
    root = os.open(disk.bench.root, os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(ImgError, match=r"^cannot copy `/dir/f`: input/output error$"):
        clone_tree(context, root)
    os.close(context)
    os.close(root)
