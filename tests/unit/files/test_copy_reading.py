"""What is copied is read once, for the copy and for its digest; the digest is the one that reading before the copy gives."""

from __future__ import annotations

import io
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from img_core.archives import unpacking
from img_core.files import _contents, fs
from img_core.files.copy import (
    FileDigests,
    Reading,
    Selection,
    SourceTree,
    apply,
    digest,
    holds_archives,
    known_digest,
    outline,
    select,
    unpacked_digests,
)
from img_core.files.ignore import IgnoreMatcher
from img_core.files.ownership import Owners
from img_core.spec.errors import ImgError
from img_core.spec.graph import Copy

LARGE = 3_000_001  # more than one block, and more than what is read and written at once


def _plain(context: Path) -> None:
    (context / "dir/sub").mkdir(parents=True)
    (context / "dir/empty").touch()
    (context / "dir/small").write_text("small")
    (context / "dir/sub/large").write_bytes(os.urandom(LARGE))


def _sparse(context: Path) -> None:
    with (context / "sparse").open("wb") as file:
        file.seek(2_000_000)
        file.write(b"middle")
        file.truncate(5_000_000)
    with (context / "hole").open("wb") as file:
        file.truncate(1_500_000)


def _links(context: Path) -> None:
    _plain(context)
    (context / "dir/second").hardlink_to(context / "dir/sub/large")
    (context / "dir/link").symlink_to("small")
    (context / "dir/nowhere").symlink_to("/nowhere")
    os.mkfifo(context / "dir/pipe")


def _attributes(context: Path) -> None:
    _plain(context)
    os.setxattr(context / "dir/small", "user.colour", b"red")
    os.setxattr(context / "dir/sub", "user.colour", b"blue")


