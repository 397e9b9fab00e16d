"""What 32-bit programs of x86 are told about files: structures of asm/stat.h and asm/statfs.h, and their times."""

from __future__ import annotations

import os
import struct
from typing import Final

__all__ = ["TIMES", "TIMES_32", "UTIME_NOW", "UTIME_OMIT", "stat64", "statfs64"]

#: two struct timespec, of 64-bit programs and of others
TIMES: Final = struct.Struct("=4q")
TIMES_32: Final = struct.Struct("=4i")
#: instead of nanoseconds, see utimensat(2)
UTIME_NOW: Final = 0x3FFFFFFF
UTIME_OMIT: Final = 0x3FFFFFFE

# dev, pad, ino, mode, nlink, uid, gid, rdev, pad, size, blksize, blocks, atime, its ns, mtime, its ns, ctime, its ns, ino
_STAT64: Final = struct.Struct("=Q4x5IQ4xqIQ6IQ")
# type, bsize, blocks, bfree, bavail, files, ffree, fsid, namelen, frsize, flags, spare
_STATFS64: Final = struct.Struct("=2I5Q2I3I16x")
_SECOND: Final = 10**9
_WORD: Final = 0xFFFFFFFF


def stat64(fd: int) -> bytes:
    """Return the ``struct stat64`` of an open file."""
    info = os.fstat(fd)
    times = (
        part & _WORD
        for moment in (info.st_atime_ns, info.st_mtime_ns, info.st_ctime_ns)
        for part in divmod(moment, _SECOND)
    )
    return _STAT64.pack(
        info.st_dev, info.st_ino & _WORD, info.st_mode, info.st_nlink, info.st_uid, info.st_gid, info.st_rdev,
        info.st_size, info.st_blksize, info.st_blocks, *times, info.st_ino,
    )  # fmt: skip


def statfs64(raw: bytes) -> bytes:
    """Return the ``struct statfs64`` for the *raw* ``struct statfs`` of a 64-bit machine."""
    kind, size, *counts, first, second, longest, fragment, flags = struct.unpack_from("=2q5Q2I3q", raw)
    words = (value & _WORD for value in (first, second, longest, fragment, flags))
    return _STATFS64.pack(kind & _WORD, size & _WORD, *counts, *words)
