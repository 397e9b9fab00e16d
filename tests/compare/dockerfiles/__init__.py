"""The Dockerfiles of the comparison: one module for each group, ``CASES`` maps a name in the group to a `Case`.

To add one, add it to the `CASES` of its group.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from ._case import Case, write_files
from .refused import REFUSED

__all__ = ["CASES", "REFUSED", "Case", "write_files"]

GROUPS = (
    "config",
    "arguments",
    "text",
    "heredocs",
    "copy",
    "add",
    "run",
    "users",
    "stages",
    "onbuild",
    "ignore",
    "mounts",
    "applications",
    "random_steps",
    "random_copies",
)


def _all() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for group in GROUPS:
        cases: Mapping[str, Case] = import_module(f"{__name__}.{group}").CASES
        found |= {f"{group}/{name}": case for name, case in cases.items()}
    return found


#: All of them, by ``group/name``.
CASES = _all()
