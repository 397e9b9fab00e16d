"""The files of this repository, without asking git (a clean export has none)."""

from __future__ import annotations

import os
from fnmatch import fnmatch
from pathlib import Path

__all__ = ["ROOT", "files"]

ROOT = Path(__file__).resolve().parents[2]
#: Directories that work leaves behind; hidden ones are passed over, except those that belong to the repository.
_LEFT = {"__pycache__", "build", "dist", "node_modules"}
_HIDDEN = {".ci", ".github"}


def files(*patterns: str) -> list[Path]:
    """Return the files whose names match one of *patterns*, sorted."""
    found: list[Path] = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [
            name
            for name in folders
            if name not in _LEFT and (name[0] != "." or name in _HIDDEN) and not name.endswith(".egg-info")
        ]
        found += [Path(folder, name) for name in names if any(fnmatch(name, pattern) for pattern in patterns)]
    return sorted(found)
