"""The logs of builds: what they take is bounded, and those that are being written stay."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from img_core.files import logs
from img_core.files.logs import LogFile, list_logs


def leave(state: Path, *, age: float = 0.0, size: int = 10) -> str:
    """Leave a log behind that is *age* seconds old; return its id."""
    directory = state / logs.DIRECTORY
    directory.mkdir(exist_ok=True)
    identifier = os.urandom(6).hex()
    (directory / f"{int((time.time() - age) * 1000):013d}-{identifier}.jsonl").write_bytes(b"x" * size)
    return identifier


def ids(state: Path) -> list[str]:
    return [log.id for log in list_logs(str(state))]


def test_logs_are_listed_newest_first_and_nothing_else_is(tmp_path: Path) -> None:
    old, young = leave(tmp_path, age=100), leave(tmp_path, age=1)
    (tmp_path / logs.DIRECTORY / "README").write_text("")
    assert ids(tmp_path) == [young, old]
    log = LogFile(str(tmp_path))
    log.append(b"line\n")
    log.close()
    assert ids(tmp_path) == [log.id, young, old]
    assert Path(log.path).read_bytes() == b"line\n"
    assert Path(log.path).stat().st_mode & 0o777 == 0o600


def test_no_directory_has_no_logs(tmp_path: Path) -> None:
    assert ids(tmp_path) == []


def test_only_so_many_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_MOST", 5)
    left = [leave(tmp_path, age=100 - number) for number in range(7)]
    new = LogFile(str(tmp_path))
    assert ids(tmp_path) == [new.id, *reversed(left[-4:])]
    new.close()


def test_old_ones_go(tmp_path: Path) -> None:
    leave(tmp_path, age=31 * 86400)
    kept = leave(tmp_path, age=29 * 86400)
    new = LogFile(str(tmp_path))
    assert ids(tmp_path) == [new.id, kept]
    new.close()


def test_a_large_one_makes_room_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_TOTAL", 300_000)
    _, second, third = (leave(tmp_path, age=100 - number, size=60_000) for number in range(3))
    new = LogFile(str(tmp_path))
    new.append(b"x" * 150_000)
    assert len(ids(tmp_path)) == 4
    new.close()
    assert ids(tmp_path) == [new.id, third, second]


def test_what_is_being_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_MOST", 1)
    first = LogFile(str(tmp_path))
    second = LogFile(str(tmp_path))
    assert sorted(ids(tmp_path)) == sorted([first.id, second.id])
    first.close()
    third = LogFile(str(tmp_path))
    assert sorted(ids(tmp_path)) == sorted([second.id, third.id])
    second.close()
    third.close()


def test_the_numbers_bound_the_whole() -> None:
    """However small each log is: those that are too small to be counted take less than all may."""
    assert logs._MOST * logs._LARGE <= logs._TOTAL
