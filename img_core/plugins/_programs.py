"""Plugins that are programs: ``img-KIND-NAME`` on PATH, in whatever language. They are looked up by name, when somebody uses that name."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from img_core.files.on_path import program_on_path, programs_on_path

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    return program_on_path(f"{_PREFIX}{kind}-{name}", environment)


def programs(environment: Mapping[str, str]) -> list[Row]:
    """Return all programs on PATH that are plugins, the first one of each name. Reads its directories; runs none."""
    found: dict[tuple[str, str], str] = {}
    for path in programs_on_path(_PREFIX, environment):
        kind, _, name = os.path.basename(path).removeprefix(_PREFIX).partition("-")
        if kind in PROGRAM_KINDS and _NAME.fullmatch(name):
            found.setdefault((kind, name), path)
    return [(kind, name, path) for (kind, name), path in found.items()]
