"""Modes, owners, times, extended attributes, access lists."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Any

from overlay_operations._table import (
    CAPABILITY,
    OLD,
    checked,
    libc,
    look,
    operation,
    operation_with_many_ids,
    put,
    status_of_somebody_else,
    text,
)


@operation
def lstat(root: str, a: str, _b: str, _n: int) -> Any:
    return look(f"{root}/{a}")


@operation
def stat_through_links(root: str, a: str, _b: str, _n: int) -> Any:
    return oct(os.stat(f"{root}/{a}").st_mode)


@operation
def time_of_files(root: str, a: str, _b: str, _n: int) -> Any:
    info = os.lstat(f"{root}/{a}")
    return info.st_mtime_ns if info.st_mtime < OLD + 1000 else "now"


@operation
def trailing_slash(root: str, a: str, _b: str, _n: int) -> Any:
    return oct(os.stat(f"{root}/{a}/").st_mode)


@operation
def access(root: str, a: str, _b: str, n: int) -> Any:
    return os.access(f"{root}/{a}", n % 8)


@operation
def longest_name(root: str, a: str, _b: str, _n: int) -> Any:
    return os.statvfs(f"{root}/{a}").f_namemax


@operation
def chmod(root: str, a: str, _b: str, n: int) -> Any:
    os.chmod(f"{root}/{a}", 0o600 + n)
    return look(f"{root}/{a}")


@operation
def chmod_set_id(root: str, a: str, _b: str, _n: int) -> Any:
    os.chmod(f"{root}/{a}", 0o6755)
    return look(f"{root}/{a}")


@operation_with_many_ids
def chown(root: str, a: str, _b: str, n: int) -> Any:
    os.chown(f"{root}/{a}", n, n + 1)
    return look(f"{root}/{a}")


@operation_with_many_ids
def chown_a_link(root: str, a: str, _b: str, n: int) -> Any:
    os.chown(f"{root}/{a}", -1, n, follow_symlinks=False)
    return look(f"{root}/{a}")


@operation
def chown_a_set_id_program(root: str, a: str, _b: str, n: int) -> Any:
    os.chmod(f"{root}/{a}", 0o6755)
    os.chown(f"{root}/{a}", 0, -1)
    return look(f"{root}/{a}")


@operation
def set_times(root: str, a: str, _b: str, n: int) -> Any:
    os.utime(f"{root}/{a}", ns=(OLD * 10**9 + n, OLD * 10**9 + 7 * n))
    return os.stat(f"{root}/{a}").st_mtime_ns


@operation
def set_times_of_a_link(root: str, a: str, _b: str, n: int) -> Any:
    os.utime(f"{root}/{a}", (OLD, OLD + n), follow_symlinks=False)
    return os.lstat(f"{root}/{a}").st_mtime_ns


@operation
def set_times_of_an_open_file(root: str, a: str, _b: str, n: int) -> Any:
    fd = os.open(f"{root}/{a}", os.O_RDWR)
    try:
        os.pwrite(fd, b"time", n)
        os.utime(fd, (OLD, OLD + n))
        return os.fstat(fd).st_mtime_ns
    finally:
        os.close(fd)


@operation_with_many_ids
def write_as_somebody_else(root: str, a: str, _b: str, n: int) -> Any:
    """An ordinary user's write takes set-id bits away."""
    os.chmod(f"{root}/{a}", 0o6777)

    def work() -> None:
        fd = os.open(f"{root}/{a}", os.O_WRONLY)
        os.ftruncate(fd, n) if n % 2 else os.pwrite(fd, b"mine", n)

    return status_of_somebody_else(work), look(f"{root}/{a}")


@operation_with_many_ids
def create_as_somebody_else(root: str, a: str, b: str, _n: int) -> Any:
    os.chmod(f"{root}/{a}", 0o777)

    def work() -> None:
        os.mkdir(f"{root}/{a}/theirs", 0o750)
        os.symlink("x", f"{root}/{a}/theirs/link")
        put(f"{root}/{a}/theirs/file", os.O_WRONLY | os.O_CREAT, b"x")

    status = status_of_somebody_else(work)
    return status, [look(f"{root}/{a}/{name}") for name in ("theirs", "theirs/link", "theirs/file") if not status]


@operation
def set_times_to_now(root: str, a: str, _b: str, _n: int) -> Any:
    os.utime(f"{root}/{a}")
    return os.stat(f"{root}/{a}").st_mtime > OLD + 1000


@operation
def leave_one_time(root: str, a: str, _b: str, n: int) -> Any:
    """UTIME_OMIT, which `os` has no name for."""
    os.utime(f"{root}/{a}", (OLD, OLD))
    times = (ctypes.c_long * 4)(OLD + n, 0, 0, (1 << 30) - 2)
    checked(libc.utimensat(-100, os.fsencode(f"{root}/{a}"), times, 0))
    info = os.stat(f"{root}/{a}")
    return info.st_atime, info.st_mtime


@operation
def set_the_mode_through_a_descriptor_for_reading(root: str, a: str, _b: str, n: int) -> Any:
    fd = os.open(f"{root}/{a}", os.O_RDONLY)
    try:
        os.fchmod(fd, 0o610 + n)
        return oct(os.fstat(fd).st_mode), look(f"{root}/{a}")
    finally:
        os.close(fd)


@operation
def set_an_attribute_through_a_descriptor(root: str, a: str, _b: str, n: int) -> Any:
    fd = os.open(f"{root}/{a}", os.O_RDONLY)
    try:
        os.setxattr(fd, "user.x0", text(n)[:50])
        return os.getxattr(fd, "user.x0"), get_attributes(root, a, "", 0)
    finally:
        os.close(fd)


