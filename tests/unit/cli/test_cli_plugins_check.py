"""``img plugins check`` where the suites cannot be run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
