"""``img plugins check`` where no suite can be run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

Run = Any  # the fixture of conftest.py


def test_without_pytest_it_says_what_to_install(run: Run, tmp_path: Path) -> None:
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow/pytest.py").write_text("raise ImportError('No module named `pytest`')\n")
    from cli_support import environment

    path = f"{tmp_path / 'shadow'}:{environment(tmp_path)['PYTHONPATH']}"
    done = run("plugins", "check", "exporter:tar", PYTHONPATH=path)
    assert done.returncode == 7
    assert "the contract suites cannot be run: No module named `pytest`" in done.stderr
    assert "hint: `pip install 'img-builder[testing]'`" in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "message", "hint"),
    [
        (["check", "exporter:tra"], 1, 'plugin "exporter:tra": not found', "did you mean `exporter:tar`?"),
        (["check", "dockerconfg"], 1, 'plugin "dockerconfg": not found', "did you mean `dockerconfig`?"),
        (["info", "exporter:tra"], 1, 'plugin "exporter:tra": not found', "did you mean `exporter:tar`?"),
        (["enable", "exporter:tra"], 1, 'plugin "exporter:tra": not found', "did you mean `exporter:tar`?"),
        (["check", "nothing-like-it"], 1, "not found", "`img plugins ls` shows what is installed"),
        (["check", "exporter:tar", "-k", "no such"], 2, "`no such` is no expression over names of tests", "e.g. `kill or disk`"),
        (["check", "exporter:tar", "-k", "zzz"], 2, "no test matches `-k zzz`", ""),
    ],
)  # fmt: skip
def test_what_is_mistyped_is_told(run: Run, words: list[str], status: int, message: str, hint: str) -> None:
    done = run("plugins", *words)
    assert (done.returncode, done.stdout) == (status, "")
    assert message in done.stderr
    assert hint in done.stderr
