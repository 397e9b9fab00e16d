"""Stand-ins in the step's tree for directories outside of it: with the same names in them, so that a step can list them.

They lie in the step's own /proc, which is an empty directory otherwise, and are directories of the tree like all others: nothing leads out
of them. What a step looks up in one goes to the supervisor again.

The step may rename, remove and replace them, and /proc itself, at any moment. So all is done by descriptors, one name at a time, without
following links: what it plants there is never followed by us, who have another root.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from img_core.files import fs

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Stubs"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Stubs:
    """The stand-ins of one step, whose tree is the descriptor *root* and called *top* here. Make it before the step runs.

    *systems* are those of its /proc and /sys at which no mount of the step is.
    """

    def __init__(self, root: int, top: bytes, systems: Iterable[bytes]) -> None:
        self._top = top
        self._proc = os.open("proc", _DIRECTORY, dir_fd=root)
        for system in systems:
            _mark(system, root)
        self._names: dict[bytes, bytes] = {}  # directory outside -> name in /proc of the tree
        self._meant = {top + b"/proc": b"/proc", top + b"/sys": b"/sys"}
        self._links = 0
        self.used = False  #: whether a step may be in one of them

    def meaning(self, directory: bytes) -> bytes | None:
        """Return what the *directory* of a process (as a link of /proc shows it here) stands for, if it is one of these."""
        below = b""
        while directory:
            meant = self._meant.get(directory)
            if meant is not None:
                return meant + below
            directory, _, last = directory.rpartition(b"/")
            below = b"/" + last + below
        return None

    def open(self, meant: bytes, entries: Iterable[tuple[bytes, int]], flags: int) -> int:
        """Return a descriptor of the stand-in for *meant*, with *entries* (name and mode) of now."""
        name = self._names.get(meant)
        if name is None:
            name = b".%d" % len(self._names)
            fs.mkdir(name, 0o555, dir_fd=self._proc)
            self._names[meant] = name
            self._meant[self._top + b"/proc/" + name] = meant
        self.used = True
        fd = os.open(name, _DIRECTORY, dir_fd=self._proc)
        _fill(fd, dict(entries))
        if flags & os.O_PATH:
            try:
                return os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
            finally:
                os.close(fd)
        return fd

    def link(self, text: bytes) -> bytes:
        """Make a link to *text* (of the tree); return its path, no longer than ``/proc/self/exe``, and with the same last name."""
        name = b"%d" % self._links
        self._links += 1
        fs.mkdir(name, 0o555, dir_fd=self._proc)
        fd = os.open(name, _DIRECTORY, dir_fd=self._proc)
        try:
            os.symlink(text, b"exe", dir_fd=fd)
        finally:
            os.close(fd)
        return b"/proc/" + name + b"/exe"

    def path(self, meant: bytes) -> bytes:
        """Return the path in the tree of the stand-in for *meant*, which was opened before."""
        return b"/proc/" + self._names[meant]


def _mark(system: bytes, root: int) -> None:
    """Make the names in the directory *system*, as it is outside, links to themselves in that of the tree: see `_links`."""
    fd = os.open(system[1:], _DIRECTORY, dir_fd=root)
    try:
        for name in os.listdir(system):
            if not name.isdigit():
                os.symlink(name, name, dir_fd=fd)
    finally:
        os.close(fd)


def _fill(fd: int, wanted: dict[bytes, int]) -> None:
    """Make the entries of the directory *fd* those that are *wanted*."""
    present = {os.fsencode(name) for name in os.listdir(fd)}
    for name in present - wanted.keys():
        fs.remove_tree(name, dir_fd=fd)
    for name in wanted.keys() - present:
        if stat.S_ISDIR(wanted[name]):
            fs.mkdir(name, 0o555, dir_fd=fd)
        elif stat.S_ISLNK(wanted[name]):
            os.symlink(b"?", name, dir_fd=fd)
        else:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444, dir_fd=fd))
