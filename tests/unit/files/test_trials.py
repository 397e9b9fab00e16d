"""A trial that worked is remembered for these surroundings only."""

from __future__ import annotations

from pathlib import Path

import pytest

from img_core.files import trials
from img_core.files.trials import Trial


def test_what_worked_is_known_until_something_around_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "boot_id", lambda: "this boot")
    assert not Trial(str(tmp_path), "overlay full").worked_before()
    Trial(str(tmp_path), "overlay full").worked()
    assert Trial(str(tmp_path), "overlay full").worked_before()
    assert not Trial(str(tmp_path), "overlay single").worked_before()
    monkeypatch.setattr(trials, "boot_id", lambda: "next boot")
    assert not Trial(str(tmp_path), "overlay full").worked_before()


def test_nothing_is_remembered_where_the_boot_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "boot_id", lambda: None)
    Trial(str(tmp_path), "overlay full").worked()
    assert not Trial(str(tmp_path), "overlay full").worked_before()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"0" * 64])
def test_a_damaged_note_counts_for_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "worked-overlay").write_bytes(content)
    assert not Trial(str(tmp_path), "overlay").worked_before()
