"""Directories that no mistyped destination may cost: whatever replaces or empties a directory of the user asks here first."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from img_core.spec.errors import UsageError
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["check_not_mounted", "check_not_vital"]


def check_not_vital(path: str, state: str, environment: Mapping[str, str]) -> None:
    """Raise UsageError if *path* is, or has in it, the working directory, the home directory or the *state* directory.

    Nothing in the state directory may be named, either. Directories are compared by what they are, not by how they are called.
    """
    try:
        named = os.stat(path)
    except OSError:
        return  # nothing is there that could be lost
    places = {"the working directory": os.curdir, "the home directory": environment.get("HOME", ""), "the state": state}
    for what, place in places.items():
        if place and any(os.path.samestat(named, above) for above in _with_parents(place)):
            raise UsageError(f"`{show(path)}` is not replaced: {what} is there", hint="choose another directory")
    if os.path.exists(state) and any(os.path.samestat(os.stat(state), above) for above in _with_parents(path)):
        raise UsageError(f"`{show(path)}` is not replaced: it belongs to the state", hint="choose another directory")


def check_not_mounted(path: str) -> None:
    """Raise UsageError if something is mounted at *path* or below."""
    place = os.path.realpath(path)
    for point in _mount_points():
        if point == place or point.startswith(place.rstrip("/") + "/"):
            where = "it is a mount point" if point == place else f"`{show(point)}` is a mount point"
            raise UsageError(f"`{show(path)}` is not replaced: {where}", hint="choose another directory, or unmount it")


def _with_parents(path: str) -> Iterator[os.stat_result]:
    """Give the states of *path* and of all directories above it, as far as they can be looked at."""
    place = os.path.realpath(path)
    while True:
        try:
            yield os.stat(place)
        except OSError:
            pass
        if place == "/":
            return
        place = os.path.dirname(place)


def _mount_points() -> Iterator[str]:
    with open("/proc/self/mountinfo", "rb") as table:  # see proc_pid_mountinfo(5): the fifth field, with octal escapes
        for line in table:
            yield os.fsdecode(line.split(b" ", 5)[4].decode("unicode_escape").encode("latin-1"))
