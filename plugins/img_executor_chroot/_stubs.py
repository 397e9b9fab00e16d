"""Stand-ins in the step's tree for directories outside of it: with the same names in them, so that a step can list them.

They lie in the step's own /proc, which is an empty directory otherwise, and are directories of the tree like all others: nothing leads out
of them. What a step looks up in one goes to the supervisor again.

The step may rename, remove and replace them, and /proc itself, at any moment. So all is done by descriptors, one name at a time, without
following links: what it plants there is never followed by us, who have another root.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from img_core.files import fs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Stubs"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = b".new"


class Stubs:
    """The stand-ins of one step, whose tree is the descriptor *root* and called *top* here. Make it before the step runs.

    *systems* are those of its /proc and /sys at which no mount of the step is.
    """

    def __init__(self, root: int, top: bytes, systems: Iterable[bytes]) -> None:
        self._top = top
        self._proc = os.open("proc", _DIRECTORY, dir_fd=root)
        self._systems = {system[1:]: _mark(system, root) for system in systems}
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

    def link(self, text: bytes, name: bytes = b"exe") -> bytes:
        """Make a link to *text* (of the tree); return its path, no longer than ``/proc/self/exe``, and with the same last *name*."""
        directory = b"%d" % self._links
        self._links += 1
        fs.mkdir(directory, 0o555, dir_fd=self._proc)
        fd = os.open(directory, _DIRECTORY, dir_fd=self._proc)
        try:
            fs.symlink(text, name, dir_fd=fd)
        finally:
            os.close(fd)
        return b"/proc/" + directory + b"/" + name

    @contextmanager
    def leading(self, path: bytes, text: bytes) -> Iterator[None]:
        """Have the system's *path*, by which nothing is found in the tree otherwise, lead to *text* (of the tree) for a moment."""
        system, name, *below = path.split(b"/")[1:]
        directory = self._systems.get(system)
        if directory is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        for each in reversed(below):
            text = self.link(text, each).rpartition(b"/")[0]
        before = _text_in(directory, name)
        _make_link(directory, name, text)
        try:
            yield
        finally:
            with suppress(OSError):  # the step may do to it what it likes
                fs.unlink(name, dir_fd=directory) if before is None else _make_link(directory, name, before)

    def path(self, meant: bytes) -> bytes:
        """Return the path in the tree of the stand-in for *meant*, which was opened before."""
        return b"/proc/" + self._names[meant]


def _mark(system: bytes, root: int) -> int:
    """Make the names in the directory *system*, as it is outside, links to themselves in that of the tree (`_links`); return that."""
    fd = os.open(system[1:], _DIRECTORY, dir_fd=root)
    for name in os.listdir(system):
        if not name.isdigit():
            os.symlink(name, name, dir_fd=fd)
    return fd


def _text_in(directory: int, name: bytes) -> bytes | None:
    """Return what the link *name* says; None if there is nothing."""
    try:
        return os.readlink(name, dir_fd=directory)
    except FileNotFoundError:
        return None


def _make_link(directory: int, name: bytes, text: bytes) -> None:
    """Make *name* a link, also in place of one."""
    fs.symlink(text, _NEW, dir_fd=directory)
    try:
        fs.rename(_NEW, name, source_dir_fd=directory, dir_fd=directory)
    except OSError:
        fs.unlink(_NEW, dir_fd=directory)
        raise


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
