"""Attributes of detached mounts on kernels before 5.12, which have no mount_setattr(2).

There the attributes of a bind mount can only be changed where it is attached. So a thread takes a mount namespace of its own for a
moment, attaches the tree there, remounts what is in it the classic way, and takes a new detached copy. Nothing is ever visible
outside of that thread, and the namespace ends with it.

The caller goes on when the kernel knows the thread no longer. Python itself waits only until the thread has left the interpreter, and a
process that changes its ids with a second thread lets both do it (nptl(7)): where a filter answers one of them, the results differ, and
the C library aborts the process. Besides, a thread that ends may load a library, from the root directory of that moment.
"""

from __future__ import annotations

import os
import re
import stat
import time
from concurrent.futures import Future
from threading import Thread
from typing import Final

from img_core.linux import syscalls

__all__ = ["copy_with_attributes"]

# Every root file system of ours and every host has it, and in here nobody looks into it.
_STAGE: Final = "/sys"
_PLACE: Final = f"{_STAGE}/tree"

_MOMENT: Final = 0.0002  # seconds; a thread's last steps take less

_MS_NOATIME: Final = 0x400
_MS_NODIRATIME: Final = 0x800
_MS_RELATIME: Final = 0x200000
_MS_STRICTATIME: Final = 0x1000000

#: option in mountinfo -> flag; a more privileged namespace may have locked them, so none may get lost
_KEPT: Final = {
    "ro": syscalls.MS_RDONLY,
    "nosuid": syscalls.MS_NOSUID,
    "nodev": syscalls.MS_NODEV,
    "noexec": syscalls.MS_NOEXEC,
    "noatime": _MS_NOATIME,
    "nodiratime": _MS_NODIRATIME,
    "relatime": _MS_RELATIME,
}
_ATTRIBUTES: Final = (
    (syscalls.MOUNT_ATTR_RDONLY, syscalls.MS_RDONLY),
    (syscalls.MOUNT_ATTR_NOSUID, syscalls.MS_NOSUID),
    (syscalls.MOUNT_ATTR_NODEV, syscalls.MS_NODEV),
    (syscalls.MOUNT_ATTR_NOEXEC, syscalls.MS_NOEXEC),
)


def copy_with_attributes(fd: int, attributes: int) -> int:
    """Return a private copy of the detached mount *fd*, with *attributes* (``MOUNT_ATTR_…``) on all mounts in it.

    *fd* is used up, but stays open. Raises OSError.
    """
    result: Future[int] = Future()
    me: Future[str] = Future()

    def work() -> None:
        try:
            me.set_result(os.readlink("/proc/thread-self"))
            result.set_result(_copy(fd, attributes))
        except BaseException as err:  # surfaces in the caller
            result.set_exception(err)

    thread = Thread(target=work)
    thread.start()
    thread.join()
    copy = result.result()
    while os.path.exists(f"/proc/{me.result()}"):
        time.sleep(_MOMENT)
    return copy


def _copy(fd: int, attributes: int) -> int:
    syscalls.unshare(syscalls.CLONE_NEWNS)  # of this thread alone
    syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("tmpfs", _STAGE, "tmpfs")
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.mkdir(_PLACE)
    else:
        os.close(os.open(_PLACE, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    syscalls.move_mount(fd, _PLACE)
    syscalls.mount("none", _PLACE, None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    for point, flags in _mounts():
        syscalls.mount("none", point, None, syscalls.MS_REMOUNT | syscalls.MS_BIND | flags | _flags(attributes))
    return syscalls.open_tree(syscalls.AT_FDCWD, _PLACE, syscalls.OPEN_TREE_CLONE | syscalls.AT_RECURSIVE)


def _flags(attributes: int) -> int:
    return sum(flag for attribute, flag in _ATTRIBUTES if attributes & attribute)


def _mounts() -> list[tuple[bytes, int]]:
    """Return the attached tree's mount points with the flags they have, see proc_pid_mountinfo(5).

    What another mount covers is left out: nobody gets there, and the path means the other one.
    """
    found = []
    with open("/proc/thread-self/mountinfo", "rb") as table:
        for line in table:
            fields = line.split(b" ", 6)
            point = re.sub(rb"\\([0-7]{3})", lambda escape: bytes([int(escape[1], 8)]), fields[4])
            inside = point == _PLACE.encode() or point.startswith(_PLACE.encode() + b"/")
            if inside and _mount_id(point) == int(fields[0]):
                options = fields[5].decode().split(",")
                flags = sum(flag for name, flag in _KEPT.items() if name in options)
                found.append((point, flags if b"atime" in fields[5] else flags | _MS_STRICTATIME))
    return found


def _mount_id(path: bytes) -> int:
    """Return the number of the mount that *path* leads to, or -1."""
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        with open(f"/proc/thread-self/fdinfo/{fd}", "rb") as facts:
            return next(int(line.split()[1]) for line in facts if line.startswith(b"mnt_id:"))
    finally:
        os.close(fd)
