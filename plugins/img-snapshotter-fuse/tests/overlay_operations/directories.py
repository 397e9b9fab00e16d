"""Listing, also while something changes."""

from __future__ import annotations

import ctypes
import os
from typing import Any

from overlay_operations._table import libc, operation, put


@operation
def listdir(root: str, a: str, _b: str, _n: int) -> Any:
    return sorted(os.listdir(f"{root}/{a}"))


@operation
def list_with_kinds(root: str, a: str, _b: str, _n: int) -> Any:
    with os.scandir(f"{root}/{a}") as entries:
        return sorted((e.name, e.is_dir(follow_symlinks=False), e.is_symlink()) for e in entries)


@operation
def walk(root: str, a: str, _b: str, _n: int) -> Any:
    return [(top[len(root) :], sorted(names), sorted(files)) for top, names, files in sorted(os.walk(f"{root}/{a}"))]


@operation
def list_while_deleting(root: str, a: str, _b: str, _n: int) -> Any:
    for number in range(60):
        put(f"{root}/{a}/tmp-{number}", os.O_WRONLY | os.O_CREAT, b"")
    removed = 0
    with os.scandir(f"{root}/{a}") as entries:
        for entry in entries:
            if entry.name.startswith("tmp-"):
                os.unlink(entry.path)
                removed += 1
    return removed, sorted(os.listdir(f"{root}/{a}"))


@operation
def list_while_creating(root: str, a: str, _b: str, _n: int) -> Any:
    """What was there before shows once; what comes meanwhile may show."""
    before = set(os.listdir(f"{root}/{a}"))
    seen = []
    with os.scandir(f"{root}/{a}") as entries:
        for number, entry in enumerate(entries):
            if number < 50:
                put(f"{root}/{a}/made-{number}", os.O_WRONLY | os.O_CREAT, b"")
            seen.append(entry.name)
    for name in set(os.listdir(f"{root}/{a}")) - before:
        os.unlink(f"{root}/{a}/{name}")
    return sorted(name for name in seen if name in before)


class _Entry(ctypes.Structure):
    """`struct dirent` of the C library."""

    _fields_ = (
        ("inode", ctypes.c_uint64),
        ("position", ctypes.c_int64),
        ("length", ctypes.c_ushort),
        ("kind", ctypes.c_ubyte),
        ("name", ctypes.c_char * 256),
    )


libc.opendir.restype = ctypes.c_void_p
libc.readdir64.restype = ctypes.POINTER(_Entry)
libc.telldir.restype = ctypes.c_long


@operation
def seek_in_a_directory(root: str, a: str, _b: str, n: int) -> Any:
    """Whoever goes back to a position finds what was behind it, although other names have come and gone."""
    for number in range(40):
        put(f"{root}/{a}/stays-{number}", os.O_WRONLY | os.O_CREAT, b"")
        put(f"{root}/{a}/goes-{number}", os.O_WRONLY | os.O_CREAT, b"")
    directory = ctypes.c_void_p(libc.opendir(os.fsencode(f"{root}/{a}")))
    first = [_next(directory) for _ in range(n + 2)]
    position = ctypes.c_long(libc.telldir(directory))
    behind = _rest(directory)
    for number in range(40):
        os.unlink(f"{root}/{a}/goes-{number}")
    put(f"{root}/{a}/comes", os.O_WRONLY | os.O_CREAT, b"")
    libc.seekdir(directory, position)
    again = _rest(directory)
    libc.closedir(directory)
    os.unlink(f"{root}/{a}/comes")
    kept = {name for name in first + behind if not name.startswith(b"goes-")}
    for number in range(40):
        os.unlink(f"{root}/{a}/stays-{number}")
    return [name in again for name in behind if name in kept].count(False), sorted(kept), len(again) == len(set(again))


def _next(directory: ctypes.c_void_p) -> bytes:
    entry = libc.readdir64(directory)
    return bytes(entry.contents.name) if entry else b""


def _rest(directory: ctypes.c_void_p) -> list[bytes]:
    names = []
    while name := _next(directory):
        names.append(name)
    return names
