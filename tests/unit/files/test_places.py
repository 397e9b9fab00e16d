"""Notes that only save time: whole or not there, and of nobody else."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from img_core.files.places import base_directory, cache_directory, leave_note, own_note


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond *size* bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_note_is_left_whole_or_not_at_all(tmp_path: Path) -> None:
    note = tmp_path / "made" / "note"
    assert leave_note(str(note), b"first")
    with largest_file(100):
        assert not leave_note(str(note), b"x" * 1000)
    assert own_note(str(note)) == b"first"
    assert os.listdir(note.parent) == ["note"], "nothing of the other one is left"
    assert (note.stat().st_mode & 0o777, note.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_what_a_killed_process_of_the_same_number_left_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note, victim = tmp_path / "note", tmp_path / "victim"
    victim.write_text("kept")
    monkeypatch.setattr(os, "urandom", lambda size: bytes(size))
    (tmp_path / f"note.{os.getpid()}").symlink_to(victim)
    assert leave_note(str(note), b"mine")
    assert (note.read_bytes(), victim.read_text()) == (b"mine", "kept")
    (tmp_path / "note.00000000").symlink_to(victim)
    assert not leave_note(str(note), b"other"), "a link is not followed"
    assert (note.read_bytes(), victim.read_text()) == (b"mine", "kept")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory below a link, with a note; what is called ``theirs`` is of another user."""
    usual = os.lstat

    def lstat(path: str) -> os.stat_result:
        found = usual(path)
        values = [*found[:4], found.st_uid + ("theirs" in os.path.basename(path)), *found[5:]]
        return os.stat_result(values)

    monkeypatch.setattr(os, "lstat", lstat)
    (tmp_path / "large").mkdir()
    return Path(cache_directory({"XDG_CACHE_HOME": str(tmp_path / ".cache")}))


def note_in(directory: Path) -> str:
    note = str(directory / "note")
    assert leave_note(note, b"text")
    return note


@pytest.mark.parametrize("link", ["ours", "theirs"])
@pytest.mark.parametrize("below", ["", "kind"])
def test_a_note_counts_below_links_of_our_own_alone(link: str, below: str, cache: Path) -> None:
    place = cache.parent.parent
    (place / link).symlink_to(place / "large")
    own = Path(cache_directory({"XDG_CACHE_HOME": str(place / link)}))
    assert own_note(note_in(own / below)) == (b"text" if link == "ours" else b"")


def test_a_note_where_others_may_put_it_is_none(cache: Path) -> None:
    note = note_in(cache / "kind")
    assert own_note(note) == b"text"
    (cache / "kind").chmod(0o770)
    assert own_note(note) == b""
    (cache / "kind").chmod(0o700)
    cache.chmod(0o775)  # as it is made with the umask of many: a link in there would be theirs
    assert own_note(note) == b"text"
    os.chmod(note, 0o620)
    assert own_note(note) == b""


@pytest.mark.parametrize("kind", ["a link", "a pipe", "a directory"])
def test_what_is_no_file_is_no_note(kind: str, cache: Path) -> None:
    other, note = note_in(cache / "other"), str(cache / "kind" / "note")
    os.mkdir(cache / "kind", 0o700)
    if kind == "a link":
        os.symlink(other, note)
    elif kind == "a pipe":
        os.mkfifo(note, 0o600)  # which nobody writes to
    else:
        os.mkdir(note, 0o700)
    assert own_note(note) == b""


@pytest.mark.parametrize(
    ("age", "seconds", "counts"),
    [(0, None, True), (5000, None, True), (-5000, None, True), (0, 100, True), (99, 100, True), (101, 100, False), (-50, 100, False)],
)  # fmt: skip
def test_a_note_counts_as_long_as_asked(age: float, seconds: float | None, counts: bool, tmp_path: Path) -> None:
    note = tmp_path / "note"
    assert leave_note(str(note), b"text")
    os.utime(note, (time.time(), time.time() - age))
    assert own_note(str(note), seconds) == (b"text" if counts else b"")


def test_a_note_of_somebody_else_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "note"
    leave_note(str(note), b"text")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert own_note(str(note)) == b""


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({"XDG_CACHE_HOME": "/c", "HOME": "/h"}, "/c"),
        ({"XDG_CACHE_HOME": "c", "HOME": "/h"}, "/h/.cache"),
        ({"HOME": "/h"}, "/h/.cache"),
    ],
)
def test_a_place_is_absolute(environment: dict[str, str], found: str) -> None:
    assert base_directory(environment, "XDG_CACHE_HOME", ".cache") == found
