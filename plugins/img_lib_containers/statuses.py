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

#: both begin with device and inode; then x86_64 has the links (64 bits) before the mode, others after it (32 bits). See stat(2).
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


class Status:
    """What is known of one file at a time, with its bytes in `buffer`."""

    def __init__(self) -> None:
        self.buffer = ctypes.create_string_buffer(_STATX_SIZE)
        self.device = self.inode = self.mode = self.uid = self.gid = 0
        self._wide = False

    def read(self, name: bytes, *, follow: bool, mask: int | None) -> int:
        """Look at the file *name*: as statx(2) with *mask*, or as stat(2). Return the number of the error, 0 for none."""
        flags = 0 if follow else syscalls.AT_SYMLINK_NOFOLLOW
        self._wide = mask is not None
        if mask is not None:
            if not syscalls.statx_into(self.buffer, name, flags, mask | _BASIC):
                return ctypes.get_errno()
            self.uid, self.gid, self.mode, self.inode, major, minor = _STATX.unpack_from(self.buffer)
            self.device = os.makedev(major, minor)
        else:
            if not syscalls.stat_into(self.buffer, name, flags):
                return ctypes.get_errno()
            self.device, self.inode, self.mode, self.uid, self.gid = _STAT.unpack_from(self.buffer)
        return 0

    def show(self, owner: tuple[int, int], permissions: int) -> None:
        """Change owner and mode in the buffer; no *permissions* (-1) are those that are there."""
        _IDS.pack_into(self.buffer, _IDS_IN_STATX if self._wide else _IDS_IN_STAT, *owner)
        if permissions >= 0:
            mode = stat.S_IFMT(self.mode) | permissions
            _MODE.pack_into(self.buffer, _MODE_IN_STATX if self._wide else _MODE_IN_STAT, mode)

    def give(self, pid: int, pointer: int) -> bool:
        """Write it to the memory of a process; return False if that is not there."""
        size = _STATX_SIZE if self._wide else syscalls.STAT_SIZE
        try:
            return syscalls.process_vm_write_from(pid, pointer, self.buffer, size) == size
        except OSError:
            return False
