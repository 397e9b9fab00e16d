"""Programs on PATH that may be run because of their names: who looks for them so has to trust the directory and the file.

Relative entries of PATH and those that everybody may write into are passed over, so that nothing of a build context is ever run by chance.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["program_on_path", "programs_on_path"]


def program_on_path(name: str, environment: Mapping[str, str]) -> str | None:
    """Return the path of the program *name*, the first one on the PATH of *environment*; None if there is none."""
    candidates = (os.path.join(directory, name) for directory in _directories(environment))
    return next(filter(_is_executable, candidates), None)


def programs_on_path(prefix: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Give the paths of the programs whose names begin with *prefix*, in the order of PATH, also those of one name. Runs none."""
    for directory in _directories(environment):
        try:
            names = sorted(name for name in os.listdir(directory) if name.startswith(prefix))
        except OSError:
            continue
        yield from filter(_is_executable, (os.path.join(directory, name) for name in names))


def _directories(environment: Mapping[str, str]) -> Iterator[str]:
    for directory in dict.fromkeys(environment.get("PATH", "").split(os.pathsep)):
        if os.path.isabs(directory):
            try:
                mode = os.stat(directory).st_mode
            except OSError:
                continue
            if not mode & stat.S_IWOTH:
                yield directory


def _is_executable(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and not mode & stat.S_IWOTH and os.access(path, os.X_OK)