@operation
def set_an_attribute(root: str, a: str, _b: str, n: int) -> Any:
    os.setxattr(f"{root}/{a}", f"user.x{n % 3}", text(n)[:200])
    return get_attributes(root, a, "", 0)


@operation
def set_an_empty_attribute(root: str, a: str, _b: str, _n: int) -> Any:
    os.setxattr(f"{root}/{a}", "user.empty", b"")
    return os.getxattr(f"{root}/{a}", "user.empty")


@operation
def set_a_new_attribute(root: str, a: str, _b: str, n: int) -> Any:
    os.setxattr(f"{root}/{a}", f"user.x{n % 3}", b"new", os.XATTR_CREATE)


@operation
def set_an_old_attribute(root: str, a: str, _b: str, n: int) -> Any:
    os.setxattr(f"{root}/{a}", f"user.x{n % 3}", b"old", os.XATTR_REPLACE)


@operation
def get_attributes(root: str, a: str, _b: str, _n: int) -> Any:
    names = sorted(name for name in os.listxattr(f"{root}/{a}") if name != "security.selinux")
    return [(name, os.getxattr(f"{root}/{a}", name)) for name in names]


@operation
def get_a_missing_attribute(root: str, a: str, _b: str, _n: int) -> Any:
    return os.getxattr(f"{root}/{a}", "user.never")


@operation
def remove_an_attribute(root: str, a: str, _b: str, n: int) -> Any:
    os.removexattr(f"{root}/{a}", f"user.x{n % 3}")


@operation
def set_an_attribute_of_a_link(root: str, a: str, _b: str, _n: int) -> Any:
    os.setxattr(f"{root}/{a}", "user.link", b"1", follow_symlinks=False)


@operation
def list_attributes_of_a_link(root: str, a: str, _b: str, _n: int) -> Any:
    return sorted(set(os.listxattr(f"{root}/{a}", follow_symlinks=False)) - {"security.selinux"})


@operation
def give_a_capability(root: str, a: str, _b: str, _n: int) -> Any:
    os.setxattr(f"{root}/{a}", "security.capability", CAPABILITY)
    return get_attributes(root, a, "", 0)


@operation
def write_to_a_program_with_a_capability(root: str, a: str, _b: str, n: int) -> Any:
    os.setxattr(f"{root}/{a}", "security.capability", CAPABILITY)
    put(f"{root}/{a}", os.O_WRONLY, b"changed", n)
    return get_attributes(root, a, "", 0)


# --- access lists ---

_LIST = "system.posix_acl_access"
_DEFAULT = "system.posix_acl_default"


def _access_list(user: int, permissions: int, group: int = 5) -> bytes:
    """Return rw- for the owner, *permissions* for *user*, *group* for the group, unmasked; see acl(5)."""
    nobody = 0xFFFFFFFF
    entries = [(1, 6, nobody), (2, permissions, user), (4, group, nobody), (16, 7, nobody), (32, 1, nobody)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@operation
def set_an_access_list(root: str, a: str, _b: str, n: int) -> Any:
    os.setxattr(f"{root}/{a}", _LIST, _access_list(0, n))
    return look(f"{root}/{a}"), os.getxattr(f"{root}/{a}", _LIST)


@operation
def chmod_what_has_an_access_list(root: str, a: str, _b: str, n: int) -> Any:
    os.setxattr(f"{root}/{a}", _LIST, _access_list(0, 7))
    os.chmod(f"{root}/{a}", 0o600 + 8 * n)
    return look(f"{root}/{a}"), os.getxattr(f"{root}/{a}", _LIST)


@operation
def remove_an_access_list(root: str, a: str, _b: str, n: int) -> Any:
    os.setxattr(f"{root}/{a}", _LIST, _access_list(0, n))
    os.removexattr(f"{root}/{a}", _LIST)
    return look(f"{root}/{a}"), get_attributes(root, a, "", 0)


@operation
def remove_what_may_be_no_access_list(root: str, a: str, _b: str, n: int) -> Any:
    """Of a file in the upper layer; in a lower one it is another error, and where a file is does not show."""
    os.chmod(f"{root}/{a}", 0o644)
    os.removexattr(f"{root}/{a}", (_LIST, _DEFAULT)[n % 2])


@operation
def set_a_broken_access_list(root: str, a: str, _b: str, _n: int) -> Any:
    os.setxattr(f"{root}/{a}", _LIST, b"\2\0\0\0" + b"\7" * 8)


@operation
def inherit_an_access_list(root: str, a: str, _b: str, n: int) -> Any:
    os.setxattr(f"{root}/{a}", _DEFAULT, _access_list(0, n))
    for name in ("heir", "heir/sub"):
        os.mkdir(f"{root}/{a}/{name}", 0o775)
    put(f"{root}/{a}/heir/file", os.O_WRONLY | os.O_CREAT, b"x")
    shown = [
        (look(f"{root}/{a}/{name}"), get_attributes(root, f"{a}/{name}", "", 0)) for name in ("heir/sub", "heir/file")
    ]
    os.removexattr(f"{root}/{a}", _DEFAULT)
    return shown


@operation_with_many_ids
def read_what_a_list_allows(root: str, a: str, _b: str, n: int) -> Any:
    os.setxattr(f"{root}/{a}", _LIST, _access_list(1, n, 0))
    status = status_of_somebody_else(lambda: os.close(os.open(f"{root}/{a}", os.O_RDONLY | os.O_NONBLOCK)))
    return status, look(f"{root}/{a}")
