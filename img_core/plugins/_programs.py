"""Plugins that are programs: ``img-KIND-NAME`` on PATH, in whatever language. They are looked up by name, when somebody uses that name.

Relative entries of PATH and those that everybody may write into are passed over, so that nothing of a build context is ever run by chance.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["PROGRAM_KINDS", "find_program", "is_program", "programs"]

#: The kinds whose plugins may be programs.
PROGRAM_KINDS = ("source", "exporter", "credentials", "secret", "listener")

_PREFIX = "img-"
_NAME = re.compile(r"[a-z0-9][a-z0-9._+-]*")
#: (kind, name, path)
Row = tuple[str, str, str]


def is_program(module: str) -> bool:
    """Tell whether what a plugin is loaded from is a program: `_files` have names that begin with a kind."""
    return module.startswith("/") and os.path.basename(module).startswith(_PREFIX)


def find_program(kind: str, name: str, environment: Mapping[str, str]) -> str | None:
    """Return the path of the program that is the plugin *name*, the first one on PATH; None if there is none."""
    if kind not in PROGRAM_KINDS or not _NAME.fullmatch(name):
        return None
    candidates = (os.path.join(directory, f"{_PREFIX}{kind}-{name}") for directory in _directories(environment))
    return next(filter(_is_executable, candidates), None)


def programs(environment: Mapping[str, str]) -> list[Row]:
    """Return all programs on PATH that are plugins, the first one of each name. Reads its directories; runs none."""
    found: dict[tuple[str, str], str] = {}
    for directory in _directories(environment):
        for file in _names(directory):
            kind, _, name = file.removeprefix(_PREFIX).partition("-")
            path = os.path.join(directory, file)
            if kind in PROGRAM_KINDS and _NAME.fullmatch(name) and (kind, name) not in found and _is_executable(path):
                found[kind, name] = path
    return [(kind, name, path) for (kind, name), path in found.items()]


def _directories(environment: Mapping[str, str]) -> Iterator[str]:
    for directory in dict.fromkeys(environment.get("PATH", "").split(os.pathsep)):
        if os.path.isabs(directory):
            try:
                mode = os.stat(directory).st_mode
            except OSError:
                continue
            if not mode & stat.S_IWOTH:
                yield directory


def _names(directory: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if name.startswith(_PREFIX))
    except OSError:
        return []


def _is_executable(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and not mode & stat.S_IWOTH and os.access(path, os.X_OK)
