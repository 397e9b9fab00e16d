"""The script that writes the manual pages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "contrib/docs/manual.py"


@pytest.mark.parametrize(("word", "status"), [("--help", 0), ("--no-such", 2)])
def test_an_option_is_no_directory_to_write_to(tmp_path: Path, word: str, status: int) -> None:
    done = subprocess.run([sys.executable, SCRIPT, word], cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert (done.returncode, list(tmp_path.iterdir())) == (status, [])
