"""Files with several names: whether a step left them what they were."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from img_core.files import fs
from img_lib_layers.changes import same_entry, scan

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LinkedFiles"]


class LinkedFiles:
    """Compares the files of several names in the tree *root_fd* with the tree that *before_fd* opens when it is needed.

    A layer cannot say that a new name belongs to a file of a layer below. So what changed under one of its names changed under all of
    them, and the layer links them again.
    """

    def __init__(self, root_fd: int, before_fd: Callable[[], int]) -> None:
        self._root_fd = root_fd
        self._before_fd = before_fd
        self._names: dict[int, list[tuple[bytes, os.stat_result]]] | None = None
        self._changed: dict[int, bool] = {}

    def changed(self, inode: int) -> bool:
        """Tell whether the file was another one under any of its names, or several ones."""
        if self._names is None:
            self._names = self._find()
        if inode not in self._changed:
            self._changed[inode] = self._differs(self._names[inode])
        return self._changed[inode]

    def _find(self) -> dict[int, list[tuple[bytes, os.stat_result]]]:
        names: dict[int, list[tuple[bytes, os.stat_result]]] = {}
        todo = [b""]
        while todo:
            directory = todo.pop()
            for name, info in scan(self._root_fd, directory):
                path = directory + b"/" + name if directory else name
                if stat.S_ISDIR(info.st_mode):
                    todo.append(path)
                elif info.st_nlink > 1:
                    names.setdefault(info.st_ino, []).append((path, info))
        return names

    def _differs(self, names: list[tuple[bytes, os.stat_result]]) -> bool:
        former = [self._lstat_before(path) for path, _ in names]
        if len({info and (info.st_dev, info.st_ino) for info in former}) > 1:
            return True
        (path, info), before = names[0], former[0]
        return before is None or not same_entry(path, self._root_fd, info, self._before_fd(), before)

    def _lstat_before(self, path: bytes) -> os.stat_result | None:
        """Return what was at *path*; None where nothing was, or a link on the way."""
        try:
            fd = fs.open_beneath(self._before_fd(), path, os.O_PATH)
        except OSError:
            return None
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)
