"""The table of operations, and what they share.

An operation takes the path of the root, two names below it and a number, and returns something comparable or raises OSError.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Callable
from typing import Any

Operation = Callable[[str, str, str, int], Any]  # Any: whatever can be compared
OPERATIONS: dict[str, Operation] = {}
MANY_IDS: set[str] = set()  #: names of those that only work with many ids, or as real root

OLD = 1_000_000_000  # a time before every test
CAPABILITY = bytes.fromhex("0100000202000000000000000000000000000000")

libc = ctypes.CDLL(None, use_errno=True)


def operation(function: Operation) -> Operation:
    """Enter *function* into the table."""
    OPERATIONS[function.__name__] = function
    return function


def operation_with_many_ids(function: Operation) -> Operation:
    """Enter *function*, which changes to users that a single-id mapping does not have."""
    MANY_IDS.add(function.__name__)
    return operation(function)


def look(path: str) -> tuple[Any, ...]:
    """Return what lstat(2) says that must be equal everywhere."""
    info = os.lstat(path)
    directory = stat.S_ISDIR(info.st_mode)
    return (
        oct(info.st_mode),
        info.st_uid,
        info.st_gid,
        0 if directory else info.st_size,
        0 if directory else info.st_nlink,
    )


def text(number: int) -> bytes:
    """Return some bytes, more for a larger *number*."""
    return (b"%d-" % number) * (number * 40 + 1)


def get(path: str) -> bytes:
    """Return the content of a file."""
    with open(path, "rb") as file:
        return file.read()


def put(path: str, flags: int, data: bytes, position: int = -1) -> int:
    """Open *path* with *flags* and write *data*."""
    fd = os.open(path, flags, 0o640)
    try:
        return os.write(fd, data) if position < 0 else os.pwrite(fd, data, position)
    finally:
        os.close(fd)


def renameat2(old: str, new: str, flags: int) -> None:
    """Call renameat2(2)."""
    checked(libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags))


def link_descriptor(fd: int, name: str) -> None:
    """Give the file *fd* a name; os.link() would link the link in /proc."""
    checked(libc.linkat(-100, b"/proc/self/fd/%d" % fd, -100, os.fsencode(name), 0x400))  # AT_SYMLINK_FOLLOW


def checked(result: int) -> int:
    """Return the *result* of a function in C, or raise what it says by a negative one."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def status_of_somebody_else(work: Callable[[], object]) -> int:
    """Do *work* as user and group 1 in another process; return 0 if it went well, else the error number."""
    child = os.fork()
    if child == 0:
        status = 255
        try:
            os.setgroups([])
            os.setresgid(1, 1, 1)
            os.setresuid(1, 1, 1)
            work()
            status = 0
        except OSError as err:
            status = err.errno or 254
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
