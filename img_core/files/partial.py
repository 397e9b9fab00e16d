"""Blobs that arrived in part: ``ingest/<hex>``. A transfer that is cut, even by kill -9, leaves it to the next one."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.files.locks import ensure_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DIRECTORY", "PartialBlob", "held", "set_aside"]

DIRECTORY = "ingest"
_WORTH = 1 << 20  # bytes; less is fetched again in no time
_CHUNK = 1 << 20


class PartialBlob:
    """The file *name* in *directory*, locked as long as it is open here. Has the interface of `fs.AtomicFile`.

    Nobody vouches for its content: who goes on hashes it from the start.
    """

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self.size = os.fstat(descriptor).st_size
        self._fd = descriptor

    @classmethod
    def open(cls, directory: str, name: str, *, limit: int) -> PartialBlob | None:
        """Open what there is of a blob of *limit* bytes, or a new file; None if another transfer is writing it."""
        ensure_directory(directory)
        path = os.path.join(directory, name)
        while True:
            fs.mutation("create", path)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            if not _lock(descriptor):
                os.close(descriptor)
                return None
            if _is_at(descriptor, path):
                break
            os.close(descriptor)  # removed, or finished, between our opening and our locking it
        if os.fstat(descriptor).st_size > limit:
            os.ftruncate(descriptor, 0)
        return cls(path, descriptor)

    def chunks(self) -> Iterator[bytes]:
        """Give what is there."""
        position = 0
        while position < self.size and (data := os.pread(self._fd, min(_CHUNK, self.size - position), position)):
            position += len(data)
            yield data

    def fileno(self) -> int:
        """Return the open descriptor."""
        return self._fd

    def write(self, data: bytes | memoryview) -> int:
        """Append all of *data*."""
        view = memoryview(data)
        try:
            fs.mutation("write", self.path)
            while view:
                count = os.pwrite(self._fd, view, self.size)
                view = view[count:]
                self.size += count
        except OSError:
            self.abort()  # most likely the disk is full: do not keep it so
            raise
        return len(data)

    def commit(self, final_path: str) -> None:
        """Give the whole blob its name."""
        fs.rename(self.path, final_path)
        self._close()

    def keep(self) -> None:
        """Leave what arrived to the next transfer, if it is worth that."""
        if self.size < _WORTH:
            self.abort()
        else:
            self._close()

    def abort(self) -> None:
        """Remove the file; harmless after `commit` and `keep`."""
        if self._fd >= 0:
            with suppress(FileNotFoundError):
                fs.unlink(self.path)
            self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            descriptor, self._fd = self._fd, -1
            os.close(descriptor)


def _is_at(descriptor: int, path: str) -> bool:
    """Tell whether the open file is still the one called *path*."""
    try:
        there, here = os.stat(path, follow_symlinks=False), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def held(path: str) -> bool:
    """Tell whether a transfer is writing the file *path*."""
    with _unheld(path) as free:
        return not free


def set_aside(path: str, aside: str) -> bool:
    """Move the file *path* to *aside* unless a transfer is writing it; tell which. Raises FileNotFoundError."""
    with _unheld(path) as free:
        if free:
            fs.rename(path, aside)
        return free


@contextmanager
def _unheld(path: str) -> Iterator[bool]:
    """Keep transfers away from the file *path* during the block; False if one is there already."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; False if somebody else has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
