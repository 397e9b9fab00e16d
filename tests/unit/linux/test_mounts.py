"""File systems that are made, and what lists of mounts show of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from img_core.linux import mounts, syscalls
from img_core.testing.namespaces import run_inside

pytestmark = pytest.mark.rootless


@pytest.mark.parametrize(("options", "shown"), [([], "tmpfs"), ([("source", "mine"), ("mode", "700")], "mine")])
def test_a_file_system_has_one_source(tmp_path: Path, options: list[tuple[str, str]], shown: str) -> None:
    def body() -> None:
        syscalls.move_mount(mounts.create("tmpfs", options), os.fspath(tmp_path))
        rows = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        assert [row[row.index("-") + 2] for row in rows if row[4] == os.fspath(tmp_path)] == [shown]

    run_inside("single", body)
