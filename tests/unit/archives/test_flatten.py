"""Trees of any shape come out of the archive and the copy as they went in."""

from __future__ import annotations

import io
import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from img_core.archives.flatten import write_tree
from img_core.archives.tar import TarReader, extract
from img_core.files import fs
from img_core.files.treewalk import walk
from img_core.spec.errors import ImgError
from img_core.testing.results import ReadyTree
from img_exporter_local._treecopy import CopyPolicy, copy_tree, merge

NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..") and not name.startswith(b".wh.")
)
LEAVES = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=600), st.sampled_from([0o644, 0o755, 0o600, 0o4711])),
    st.tuples(st.just("link"), st.binary(min_size=1, max_size=150).filter(lambda text: b"\0" not in text), st.just(0)),
    st.tuples(st.just("fifo"), st.just(b""), st.sampled_from([0o600, 0o622])),
    st.tuples(st.just("again"), st.just(b""), st.just(0)),
)
TREES = st.recursive(
    st.dictionaries(NAMES, LEAVES, max_size=5),
    lambda inner: st.dictionaries(NAMES, st.one_of(LEAVES, inner), max_size=5),
)


def build(directory: bytes, tree: dict[bytes, object], first: list[bytes]) -> None:
    """Make *tree*; ``again`` is another name of the first regular file."""
    for name, what in tree.items():
        path = os.path.join(directory, name)
        if isinstance(what, dict):
            os.mkdir(path)
            build(path, what, first)
            continue
        assert isinstance(what, tuple)
        kind, content, mode = what
        if kind == "link":
            os.symlink(content, path)
        elif kind == "fifo":
            os.mkfifo(path, mode)
        elif kind == "again" and first:
            os.link(first[0], path)
        else:
            Path(os.fsdecode(path)).write_bytes(content)
            os.chmod(path, mode or 0o644)
            first.append(path)


def look(root: bytes) -> dict[bytes, tuple[object, ...]]:
    """Return what is in *root*: names, kinds, modes, contents, times, and which names are one file."""
    names: dict[int, bytes] = {}
    seen: dict[bytes, tuple[object, ...]] = {}
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for entry in walk(fd):
            info = entry.info
            if entry.leaving:
                continue
            path = os.path.join(root, entry.path)
            content = b""
            if stat.S_ISREG(info.st_mode):
                content = Path(os.fsdecode(path)).read_bytes()
            elif stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            first = entry.path if stat.S_ISDIR(info.st_mode) else names.setdefault(info.st_ino, entry.path)
            seen[entry.path] = (
                stat.S_IFMT(info.st_mode),
                info.st_mode & 0o1777,
                info.st_mtime_ns // 10**9,
                content,
                first,
            )
    finally:
        os.close(fd)
    return seen


@given(TREES)
@settings(max_examples=120, deadline=None)
def test_tree_is_the_same_after_archive_and_copy(tree: dict[bytes, object]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        source, copy, unpacked = (
            os.path.join(os.fsencode(directory), name) for name in (b"source", b"copy", b"unpacked")
        )
        for path in (source, copy, unpacked):
            os.mkdir(path)
        build(source, tree, [])
        fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (source, copy, unpacked)]
        try:
            view = ReadyTree(fds[0], {})
            archive = io.BytesIO()
            write_tree(view, archive)
            archive.seek(0)
            copy_tree(view, fds[1], CopyPolicy())
            extract(TarReader(archive), fds[2], mode="plain")
        except ImgError as error:  # an ordinary user may not give files to root
            if os.geteuid() == 0 or "is not available here" not in error.message:
                raise
        finally:
            for fd in fds:
                os.close(fd)
        assert look(copy) == look(source)
        if os.geteuid() == 0:
            assert look(unpacked) == look(source)


@given(TREES, TREES)
@settings(max_examples=80, deadline=None)
def test_merging_gives_the_new_tree_and_what_only_the_old_one_had(
    new: dict[bytes, object], old: dict[bytes, object]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        stage, target = (os.path.join(os.fsencode(directory), name) for name in (b"stage", b"target"))
        for path, tree in ((stage, new), (target, old)):
            os.mkdir(path)
            build(path, tree, [])
        wanted, before = look(stage), look(target)
        fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (stage, target)]
        try:
            merge(fds[0], fds[1])
        except ImgError as error:
            assert "would be replaced by a file" in error.message
            assert look(target) == before
            return
        finally:
            for fd in fds:
                os.close(fd)
        after = look(target)
        assert {path: after[path] for path in wanted} == wanted
        gone = [path for path in before if path not in after]
        for path in gone:  # only what a new non-directory stands for, or was below a replaced link
            assert any(path == name or path.startswith(name + b"/") for name in wanted)


def test_file_that_changes_while_it_is_copied_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "copy").mkdir()
    (tmp_path / "source" / "file").write_bytes(b"12345")
    source = os.open(tmp_path / "source", os.O_RDONLY)
    copy = os.open(tmp_path / "copy", os.O_RDONLY)

    def shrink(_number: int, kind: str, _path: bytes | str) -> None:
        if kind == "create":
            (tmp_path / "source" / "file").write_bytes(b"1")

    fs.faults.install(log=shrink)
    try:
        with pytest.raises(ImgError, match=r"^file changed while it was read: `file`$"):
            copy_tree(ReadyTree(source, {}), copy, CopyPolicy())
    finally:
        fs.faults.uninstall()
        os.close(source)
        os.close(copy)
