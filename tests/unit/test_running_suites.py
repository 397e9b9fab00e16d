"""Suites that a program runs: what they leave behind."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from img_core.testing.processes import run_forked
from img_core.testing.running import run_suites


class Untidy:
    """A suite whose processes remove nothing."""

    def test_it_leaves_files(self) -> None:
        tempfile.mkdtemp()
        run_forked(lambda: tempfile.mkdtemp())
        subprocess.run(["mktemp"], check=True, capture_output=True)


def test_temporary_files_of_a_suite_and_its_processes_go_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert [outcome.status for outcome in run_suites(lambda: {"TestUntidy": Untidy})] == ["passed"]
    assert os.listdir(tmp_path) == []
