"""Build contexts that arrive as an archive: on standard input or from a web server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from img_core.archives import codecs
from img_core.files import fs

if TYPE_CHECKING:
    from img_core.archives.codecs import Readable

__all__ = ["Chained", "is_archive", "newest_member", "read_fully", "unpack"]

#: How many bytes `is_archive` wants to see: one tar header.
BLOCK = 512


def is_archive(first: bytes) -> bool:
    """Tell whether *first* (the first `BLOCK` bytes, fewer only if there are no more) starts a tar archive or something compressed."""
    from img_core.archives.tar.header import ZERO_BLOCK, is_header

    if codecs.detect(first) is not None:
        return True
    return len(first) == BLOCK and first != ZERO_BLOCK and is_header(first)


def unpack(stream: Readable, directory: str) -> None:
    """Unpack the tar *stream*, plain or compressed, into the existing *directory*. Raises ArchiveError.

    Everything belongs to the caller, as in a directory context: owners in images come from ``--chown``.
    """
    from img_core.archives.tar import OwnerPolicy, TarReader, extract

    with fs.opened_directory(directory) as root:
        policy = OwnerPolicy("set", (os.geteuid(), os.getegid()))
        extract(TarReader(codecs.open_decompressed(stream)), root, mode="plain", owners=policy)


def newest_member(stream: Readable) -> int | None:
    """Return the time of the newest member of the tar *stream*, plain or compressed, in seconds since 1970; None if it is empty.

    Raises ArchiveError.
    """
    from img_core.archives.tar import TarReader

    times = [member.mtime_ns // 10**9 for member in TarReader(codecs.open_decompressed(stream))]
    return max(0, *times) if times else None


def read_fully(stream: Readable, size: int) -> bytes:
    """Read *size* bytes, fewer only at the end of *stream*."""
    parts = []
    while size and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class Chained:
    """Reads *first*, then *stream*."""

    def __init__(self, first: bytes, stream: Readable) -> None:
        self._first = first
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        """Return up to *size* bytes; none at the end."""
        if self._first:
            head, self._first = self._first[:size], self._first[size:]
            return head
        return self._stream.read(size)
