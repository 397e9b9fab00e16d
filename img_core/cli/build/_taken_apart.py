"""Which blobs of the store an archive consists of, so that it can be written again without a build."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from img_core.archives.tar.header import BLOCK
from img_core.archives.tar.reader import TarReader
from img_core.cli._archives import Archive
from img_core.files.output import made_here
from img_core.images.digests import digest_at
from img_core.spec.errors import ArchiveError

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["taken_apart"]

_BETWEEN_LIMIT = 1 << 20  #: bytes that are in no blob: headers, and documents that are only in the archive


def taken_apart(dest: str, state: str) -> Archive | None:
    """Return the archive that this process wrote to *dest* of blobs in *state*; None if it is none of that kind, or not there any more."""
    try:
        with open(os.open(dest, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb", buffering=0) as file:
            if not made_here(dest, os.fstat(file.fileno())):
                return None  # a pipe, a device, or by somebody else meanwhile
            parts = _parts(file, state)
    except (ArchiveError, OSError):
        return None
    return Archive(dest, tuple(parts)) if sum(map(len, parts)) < _BETWEEN_LIMIT else None


def _parts(file: BinaryIO, state: str) -> list[bytes]:
    """Return what is between blobs and the paths of these, in turn."""
    parts: list[bytes] = []
    taken = at = 0  # until where the parts go; where the next member begins
    while True:
        file.seek(at)
        reader = TarReader(_Blocks(file))
        member = next(iter(reader), None)
        if member is None:
            break
        begin = at + reader.offset
        at = begin + member.stored + -member.stored % BLOCK
        path = os.fsdecode(member.name)
        if digest_at(path) and _size(os.path.join(state, path)) == member.stored:
            parts += [_between(file, taken, begin), member.name]
            taken = begin + member.stored
    return [*parts, _between(file, taken, os.fstat(file.fileno()).st_size)]


def _size(path: str) -> int:
    """Return the size of the file *path*, -1 if there is none."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return -1


def _between(file: BinaryIO, begin: int, end: int) -> bytes:
    """Return these bytes of *file*. Raises ArchiveError if they are too many to be remembered."""
    if end - begin > _BETWEEN_LIMIT:
        raise ArchiveError("there is much in it that is no blob")
    return os.pread(file.fileno(), end - begin, begin)


class _Blocks:
    """Reads *file* a block at a time, because what is in a blob need not be read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, _size: int, /) -> bytes:
        return self._file.read(BLOCK)
