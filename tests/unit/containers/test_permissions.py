"""What a step is given permissions for, which its files lack, is no change of them: only what a step does itself is in a layer."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from img_core.files.fs import opened_directory
from img_lib_containers.permissions import Permissions
from img_lib_layers.changes import same_entry
from img_lib_layers.clone import clone_tree
from img_snapshotter_moving._index import Facts, TreeIndex, look, parse

ENTRY = b"entry"


def changed(*modes: int) -> Callable[[Permissions, bytes], None]:
    """Return what changes a mode as a step does: the kernel does what `Permissions` leaves to it."""

    def work(permissions: Permissions, name: bytes) -> None:
        for mode in modes:
            if not permissions.change(name, mode):
                os.chmod(name, mode)

    return work


def needed(wanted: int, *modes: int) -> Callable[[Permissions, bytes], None]:
    def work(permissions: Permissions, name: bytes) -> None:
        permissions.need(name, wanted)
        changed(*modes)(permissions, name)

    return work


#: what -> is it a directory, its mode, what a step does, whether the layer has it
ROWS: dict[str, tuple[bool, int, Callable[[Permissions, bytes], None], bool]] = {
    "a file is opened for writing": (False, 0o444, needed(0o200), False),
    "a closed file is read": (False, 0, needed(0o400), False),
    "a closed file is opened for writing": (False, 0o040, needed(0o600), False),
    "a file is lifted and gets its mode": (False, 0o444, needed(0o200, 0o444), False),
    "a file is lifted and gets another mode": (False, 0o444, needed(0o200, 0o644), True),
    "a file is closed and opened": (False, 0o644, changed(0, 0o644), False),
    "a file is opened and closed": (False, 0o020, changed(0o644, 0o020), False),
    "a file is closed": (False, 0o644, changed(0), True),
    "a closed file is opened as far as it was on the disk": (False, 0o040, changed(0o440), True),
    "a closed directory is entered": (True, 0o050, needed(0o700), False),
    "a directory is closed and opened": (True, 0o755, changed(0, 0o755), False),
    "a directory is closed": (True, 0o755, changed(0o555), True),
    "a directory is opened": (True, 0o555, changed(0o755), True),
    "a closed directory gets another mode": (True, 0o500, changed(0o555), True),
}


@pytest.mark.parametrize("what", ROWS)
def test_only_what_a_step_does_itself_is_a_change(tmp_path: Path, what: str) -> None:
    directory, mode, work, expected = ROWS[what]
    permissions = Permissions(os.getuid(), set())
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    entry = before / ENTRY.decode()
    if directory:
        entry.mkdir()
    else:
        entry.write_text("content")
    changed(mode)(permissions, os.fsencode(entry))
    with opened_directory(str(before)) as old, opened_directory(str(after)) as new:
        clone_tree(old, new)
        work(permissions, os.fsencode(after) + b"/" + ENTRY)
        first, second = (os.stat(ENTRY, dir_fd=fd) for fd in (old, new))
        assert same_entry(ENTRY, new, second, old, first) is not expected
        assert _facts(old).alike(_facts(new)) is not expected
        os.chmod(ENTRY, 0o700, dir_fd=new)


def _facts(root_fd: int) -> Facts:
    return parse(look(root_fd, TreeIndex()).index.directories[b""][ENTRY])
