"""Which files are known to have no note (`OwnerRecords.plain`): whoever notes anything has them looked at again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from img_lib_containers.fake_root import FakeRecords

KEEP = -1


def _give(name: str, records: FakeRecords) -> None:
    records.change(name, 3, KEEP)


def _give_back(name: str, records: FakeRecords) -> None:
    records.change(name, 0, 0)


def _own(name: str, records: FakeRecords) -> None:
    records.own(name, (3, 4), 0o644)


def _close(name: str, records: FakeRecords) -> None:
    records.permissions.change(name, 0)


def _own_closed(name: str, records: FakeRecords) -> None:
    records.own(name, (0, 0), 0o044)


def _keep(name: str, records: FakeRecords) -> None:
    os.chmod(name, 0o4755)
    records.permissions.keep_set_id(name)


#: what is noted of what -> is there a note
ROWS: dict[str, tuple[str, Callable[[str, FakeRecords], None], bool]] = {
    "a file given away": ("file", _give, True),
    "a directory given away": ("directory", _give, True),
    "a link given away": ("link", _give, True),
    "a fifo given away": ("fifo", _give, True),
    "a new file of another user": ("file", _own, True),
    "a new link of another user": ("link", _own, True),
    "a file closed": ("file", _close, True),
    "a directory closed": ("directory", _close, True),
    "a new file that is closed": ("file", _own_closed, True),
    "a program that keeps its bits": ("file", _keep, True),
    "a file that is root's": ("file", _give_back, False),
    "a link that is root's": ("link", _give_back, False),
}


@pytest.mark.parametrize("case", ROWS)
def test_a_note_has_all_files_looked_at_again(tmp_path: Path, case: str) -> None:
    what, note, expected = ROWS[case]
    (tmp_path / "file").write_text("")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    fd = os.open(tmp_path / what, os.O_PATH | os.O_NOFOLLOW)
    records = FakeRecords()
    records.plain.add((1, 2))
    note(f"/proc/self/fd/{fd}", records)
    os.close(fd)
    assert (not records.plain) is expected


def test_links_of_root_do_not_count_as_owned_by_others(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    fd = os.open(tmp_path / "link", os.O_PATH | os.O_NOFOLLOW)
    records, name = FakeRecords(), f"/proc/self/fd/{fd}"
    records.change(name, 0, 0)
    assert (records.others, [*records.inodes.values()]) == (False, [(0, 0)])
    assert records.is_plain((0, 0), 0o777, "link", str(tmp_path))
    records.change(name, 3, KEEP)
    records.change(name, 0, KEEP)
    assert records.others, "the next link may have the number of one that was another user's"
    assert not records.is_plain((0, 0), 0o777, "link", str(tmp_path))
    os.close(fd)
