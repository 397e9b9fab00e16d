"""What a step changed in a copied tree."""

from __future__ import annotations

import os
import stat
import time
from enum import Enum
from typing import TYPE_CHECKING, Final

from img_core.files import fs
from img_core.spec.errors import StateError
from img_lib_layers.changes import TreeChanges, same_entry, scan
from img_lib_layers.linked import LinkedFiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["CopyChanges", "read_index", "write_index"]

_TICK: Final = 0.001  # seconds; a kernel's clock for files has 1 to 10 of them between two times
_MOST_TICKS: Final = 100  # where files have whole seconds, more is compared than has to be


class Directory(Enum):
    """What is known about a directory."""

    NEW = 1  #: the parent snapshot has none at this path
    COPIED = 2  #: it is the copy of the parent's directory: what is older than the index was not changed
    UNSURE = 3  #: the parent has one, but this one came from elsewhere: everything has to be compared


class CopyChanges(TreeChanges[Directory]):
    """Compares with the parent's tree what may have changed since the copy was made.

    Whatever happens to a file after the copy gives it a ctime that is not older than the index, which was written last; also a rename
    does, of the renamed thing. But the content of a renamed directory keeps its ctimes, so directories are known by inode number.
    Where a write through memory changes no time (*times_tell* is False), all files are compared.
    """

    def __init__(self, root_fd: int, records: str, index: str, base_fd: int, *, times_tell: bool = True) -> None:
        super().__init__(root_fd, records)
        self._times_tell = times_tell
        self._base_fd = base_fd
        self._inodes, self._copied_at = read_index(index)
        self._linked = LinkedFiles(root_fd, lambda: self._base_fd)

    def close(self) -> None:
        """Release both trees."""
        super().close()
        fd, self._base_fd = self._base_fd, -1
        if fd >= 0:
            os.close(fd)

    def _root_state(self) -> Directory:
        return Directory.NEW if self._base_fd < 0 else Directory.COPIED

    def _entries(self, path: bytes, state: Directory) -> Iterable[tuple[bytes, os.stat_result | None]]:
        found: list[tuple[bytes, os.stat_result | None]] = list(scan(self.root_fd, path))
        if state is Directory.NEW:
            return found
        if state is Directory.COPIED and self._untouched(os.stat(path or b".", dir_fd=self.root_fd)):
            return found  # nothing was added or taken away
        here = {name for name, _ in found}
        found.extend((name, None) for name, _ in scan(self._base_fd, path) if name not in here)
        found.sort(key=_name)
        return found

    def _judge(self, path: bytes, info: os.stat_result, state: Directory) -> tuple[bool, Directory]:
        if state is Directory.NEW:
            return True, state
        directory = stat.S_ISDIR(info.st_mode)
        below = Directory.UNSURE
        if state is Directory.COPIED and (not directory or self._inodes.get(path) == info.st_ino):
            below = Directory.COPIED
            if self._untouched(info):
                return False, below
        try:
            before = os.stat(path, dir_fd=self._base_fd, follow_symlinks=False)
        except FileNotFoundError:
            return True, Directory.NEW
        if not directory:
            if info.st_nlink > 1:
                return self._linked.changed(info.st_ino), below
            return not same_entry(path, self.root_fd, info, self._base_fd, before), below
        if not stat.S_ISDIR(before.st_mode):
            return True, Directory.NEW
        return not same_entry(path, self.root_fd, info, self._base_fd, before), below

    def _untouched(self, info: os.stat_result) -> bool:
        return self._times_tell and info.st_ctime_ns < self._copied_at


def _name(entry: tuple[bytes, object]) -> bytes:
    return entry[0]


def write_index(path: str, inodes: Mapping[bytes, int]) -> None:
    """Write the inode numbers of directories; the file's own ctime tells when the copy was complete: later than that of all in the copy."""
    fs.replace_file(path, b"".join(b"%d %b\0" % (inode, name) for name, inode in inodes.items()))
    complete = os.stat(path).st_ctime_ns
    for _ in range(_MOST_TICKS):
        os.utime(path)
        if os.stat(path).st_ctime_ns > complete:
            break
        time.sleep(_TICK)


def read_index(path: str) -> tuple[dict[bytes, int], int]:
    """Return what `write_index` wrote, and when, in nanoseconds."""
    try:
        with open(path, "rb") as file:
            content = file.read()
            written = os.fstat(file.fileno()).st_ctime_ns
        inodes = {}
        for line in content.split(b"\0")[:-1]:
            inode, _, name = line.partition(b" ")
            inodes[name] = int(inode)
    except (OSError, ValueError) as err:
        raise StateError(
            "the directory index of a snapshot is damaged", hint="remove the image and pull it again"
        ) from err
    return inodes, written
