"""Owner records of single-id mapping."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from img_core.files import ownership
from img_core.files.ownership import OWNER_ATTRIBUTE, Owners, default_owner, resolve
from img_core.spec.errors import StateError
from img_core.spec.executor import OwnerRecord


class Changes:
    """Everything below a directory, as if all of it had changed."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.root_fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
        self.recorded: dict[bytes, tuple[int, int]] = {}

    def __iter__(self) -> Iterator[tuple[bytes, os.stat_result | None]]:
        yield b"deleted", None
        for path in sorted(self.top.rglob("*")):
            yield os.fsencode(path.relative_to(self.top)), path.lstat()

    def owner(self, path: bytes) -> tuple[int, int] | None:
        return self.recorded.get(path)

    def close(self) -> None:
        os.close(self.root_fd)


@pytest.fixture
def changes(tmp_path: Path) -> Iterator[Changes]:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/file").write_text("")
    (tmp_path / "dir/link").symlink_to("x")
    os.mkfifo(tmp_path / "pipe")
    found = Changes(tmp_path)
    yield found
    found.close()


def attribute(path: Path) -> bytes | None:
    try:
        return os.getxattr(path, OWNER_ATTRIBUTE)
    except OSError:
        return None


@given(st.dictionaries(st.binary(min_size=1), st.tuples(st.integers(0, 2**32 - 2), st.integers(0, 2**32 - 2))))
def test_records_survive_their_file(owners: dict[bytes, tuple[int, int]]) -> None:
    assert ownership.parse_records(ownership.format_records(owners)) == owners


@pytest.mark.parametrize("content", [b"x\n", b"[1]\n", b'["a", "b", "c"]\n', b"{}\n"])
def test_damaged_records_are_an_error(content: bytes) -> None:
    with pytest.raises(StateError):
        ownership.parse_records(content)


def test_a_higher_layer_that_replaces_an_entry_hides_its_record() -> None:
    layers = [
        ({b"a": (1, 1), b"b": (2, 2), b"c": (3, 3)}, lambda _path: False),
        ({b"c": (4, 4)}, lambda path: path in (b"b", b"c")),
    ]
    assert ownership.merge_records(layers) == {b"a": (1, 1), b"c": (4, 4)}


@pytest.mark.parametrize(
    ("value", "ids"), [(b"1:2", (1, 2)), (b"1", None), (b"-1:2", None), (b"a:b", None), (b"1:2:3", None)]
)
def test_attributes_that_are_no_owner_are_no_owner(value: bytes, ids: tuple[int, int] | None) -> None:
    assert ownership.parse_owner(value) == ids


def test_owners_are_recorded_where_they_cannot_be_set(changes: Changes) -> None:
    owners = Owners("single")
    path = changes.top / "dir/file"
    fd = os.open(path, os.O_RDONLY)
    owners.set_fd(fd, 3, 4)
    owners.set_at(changes.root_fd, b"pipe", b"pipe", 5, 6)
    assert (attribute(path), owners.recorded) == (b"3:4", {b"pipe": (5, 6)})
    owners.set_fd(fd, 0, 0)
    owners.set_at(changes.root_fd, b"pipe", b"pipe", 0, 0)
    assert (attribute(path), owners.recorded) == (None, {})
    os.close(fd)


def test_what_a_user_made_and_gave_to_nobody_is_his(changes: Changes, tmp_path_factory: pytest.TempPathFactory) -> None:
    parent = tmp_path_factory.mktemp("parent")
    (parent / "dir").mkdir()
    (parent / "pipe").write_text("was a file")
    parent_fd = os.open(parent, os.O_PATH)
    os.setxattr(changes.top / "dir/file", OWNER_ATTRIBUTE, b"9:9")
    assert default_owner(changes, parent_fd, 5, 6) == {b"dir/link": (5, 6), b"pipe": (5, 6)}
    assert attribute(changes.top / "dir") is None  # was there before
    assert attribute(changes.top / "dir/file") == b"9:9"  # the step gave it away
    assert default_owner(changes, None, 5, 6) == {b"dir/link": (5, 6), b"pipe": (5, 6)}
    assert attribute(changes.top / "dir") == b"5:6"
    os.close(parent_fd)


def test_records_of_inodes_become_records_of_paths(changes: Changes) -> None:
    link = (changes.top / "dir/link").lstat()
    file = (changes.top / "dir/file").lstat()
    records = [
        OwnerRecord(link.st_dev, link.st_ino, 1, 1),
        OwnerRecord(link.st_dev, link.st_ino, 2, 3),
        OwnerRecord(file.st_dev, file.st_ino, 4, 4),
        OwnerRecord(link.st_dev + 1, link.st_ino, 5, 6),  # of another file system, which gave it the same number
    ]
    assert resolve(records, changes) == resolve(records, changes, changes.root_fd) == {b"dir/link": (2, 3)}


class NoChanges(Changes):
    """Nothing, of a tree that a step saw."""

    def __iter__(self) -> Iterator[tuple[bytes, os.stat_result | None]]:
        return iter(())


def test_a_link_that_only_got_an_owner_is_found_in_the_tree(changes: Changes) -> None:
    infos = [(changes.top / name).lstat() for name in ("dir/link", "pipe", "dir/file")]
    records = [OwnerRecord(info.st_dev, info.st_ino, 7, 8) for info in infos]
    unchanged = NoChanges(changes.top)
    assert resolve(records, unchanged, changes.root_fd) == {b"dir/link": (7, 8), b"pipe": (7, 8)}
    assert resolve(records, unchanged) == {}
    unchanged.close()
