"""What the host offers to tests; what it lacks becomes a skip that names it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["AS_ROOT", "copy_program", "fixture_file", "need", "tool_path"]

AS_ROOT = os.getuid() == 0

#: Debian keeps some programs where ordinary users do not look.
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def tool_path() -> str:
    """Return the PATH that tests give to programs."""
    return _PATH


def need(*programs: str) -> None:
    """Skip the test unless all *programs* are installed."""
    missing = [program for program in programs if shutil.which(program, path=_PATH) is None]
    if missing:
        pytest.skip("this host lacks " + ", ".join(f"`{program}`" for program in missing))


def fixture_file(name: str) -> Path:
    """Return one of the files that ``.ci/fixtures`` makes as root, or skip the test."""
    directory = os.environ.get("IMG_TEST_FIXTURES")
    if not directory:
        pytest.skip(f"`IMG_TEST_FIXTURES` names no directory with `{name}` (see .ci/fixtures)")
    path = Path(directory) / name
    if not path.exists():
        pytest.skip(f"{path} is missing (see .ci/fixtures)")
    return path


def copy_program(name: str, directory: Path) -> None:
    """Copy a program of this host with its libraries, and their loader as ``loader``."""
    directory.mkdir()
    program = shutil.which(name)
    assert program is not None
    shutil.copy(program, directory / name)
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(/\S+) \(0x", listed):
        shutil.copy(library, directory / ("loader" if "/ld-" in library else Path(library).name))
