"""Owners and modes that are only noted on files: whoever reads a tree tells them alike, where one user without capabilities owns all."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from img_core.archives import unpacking
from img_core.archives.flatten import add_tree
from img_core.archives.tar import OwnerPolicy, unpack_stream, write_layer
from img_core.archives.tar.writer import TarWriter
from img_core.files.copy import SourceTree, apply, copy_path, digest, select
from img_core.files.fs import opened_directory
from img_core.files.ownership import Owners
from img_core.files.treewalk import look_of, root_of, walk
from img_core.files.xattrs import MODE, OWNER
from img_core.solver.result import TreeView
from img_core.spec.graph import Copy
from img_exporter_local._treecopy import CopyPolicy, copy_tree, merge
from img_lib_layers.clone import clone_tree

Looks = dict[str, tuple[int, int, int]]

#: path -> mode, uid, gid; directories first
LOOKS: Looks = {
    "d": (0, 0, 0),
    "d/e": (0o1577, 33, 34),
    "d/e/f": (0o640, 33, 0),
    "d/e/g": (0o4111, 5, 6),
    "closed": (0, 0, 0),
    "plain": (0o644, 0, 0),
    "writable": (0o200, 7, 8),
    "writable2": (0o200, 7, 8),  # the same file
}
FILES = [name for name in LOOKS if "/" not in name and name != "d"]
CONTEXT: Looks = {name: (mode, 0, 0) for name, (mode, *_) in LOOKS.items()}


def note(path: Path, mode: int, uid: int, gid: int) -> None:
    """Give *path* that look, as a container without capabilities has it."""
    path.chmod(mode | 0o700 if path.is_dir() else mode | 0o600)
    os.setxattr(path, MODE, b"%o" % mode)
    if uid or gid:
        os.setxattr(path, OWNER, b"%d:%d" % (uid, gid))
    if not path.is_dir():
        path.chmod(mode | 0o400)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Path]:
    top = tmp_path / "stage"
    (top / "d/e").mkdir(parents=True)
    for name in ("d/e/f", "d/e/g", "closed", "plain", "writable"):
        (top / name).write_text(name)
    (top / "writable2").hardlink_to(top / "writable")
    for name, look in LOOKS.items():
        if name not in ("plain", "writable2"):
            note(top / name, *look)
    (top / "plain").chmod(0o644)
    yield top
    for path in tmp_path.rglob("d"):
        path.chmod(0o700)


def members(data: bytes) -> Looks:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: (member.mode, member.uid, member.gid) for member in archive}


def layer(top: Path) -> bytes:
    out = io.BytesIO()
    with opened_directory(str(top)) as fd:
        entries = ((entry.path, entry.info) for entry in walk(fd) if not entry.leaving)
        write_layer(entries, fd, out.write, compression="uncompressed")
    return out.getvalue()


def flat(stage: Path, target: Path) -> Looks:
    del target
    out = io.BytesIO()
    with opened_directory(str(stage)) as fd:
        writer = TarWriter(out.write)
        add_tree(TreeView(fd, {}), writer)
        writer.finish()
    return members(out.getvalue())


def copied(*sources: str, keep_owner: bool = True, **options: str | bool) -> Callable[[Path, Path], Looks]:
    """Return what copies *sources* as COPY does, and an image gets."""

    def read(stage: Path, target: Path) -> Looks:
        action = Copy(0, sources, "/", **options)  # type: ignore[arg-type]
        with opened_directory(str(stage)) as fd, opened_directory(str(target)) as root:
            tree = SourceTree(fd, keep_owner=keep_owner)
            apply([action], [select(tree, action)], root, owners=Owners("fake"), archives=unpacking)
        return members(layer(target))

    return read


def mounted(stage: Path, target: Path) -> Looks:
    with opened_directory(str(stage)) as fd:
        tree = SourceTree(fd, keep_owner=True)
        copy_path(tree, "d", str(target), "d", Owners("fake"), lambda: None)
    return members(layer(target))


def added(stage: Path, target: Path) -> Looks:
    place = target.parent / "archive"
    place.mkdir()
    (place / "a.tar").write_bytes(layer(stage))
    return copied("a.tar", keep_owner=False, unpack=True, add=True)(place, target)


def applied(stage: Path, target: Path) -> Looks:
    policy = OwnerPolicy("record", open_to_owner=True)
    with opened_directory(str(target)) as root:
        unpack_stream([layer(stage)], root, "layer-apply", policy, compression=None)
    return members(layer(target))


def cloned(stage: Path, target: Path) -> Looks:
    with opened_directory(str(stage)) as source, opened_directory(str(target)) as root:
        clone_tree(source, root)
    return members(layer(target))


def walked(stage: Path, target: Path) -> Looks:
    del target
    with opened_directory(str(stage)) as fd:
        looks = {os.fsdecode(entry.path): look_of(entry, None) for entry in walk(fd) if not entry.leaving}
    return {path: (stat.S_IMODE(look.mode), look.uid, look.gid) for path, look in looks.items()}


def exported(stage: Path, target: Path) -> Looks:
    """As `type=local`, over what an earlier build left there; all belongs to the user."""
    new, old = target / "new", target / "old"
    (old / "d/e").mkdir(parents=True)
    new.mkdir()
    with opened_directory(str(stage)) as fd, opened_directory(str(new)) as root:
        copy_tree(TreeView(fd, {}), root, CopyPolicy())
        with opened_directory(str(old)) as final:
            merge(root, final)
    found = {name: (old / name).lstat().st_mode for name in ("d", *FILES)}
    (old / "d").chmod(0o700)
    found |= {name: (old / name).lstat().st_mode for name in ("d/e", "d/e/f", "d/e/g")}
    return {name: (stat.S_IMODE(mode), 0, 0) for name, mode in found.items()}


def only(*names: str, of: Looks = LOOKS) -> Looks:
    return {name: of[name] for name in names}


CLOSED_TO_ALL = dict.fromkeys(LOOKS, (0, 0, 0))
#: reader -> what it does, and what it tells
READERS: dict[str, tuple[Callable[[Path, Path], Looks], Looks]] = {
    "layer": (lambda stage, _target: members(layer(stage)), LOOKS),
    "archive": (flat, LOOKS),
    "walk": (walked, LOOKS),
    "unpacked layer": (applied, LOOKS),
    "cloned": (cloned, LOOKS),
    "ADD of an archive": (added, LOOKS),
    "COPY": (copied("/"), LOOKS),
    "COPY of files": (copied(*FILES), only(*FILES)),
    "COPY --parents": (copied("d/e/f", parents=True), only("d", "d/e", "d/e/f")),
    "COPY --chmod=0": (copied("/", mode="0", owner="0:0"), CLOSED_TO_ALL),
    "COPY --chmod=u+w": (copied("closed", "d/e/g", mode="u+w"), {"closed": (0o200, 0, 0), "g": (0o4311, 5, 6)}),
    "COPY --chown": (copied("d/e/f", owner="1:2"), {"f": (0o640, 1, 2)}),
    "COPY of a context": (copied("plain", keep_owner=False, mode="0200"), {"plain": (0o200, 0, 0)}),
    "mount": (mounted, only("d", "d/e", "d/e/f", "d/e/g")),
    "type=local": (exported, {name: (mode & 0o1777, 0, 0) for name, (mode, *_) in LOOKS.items()}),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_tells_the_noted_look(stage: Path, tmp_path: Path, reader: str) -> None:
    read, expected = READERS[reader]
    target = tmp_path / "target"
    target.mkdir(mode=0o755)
    assert read(stage, target) == expected


def test_keys_of_copies_hold_the_noted_look_and_no_other(tmp_path: Path) -> None:
    keys = []
    for name, mode, noted in (("real", 0o640, None), ("noted", 0o644, b"640"), ("other", 0o640, b"600")):
        top = tmp_path / name
        top.mkdir(mode=0o750)
        (top / "f").write_text("x")
        (top / "f").chmod(mode)
        (top / "g").hardlink_to(top / "f")
        if noted:
            os.setxattr(top / "f", MODE, noted)
        with opened_directory(str(tmp_path)) as fd:
            keys.append(digest(select(SourceTree(fd, keep_owner=True), Copy(0, (f"{name}/*",), "/"))))
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_PATH], ids=["directory", "mount"])
def test_the_root_has_a_look_however_it_is_open(tmp_path: Path, flags: int) -> None:
    note(tmp_path, 0o551, 33, 34)
    with opened_directory(str(tmp_path), flags) as fd:
        look = look_of(root_of(fd), None)
    assert (stat.S_ISDIR(look.mode), stat.S_IMODE(look.mode), look.uid, look.gid) == (True, 0o551, 33, 34)
