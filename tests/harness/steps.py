"""Reads plain progress: which steps a build had, and how each of them ended."""

from __future__ import annotations

import re

__all__ = ["made", "statuses"]


def statuses(log: str) -> dict[str, str]:
    """Return the name of each step with how it ended."""
    names = dict(re.findall(r"^#(\d+) (\[.*)$", log, re.MULTILINE))
    ends = dict(re.findall(r"^#(\d+) (CACHED|DONE|ERROR)", log, re.MULTILINE))
    return {name: ends.get(number, "") for number, name in names.items() if not name.startswith("[internal]")}


def made(log: str) -> list[str]:
    """Return the steps that were not cached, bases left out."""
    return sorted(name for name, end in statuses(log).items() if end != "CACHED" and "FROM " not in name)
