"""Directories that a layer needs but does not describe.

Some tools write ``usr/bin/x`` into a layer without ``usr/`` and ``usr/bin/``. Unpacked on its own, such a directory would hide mode,
owner and time of the one below. So the layer keeps a list of them, and the first mount on top of its parents copies the look from there.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from img_core.files import fs
from img_lib_layers.changes import copy_look
from img_lib_layers.overlay.changes import hides
from img_lib_layers.snapshots import FILES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["remember", "settle", "settle_others"]

_LIST = "implied"


def remember(directory: str, paths: Iterable[bytes]) -> None:
    """Keep the list of implied directories of the new snapshot *directory*."""
    content = b"".join(path + b"\0" for path in sorted(paths))
    if content:
        fs.replace_file(f"{directory}/{_LIST}", content)


def settle(parents: Sequence[str]) -> None:
    """Give implied directories of *parents*, lowest first, the look that they have below."""
    settle_others(parents, set())


def settle_others(parents: Sequence[str], settled: set[str]) -> None:
    """Give implied directories of *parents*, lowest first, the look that they have below.

    *settled* has those that have no list, and gets more, so that a step on a thousand layers does not look for a thousand lists.

    Two processes may do this at the same time: they write the same.
    """
    for index, parent in enumerate(parents):
        if parent in settled:
            continue
        path = f"{parent}/{_LIST}"
        try:
            with open(path, "rb") as file:
                names = file.read().split(b"\0")[:-1]
        except FileNotFoundError:
            settled.add(parent)
            continue
        for name in names:
            _settle_one(name, f"{parent}/{FILES}", parents[:index])
        with contextlib.suppress(FileNotFoundError):
            fs.unlink(path)


def _settle_one(name: bytes, files: str, below: Sequence[str]) -> None:
    for parent in reversed(below):
        source = f"{parent}/{FILES}"
        if _is_directory(source, name):
            _copy(source, files, name)
            return
        if hides(source, name):
            return


def _is_directory(files: str, name: bytes) -> bool:
    root = os.open(files, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = fs.open_beneath(root, name, os.O_PATH)
    except OSError:
        return False
    finally:
        os.close(root)
    try:
        return stat.S_ISDIR(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


def _copy(source: str, target: str, name: bytes) -> None:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    source_fd = os.open(source.encode() + b"/" + name, flags)
    try:
        target_fd = os.open(target.encode() + b"/" + name, flags)
        try:
            copy_look(source_fd, target_fd)
        finally:
            os.close(target_fd)
    finally:
        os.close(source_fd)
