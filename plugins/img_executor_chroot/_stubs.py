"""Stand-ins in the step's tree for directories outside of it: with the same names in them, so that a step can list them.

They lie in the step's own /proc, which is an empty directory otherwise, and are directories of the tree like all others: nothing leads out
of them. What a step looks up in one goes to the supervisor again.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from img_core.files import fs

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Stubs"]


class Stubs:
    """The stand-ins of one step, below the descriptor *root* of its tree, which is called *top* here."""

    def __init__(self, root: int, top: bytes) -> None:
        self._root = root
        self._top = top
        self._names: dict[bytes, bytes] = {}  # directory outside -> name in the tree
        self._meant = {top + b"/proc": b"/proc", top + b"/sys": b"/sys"}
        self._links = 0
        self.used = False  #: whether a step may be in one of them

    def meaning(self, directory: bytes) -> bytes | None:
        """Return what the *directory* of a process (as a link of /proc shows it here) stands for, if it is one of these."""
        for here, meant in reversed(self._meant.items()):  # the newest first: these lie in the oldest
            if directory == here or directory.startswith(here + b"/"):
                return meant + directory[len(here) :]
        return None

    def open(self, meant: bytes, entries: Iterable[tuple[bytes, int]], flags: int) -> int:
        """Return a descriptor of the stand-in for *meant*, with *entries* (name and mode) of now."""
        name = self._names.get(meant)
        if name is None:
            name = b"proc/.%d" % len(self._names)
            fs.mkdir(name, 0o555, dir_fd=self._root)
            self._names[meant] = name
            self._meant[self._top + b"/" + name] = meant
        self.used = True
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._root)
        _fill(fd, dict(entries))
        if flags & os.O_PATH:
            os.close(fd)
            return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._root)
        return fd

    def link(self, text: bytes) -> bytes:
        """Make a link to *text* (of the tree); return its path, no longer than ``/proc/self/exe``, and with the same last name."""
        name = b"proc/%d" % self._links
        self._links += 1
        fs.mkdir(name, 0o555, dir_fd=self._root)
        os.symlink(text, name + b"/exe", dir_fd=self._root)
        return b"/" + name + b"/exe"

    def path(self, meant: bytes) -> bytes:
        """Return the path in the tree of the stand-in for *meant*, which was opened before."""
        return b"/" + self._names[meant]


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