def _archive(context: Path) -> None:
    _plain(context)
    with tarfile.open(context / "packed.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("inside")
        member.size = 6
        archive.addfile(member, io.BytesIO(b"inside"))


@dataclass(frozen=True)
class Case:
    fill: Callable[[Path], None]
    action: Copy
    ignore: str = ""
    keep_owner: bool = False
    times: int = 1  #: how often each byte may be read


CASES = {
    "directories": Case(_plain, Copy(0, (".",), "/")),
    "one file": Case(_plain, Copy(0, ("dir/sub/large",), "/named")),
    "a pattern": Case(_plain, Copy(0, ("dir/*",), "/to/")),
    "parents": Case(_plain, Copy(0, ("dir/./sub/large", "dir/small"), "/to/", parents=True)),
    "sparse": Case(_sparse, Copy(0, (".",), "/")),
    "links": Case(_links, Copy(0, ("dir",), "/")),
    "a file found twice": Case(_links, Copy(0, ("dir/small", "dir/smal*"), "/to/"), times=2),
    "attributes of a stage": Case(_attributes, Copy(0, ("dir",), "/"), keep_owner=True),
    "chmod": Case(_plain, Copy(0, (".",), "/", mode="u=rwX,go=")),
    "chown": Case(_plain, Copy(0, (".",), "/", owner="7:8")),
    "ignored": Case(_plain, Copy(0, (".",), "/"), ignore="dir/sub\n!dir/sub/large\n"),
    "excluded": Case(_plain, Copy(0, (".",), "/", exclude=("dir/small",))),
    "ADD of files": Case(_plain, Copy(0, ("dir",), "/", unpack=True, add=True)),
}  # fmt: skip


class Disk:
    """A context, and an empty root to copy to."""

    def __init__(self, base: Path) -> None:
        self.context = base / "context"
        self.context.mkdir()
        self.root = base / "root"
        self.root.mkdir()
        self.read: Counter[str] = Counter()

    @contextmanager
    def tree(self, case: Case) -> Iterator[SourceTree]:
        fd = os.open(self.context, os.O_RDONLY | os.O_DIRECTORY)
        try:
            ignore = IgnoreMatcher.from_file(case.ignore, ".dockerignore") if case.ignore else None
            yield SourceTree(fd, ignore=ignore, keep_owner=case.keep_owner)
        finally:
            os.close(fd)

    def copy(self, action: Copy, selection: Selection) -> None:
        root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            apply([action], [selection], root, owners=Owners("single"), archives=unpacking)
        finally:
            os.close(root)

    def count(self, patch: pytest.MonkeyPatch) -> None:
        """From now on count what is read of each file of the context."""

        def counted(name: str) -> None:
            call: Callable[..., Any] = getattr(os, name)  # Any: one of several system calls

            def counting(fd: int, *rest: Any) -> Any:  # Any: as above
                result = call(fd, *rest)
                path = os.readlink(f"/proc/self/fd/{fd}")
                if path.startswith(f"{self.context}/"):
                    self.read[os.path.relpath(path, self.context)] += (
                        len(result) if isinstance(result, bytes) else result
                    )
                return result

            patch.setattr(os, name, counting)

        for name in ("read", "pread", "copy_file_range"):
            counted(name)


def reading_of(tree: SourceTree, action: Copy, reading: Reading) -> Selection:
    return replace(select(tree, action), reading=reading)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_each_byte_is_read_once_and_the_digest_is_that_of_reading_before(
    disk: Disk, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.fill(disk.context)
    with disk.tree(case) as tree:
        expected = digest(select(tree, case.action))
        selection = reading_of(tree, case.action, Reading(marked=case.keep_owner))
        assert known_digest(selection) is None, "nobody looked into the files yet"
        disk.count(monkeypatch)
        disk.copy(case.action, selection)
        assert known_digest(selection) == digest(selection) == expected
        if case.action.unpack:
            assert len(unpacked_digests(selection, unpacking)) == 1
    assert disk.read, "reading was seen"
    for name, count in disk.read.items():
        assert count <= case.times * (disk.context / name).stat().st_size, name
    monkeypatch.undo()
    for path in disk.root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            source = next(disk.context.rglob("large" if path.name in ("named", "second") else path.name))
            assert path.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_was_read_for_the_key_is_not_read_for_the_copy(
    disk: Disk, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.fill(disk.context)
    with disk.tree(case) as tree:
        selection = reading_of(tree, case.action, Reading(marked=case.keep_owner))
        before = digest(selection)
        disk.count(monkeypatch)
        disk.copy(case.action, selection)
        assert digest(selection) == before
    for name, count in disk.read.items():
        status = (disk.context / name).stat()
        if (
            status.st_blocks * 512 >= status.st_size and not case.action.unpack
        ):  # holes are kept by a copy, which looks for them
            assert count == (case.times - 1) * status.st_size, name
    monkeypatch.undo()
    for path in disk.root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            source = next(disk.context.rglob("large" if path.name in ("named", "second") else path.name))
            assert path.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("most", [0, 1000, LARGE + 600, LARGE + 1200])
def test_only_so_much_is_kept_between_key_and_copy(disk: Disk, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("img_core.files.copy._reading._HELD", most)
    case = CASES["directories"]
    case.fill(disk.context)
    with disk.tree(case) as tree:
        selection = reading_of(tree, case.action, Reading())
        digest(selection)
        disk.count(monkeypatch)
        disk.copy(case.action, selection)
    small, large = disk.read["dir/small"], disk.read["dir/sub/large"]
    assert small + large >= (LARGE if most < LARGE else 0)
    assert (small, large) == {0: (5, LARGE), 1000: (0, LARGE), LARGE + 1200: (0, 0)}.get(most, (small, large))


def _write_at(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"changed")


CHANGES: dict[str, tuple[Callable[[Path], object], bool]] = {
    "nothing": (lambda _: None, False),
    "times": (lambda context: os.utime(context / "dir/small"), False),
    "size of a small file": (lambda context: (context / "dir/small").write_text("smaller"), True),
    "content of a small file": (lambda context: (context / "dir/small").write_text("other"), False),
    "mode": (lambda context: (context / "dir/small").chmod(0o600), True),
    "name": (lambda context: (context / "dir/small").rename(context / "dir/other"), True),
    "begin of a large file": (lambda context: _write_at(context / "dir/sub/large", 0), True),
    "middle": (lambda context: _write_at(context / "dir/sub/large", LARGE // 2), True),
    "end": (lambda context: _write_at(context / "dir/sub/large", LARGE - 7), True),
    "elsewhere": (lambda context: _write_at(context / "dir/sub/large", 100_000), False),
}


@pytest.mark.parametrize(("change", "seen"), CHANGES.values(), ids=CHANGES)
def test_an_outline_tells_most_changes_by_little(
    disk: Disk, change: Callable[[Path], object], seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["directories"]
    case.fill(disk.context)

    def outlined() -> str:
        with disk.tree(case) as tree:
            return outline(reading_of(tree, case.action, Reading()))

    assert outlined() == "", "all this is kept between key and copy"
    monkeypatch.setattr("img_core.files.copy._reading._HELD", LARGE)
    disk.count(monkeypatch)
    before = outlined()
    assert disk.read == {"dir/sub/large": 3 * 4096}
    monkeypatch.undo()
    monkeypatch.setattr("img_core.files.copy._reading._HELD", LARGE)
    change(disk.context)
    assert (outlined() != before) is seen


@pytest.mark.parametrize("first", ["digest", "copy"])
def test_what_is_remembered_is_read_for_the_copy_only(disk: Disk, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["directories"]
    case.fill(disk.context)
    remembered: dict[int, str] = {}

    class Hashes:
        def get(self, info: Any) -> str | None:  # Any: as the protocol says
            return remembered.get(info.st_ino)

        def put(self, info: Any, value: str) -> None:
            remembered[info.st_ino] = value

        def save(self) -> None: ...

    with disk.tree(case) as tree:
        expected = digest(reading_of(tree, case.action, _of_old_files(Hashes())))
        assert len(remembered) == 3
        disk.count(monkeypatch)
        selection = reading_of(tree, case.action, _of_old_files(Hashes()))
        if first == "digest":
            assert digest(selection) == expected
        disk.copy(case.action, selection)
        assert digest(selection) == expected
    assert disk.read == {"dir/small": 5, "dir/sub/large": LARGE}


def _of_old_files(hashes: Any) -> Reading:  # Any: a FileHashes
    reading = Reading(hashes)
    reading._before *= 2  # as if they had been written long ago
    return reading


def test_archives_are_told_apart_and_confirmed(disk: Disk) -> None:
    case = Case(_archive, Copy(0, ("packed.tar.gz", "dir/small"), "/to/", unpack=True, add=True))
    case.fill(disk.context)
    with disk.tree(case) as tree:
        assert not holds_archives(select(tree, replace(case.action, sources=("dir/small", "dir"))), unpacking)
        selection = reading_of(tree, case.action, Reading())
        assert holds_archives(selection, unpacking)
        digests = [digest(selection), *unpacked_digests(selection, unpacking)]
        disk.copy(case.action, selection)
        assert [digest(selection), *unpacked_digests(selection, unpacking)] == digests
    assert sorted(path.name for path in disk.root.rglob("*")) == ["inside", "small", "to"]


@pytest.mark.parametrize("kind", ["file", "archive"])
def test_a_change_that_no_time_tells_is_found_between_key_and_copy(
    disk: Disk, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("img_core.files.copy._reading._HELD", 0)
    _archive(disk.context)
    name = {"file": "dir/small", "archive": "packed.tar.gz"}[kind]
    action = Copy(0, (name,), "/to/", unpack=True, add=True)
    with disk.tree(CASES["directories"]) as tree:
        selection = reading_of(tree, action, Reading())
        digest(selection)
        with (disk.context / name).open("r+b") as file:
            file.seek(4)
            file.write(b"!")  # of a gzip archive: its time
        for module in ("_digest", "_write", "_apply"):  # as on a file system with a coarse clock
            monkeypatch.setattr(f"img_core.files.copy.{module}.same_version", lambda _now, _before: True)
        with pytest.raises(ImgError, match=f"`/{name}` in the build context changed while it was read"):
            disk.copy(action, selection)


def test_a_link_that_changes_behind_the_copy_is_found(disk: Disk) -> None:
    _links(disk.context)
    action = Copy(0, ("dir",), "/to/")
    with disk.tree(CASES["links"]) as tree:
        selection = reading_of(tree, action, Reading())
        disk.copy(action, selection)
        (disk.context / "dir/link").unlink()
        (disk.context / "dir/link").symlink_to("other")
        with pytest.raises(ImgError, match="`/dir/link` in the build context changed while it was read"):
            digest(selection)


def test_shared_extents_are_read_in_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FICLONE, without a file system that has it."""
    content = os.urandom(300_000)
    (tmp_path / "source").write_bytes(content)

    def clone(_source: int, target: int, _size: int) -> bool:
        os.pwrite(target, content, 0)
        return True

    monkeypatch.setattr(_contents, "_clone", clone)
    passed: list[bytes] = []
    with (tmp_path / "source").open("rb") as source, (tmp_path / "target").open("w+b") as target:
        monkeypatch.setattr(os, "read", _never)
        assert fs.copy_and_read(source.fileno(), target.fileno(), len(content), passed.append) == len(content)
    assert b"".join(passed) == content


def _never(*_arguments: object) -> bytes:
    raise AssertionError("the source is not read")


def test_rows_of_one_reading_are_known_before_they_are_saved(tmp_path: Path) -> None:
    class Rows:
        saved = 0

        def query(self, *_sql: object) -> list[tuple[object, ...]]:
            return []

        @contextmanager
        def transaction(self) -> Iterator[Any]:  # Any: a cursor
            rows = self

            class Cursor:
                def executemany(self, _sql: str, values: Any) -> None:  # Any: an iterable of rows
                    rows.saved += len(list(values))

            yield Cursor()

    rows = Rows()
    known = FileDigests(rows, "scope")  # type: ignore[arg-type]  # as much of a database as is asked for
    (tmp_path / "file").write_text("x")
    info = (tmp_path / "file").stat()
    known.put(info, "value")
    assert known.get(info) == "value"
    known.save()
    known.save()
    assert (rows.saved, known.get(info)) == (1, "value")
