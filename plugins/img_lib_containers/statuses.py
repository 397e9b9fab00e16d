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

__all__ = ["Status", "WideStatus"]

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
    """The ``struct stat`` of one file at a time, for the process whose number *pid* has."""

    _size, _ids_at, _mode_at = syscalls.STAT_SIZE, _IDS_IN_STAT, _MODE_IN_STAT

    def __init__(self, pid: ctypes.c_int) -> None:
        self._buffer = ctypes.create_string_buffer(_STATX_SIZE)
        self._look = syscalls.stat_into(self._buffer)
        self._write = syscalls.MemoryWriter(self._buffer, self._size, pid).writing()

    def read(self, name: bytes, flags: int, mask: int) -> Looks | None:
        """Look at the file *name* as newfstatat(2) with *flags*. Return None for an error (`ctypes.get_errno`)."""
        del mask  # of statx(2)
        return None if self._look(name, flags) else _STAT.unpack_from(self._buffer)

    def give(self, pointer: int, uid: int, gid: int, permissions: int = -1) -> bool:
        """Write it to the memory of the process, with another owner, and other *permissions* unless these are negative.

        Return False if that is not possible (EFAULT).
        """
        _IDS.pack_into(self._buffer, self._ids_at, uid, gid)
        if permissions >= 0:
            (mode,) = _MODE.unpack_from(self._buffer, self._mode_at)
            _MODE.pack_into(self._buffer, self._mode_at, stat.S_IFMT(mode) | permissions)
        return self._write(pointer)


class WideStatus(Status):
    """The ``struct statx``."""

    _size, _ids_at, _mode_at = _STATX_SIZE, _IDS_IN_STATX, _MODE_IN_STATX

    def __init__(self, pid: ctypes.c_int) -> None:
        super().__init__(pid)
        self._look_widely = syscalls.statx_into(self._buffer)

    def read(self, name: bytes, flags: int, mask: int) -> Looks | None:
        """Look at the file *name* as statx(2) with *flags* and *mask*. Return None for an error (`ctypes.get_errno`)."""
        if self._look_widely(name, flags, mask | _BASIC):
            return None
        uid, gid, mode, inode, major, minor = _STATX.unpack_from(self._buffer)
        return os.makedev(major, minor), inode, mode, uid, gid
