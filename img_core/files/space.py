"""Space on the disk: how much is left, and the reserve that lets people clean up when there is none.

The reserve is a file without meaning, as large as what the largest clean-up writes before it has removed anything. Commands that clean up
remove it first and make it again when they are done.
"""

from __future__ import annotations

import os
from contextlib import suppress

from img_core.files import fs

__all__ = ["NEEDED", "free_bytes", "give_up_reserve", "has_small_blocks", "is_nearly_full", "keep_reserve"]

RESERVE = "reserve"
#: Bytes that a command needs for a directory of its own, the database's shared memory (32 KiB) and a few pages of its log.
NEEDED = 128 << 10
_BESIDES = 512 << 10  #: bytes for what a clean-up writes besides the database
_LEAST = 768 << 10
_PAGE = 4096  # what SQLite makes sure of: one byte in each so many of its shared memory


def free_bytes(directory: str) -> int:
    """Return the bytes that an ordinary user may still write to the file system of *directory*; quotas are not known."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize


def is_nearly_full(directory: str) -> bool:
    """Tell whether what need not be there should rather not be there: less than a twentieth of the disk is free, and less than 1 GiB."""
    disk = os.statvfs(directory)
    return free_bytes(directory) < min(disk.f_blocks * disk.f_frsize // 20, 1 << 30)


def has_small_blocks(directory: str) -> bool:
    """Tell whether a page of memory that is mapped there may lack blocks, which kills who writes to it when the disk is full (SIGBUS)."""
    disk = os.statvfs(directory)
    return min(disk.f_frsize, disk.f_bsize) < _PAGE


def keep_reserve(state: str, database_size: int) -> None:
    """Make the reserve of the directory *state* unless it is there. A full disk is no error: then there is none.

    A transaction may write every page of the database, which has *database_size* bytes, to its log.
    """
    path = os.path.join(state, RESERVE)
    largest = _BESIDES + database_size + database_size // 8
    with suppress(OSError):
        if _allocated(path) < max(largest, _LEAST):
            # With room to grow, so that not each command makes it anew.
            _allocate(path, max(largest + database_size // 2, _LEAST))


def give_up_reserve(state: str) -> None:
    """Remove the reserve."""
    with suppress(OSError):
        fs.unlink(os.path.join(state, RESERVE))


def _allocated(path: str) -> int:
    """Return the bytes that *path* occupies; copies of a state directory may have made a hole of it."""
    try:
        info = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    return min(info.st_size, info.st_blocks * 512)


def _allocate(path: str, size: int) -> None:
    """Make *path* occupy *size* bytes, or as many less as are there: most clean-ups write far less than the largest one."""
    fs.mutation("create", path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                os.posix_fallocate(descriptor, 0, size)
            except OSError:
                os.ftruncate(descriptor, 0)
                if size <= NEEDED * 2:
                    break
                size = max(size - size // 8, NEEDED * 2)
            else:
                return
    finally:
        os.close(descriptor)
    os.unlink(path)  # a part of it is of no use, and somebody else may need the space
