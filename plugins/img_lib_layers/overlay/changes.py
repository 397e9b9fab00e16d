"""What an overlay's upper directory says about the step that wrote it."""

from __future__ import annotations

import errno
import os
import stat
from enum import Enum
from typing import TYPE_CHECKING

from img_lib_layers.changes import TreeChanges, same_entry, scan
from img_lib_layers.linked import LinkedFiles
from img_lib_layers.overlay.layout import MOUNT_POINTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from img_core.spec.snapshotter import Rootfs

_OPAQUE = "user.overlay.opaque"
_ORIGIN = "user.overlay.origin"
_STUB_DIRECTORIES = {name.rstrip(b"/") for name in MOUNT_POINTS if name.endswith(b"/")}


class Directory(Enum):
    """What the parents have at the place of a directory."""

    NEW = 1  #: no directory
    MERGED = 2  #: a directory whose entries show through
    COVERED = 3  #: a directory that this one, or one above it, replaces


class OverlayChanges(TreeChanges[Directory]):
    """Whiteouts become deletions, and what was copied up without a change is left out.

    *view* mounts the merged parents (None: there are none); that happens when the first entry needs a comparison.
    """

    def __init__(self, root_fd: int, records: str, view: Callable[[], Rootfs] | None) -> None:
        super().__init__(root_fd, records)
        self._make_view = view
        self._view: Rootfs | None = None
        self._linked = LinkedFiles(root_fd, self._parents_fd)

    def close(self) -> None:
        """Release both trees."""
        super().close()
        view, self._view = self._view, None
        if view is not None:
            view.close()

    def _root_state(self) -> Directory:
        return Directory.NEW if self._make_view is None else Directory.MERGED

    def _entries(self, path: bytes, state: Directory) -> Iterable[tuple[bytes, os.stat_result | None]]:
        entries: dict[bytes, os.stat_result | None] = {}
        for name, info in scan(self.root_fd, path):
            if not _is_whiteout(info):
                entries[name] = info
            elif state is not Directory.NEW:
                entries[name] = None
        if state is Directory.COVERED:
            for name, _ in scan(self._parents_fd(), path):
                entries.setdefault(name, None)
        return sorted(entries.items(), key=_name)

    def _judge(self, path: bytes, info: os.stat_result, state: Directory) -> tuple[bool, Directory]:
        before = None if state is Directory.NEW else _lstat(self._parents_fd(), path)
        directory = stat.S_ISDIR(info.st_mode)
        if before is None:
            return not (directory and self._comes_from_stub(path)), Directory.NEW
        if not directory and info.st_nlink > 1:
            return self._linked.changed(info.st_ino), state
        below = self._below(path, before, state) if directory else state
        return not same_entry(path, self.root_fd, info, self._parents_fd(), before), below

    def _below(self, path: bytes, before: os.stat_result, state: Directory) -> Directory:
        if not stat.S_ISDIR(before.st_mode):
            return Directory.NEW
        # Only the topmost of the replacing directories carries the mark.
        covered = state is Directory.COVERED or _attribute(self.root_fd, path, _OPAQUE) == b"y"
        return Directory.COVERED if covered else Directory.MERGED

    def _parents_fd(self) -> int:
        if self._view is None:
            assert self._make_view is not None
            self._view = self._make_view()
        return self._view.fd

    def _comes_from_stub(self, path: bytes) -> bool:
        """Tell whether directory *path* is a copy of a mount point's parent, which no layer has."""
        return path in _STUB_DIRECTORIES and _attribute(self.root_fd, path, _ORIGIN) is not None


def _name(entry: tuple[bytes, object]) -> bytes:
    return entry[0]


def _is_whiteout(info: os.stat_result) -> bool:
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def _lstat(root_fd: int, path: bytes) -> os.stat_result | None:
    try:
        return os.stat(path, dir_fd=root_fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _attribute(root_fd: int, path: bytes, name: str) -> bytes | None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root_fd)
    try:
        return os.getxattr(fd, name)
    except OSError as err:
        if err.errno in (errno.ENODATA, errno.ENOTSUP):
            return None
        raise
    finally:
        os.close(fd)


def hides(files: str, path: bytes) -> bool:
    """Tell whether the layer in the directory *files* has something at *path* or took away one of its parents."""
    root = os.open(files, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        parts = path.split(b"/")
        for end in range(1, len(parts) + 1):
            prefix = b"/".join(parts[:end])
            info = _lstat(root, prefix)
            if info is None:
                return False
            if end == len(parts) or not stat.S_ISDIR(info.st_mode):
                return True
            if _attribute(root, prefix, _OPAQUE) == b"y":
                return True
        return False
    finally:
        os.close(root)
