"""Whether files and whole trees changed, told by what stat(2) says of them: nothing is read.

A change of a file, of its mode, name, owner or attributes gives it a new change time, which nobody can set. Two changes within one tick of
that clock look like one, so times that are not *settled* tell nothing: clocks of file systems are coarse (2 s on FAT, some milliseconds
on most, another machine's on NFS).
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

try:
    from _blake2 import blake2b  # hashlib loads OpenSSL, which takes longer than all of this
except ImportError:  # another Python
    from hashlib import blake2b

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SETTLED_NS", "digest", "fingerprint"]

#: Nanoseconds after which a file that changes again has other times.
SETTLED_NS = 2_000_000_000

#: Entries of trees; beyond that to look at them is no cheap thing any more.
_MOST = 40_000


def digest(data: bytes) -> bytes:
    """Return 32 bytes that tell *data* from other data."""
    return blake2b(data, digest_size=32).digest()


def fingerprint(
    *,
    trees: Iterable[str] = (),
    files: Iterable[str] = (),
    places: Iterable[str] = (),
    settled: int | None = None,
) -> bytes | None:
    """Return a digest that stays the same as long as none of these changes; None if that cannot be told.

    Of *trees* every entry counts; links in them are not followed, but the path of a tree itself may lead through links. Of *files*, regular
    files or directories, they themselves, of *places* only which directory it is and its mode. What does not exist counts as that.
    *settled* is a time in nanoseconds since 1970: if something has changed since, its times tell too little.
    """
    sum_ = _Sum(settled)
    try:
        for path in places:
            sum_.place(path)
        for path in files:
            sum_.file(path)
        for path in trees:
            sum_.tree(path)
    except (OSError, _UntellableError):
        return None
    return sum_.digest.digest()


class _UntellableError(Exception):
    """Something is no file, changed just now, or there is too much of it."""


class _Sum:
    def __init__(self, settled: int | None) -> None:
        self.digest = blake2b(digest_size=32)
        self._settled = 1 << 62 if settled is None else settled
        self._left = _MOST

    def place(self, path: str) -> None:
        status = self._status(path)
        if status is not None:
            self.digest.update(b"%d %d %o\n" % (status.st_dev, status.st_ino, status.st_mode))

    def file(self, path: str) -> None:
        status = self._status(path)
        if status is None:
            return
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise _UntellableError  # a pipe, a device: nobody knows what comes out of it next
        self._add(b"", status)

    def tree(self, path: str) -> None:
        status = self._status(path)
        if status is None:
            return
        self._add(b"", status)
        pending = [os.fsencode(path)]
        while pending:
            with os.scandir(pending.pop()) as found:
                entries = sorted(found, key=_name)
            self._left -= len(entries)
            if self._left < 0:
                raise _UntellableError
            self.digest.update(b"%d entries\n" % len(entries))
            for entry in entries:
                self._add(entry.name, entry.stat(follow_symlinks=False))
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)

    def _status(self, path: str) -> os.stat_result | None:
        """Return what *path* is, links followed; None if there is nothing. The path counts, too."""
        self.digest.update(os.fsencode(path) + b"\0")
        try:
            return os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            self.digest.update(b"nothing\n")
            return None

    def _add(self, name: bytes, status: os.stat_result) -> None:
        modified, changed = status.st_mtime_ns, status.st_ctime_ns
        if modified >= self._settled or changed >= self._settled:
            raise _UntellableError
        self.digest.update(
            b"%b\0%d %d %o %d %d %d\n"
            % (name, status.st_dev, status.st_ino, status.st_mode, status.st_size, modified, changed)
        )


def _name(entry: os.DirEntry[bytes]) -> bytes:
    return entry.name
