"""``struct stat`` and ``struct statx`` as the kernel of this machine writes them: read, changed and handed on without a copy.

A step that lists files makes thousands of these calls, and each waits for its answer. So all is done with one buffer.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from typing import Final

from img_core.linux import syscalls

__all__ = ["Status"]

#: both begin with device and inode; then x86_64 has the links (64 bits) before the mode, others after it (32 bits), and then the ids.
#: See stat(2).
_STAT: Final = struct.Struct("=QQ8xIII" if syscalls.MACHINE == "x86_64" else "=QQI4xII")
_IDS_IN_STAT: Final = 28 if syscalls.MACHINE == "x86_64" else 24
_MODE_IN_STAT: Final = 24 if syscalls.MACHINE == "x86_64" else 16
#: user, group, mode, inode, and the two halves of the device
_STATX: Final = struct.Struct("=20xIIHxxQ96xII")
_IDS_IN_STATX: Final = 20
_MODE_IN_STATX: Final = 28
_STATX_SIZE: Final = 256
_BASIC: Final = 0x7FF  # STATX_BASIC_STATS; more than was asked for is allowed
_IDS: Final = struct.Struct("=II")
_MODE: Final = struct.Struct("=H")  # all that a mode has


Looks = tuple[int, int, int, int, int]  #: device, inode, mode, user and group


class Status:
    """What is known of one file at a time."""

    def __init__(self) -> None:
        self._buffer = ctypes.create_string_buffer(_STATX_SIZE)
        self._narrow = syscalls.MemoryWriter(self._buffer, syscalls.STAT_SIZE)
        self._wide = syscalls.MemoryWriter(self._buffer, _STATX_SIZE)
        self._is_wide = False

    def read(self, name: bytes, *, follow: bool, mask: int | None) -> Looks | None:
        """Look at the file *name*: as statx(2) with *mask*, or as stat(2). Return None for an error (`ctypes.get_errno`)."""
        flags = 0 if follow else syscalls.AT_SYMLINK_NOFOLLOW
        if mask is None:
            self._is_wide = False
            return _STAT.unpack_from(self._buffer) if syscalls.stat_into(self._buffer, name, flags) else None
        self._is_wide = True
        if not syscalls.statx_into(self._buffer, name, flags, mask | _BASIC):
            return None
        uid, gid, mode, inode, major, minor = _STATX.unpack_from(self._buffer)
        return os.makedev(major, minor), inode, mode, uid, gid

    def give(self, pid: int, pointer: int, uid: int, gid: int, permissions: int = -1) -> bool:
        """Write it to the memory of a process, with another owner, and other *permissions* unless these are negative.

        Return False if that is not possible (EFAULT).
        """
        wide = self._is_wide
        _IDS.pack_into(self._buffer, _IDS_IN_STATX if wide else _IDS_IN_STAT, uid, gid)
        if permissions >= 0:
            at = _MODE_IN_STATX if wide else _MODE_IN_STAT
            (mode,) = _MODE.unpack_from(self._buffer, at)
            _MODE.pack_into(self._buffer, at, stat.S_IFMT(mode) | permissions)
        return (self._wide if wide else self._narrow).write(pid, pointer)
