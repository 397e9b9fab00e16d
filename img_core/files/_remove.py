"""Removing trees that hostile content shaped; the public names are in `img_core.files.fs`."""

from __future__ import annotations

import errno
import os
import stat

from img_core.files import _rooted
from img_core.files.faults import mutation
from img_core.spec.errors import ImgError

_SAME_MOUNT = _rooted.RESOLVE_BENEATH | _rooted.RESOLVE_NO_SYMLINKS | _rooted.RESOLVE_NO_XDEV
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: bytes | str, *, dir_fd: int | None = None, cross_devices: bool = False) -> None:
    """Remove *path* and everything below it; do nothing when it does not exist.

    Works on descriptors only, follows no link, needs no recursion and one descriptor whatever the depth, and copes with
    directories that deny access to their owner. Stops with `ImgError` at another mount unless *cross_devices*.
    """
    name = os.fsencode(path)
    head, _, tail = name.rstrip(b"/").rpartition(b"/")
    if tail in (b"", b".", b".."):
        raise ValueError(f"refusing to remove {name!r}")
    try:
        parent = os.open(head or (b"/" if name.startswith(b"/") else b"."), os.O_PATH | os.O_DIRECTORY, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    try:
        remove_entry(parent, tail, cross_devices=cross_devices)
    finally:
        os.close(parent)


def remove_entry(parent_fd: int, name: bytes, *, cross_devices: bool = False) -> None:
    """Remove the entry *name*, whatever it is, of the directory *parent_fd*; nothing happens when it is missing."""
    mutation("unlink", name)
    try:
        os.unlink(name, dir_fd=parent_fd)
        return
    except FileNotFoundError:
        return
    except OSError as err:
        if err.errno not in (errno.EISDIR, errno.EPERM, errno.EACCES):
            raise
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode):
            raise
    if _removed_empty(parent_fd, name):
        return
    _Remover(cross_devices).remove(parent_fd, name)
    mutation("rmdir", name)
    os.rmdir(name, dir_fd=parent_fd)


def _removed_empty(parent_fd: int, name: bytes) -> bool:
    """Try to remove a directory as if it were empty; what `_Remover` needs costs 3 ms to import, and most run directories are empty."""
    mutation("rmdir", name)
    try:
        os.rmdir(name, dir_fd=parent_fd)
    except OSError:  # it has entries, or is a mount: the other way tells
        return False
    return True


class _Remover:
    """Empties one directory. Only the current directory is open; the way back is `..`, verified by device and inode."""

    def __init__(self, cross_devices: bool) -> None:
        self.resolve = _SAME_MOUNT & ~_rooted.RESOLVE_NO_XDEV if cross_devices else _SAME_MOUNT

    def remove(self, parent_fd: int, name: bytes) -> None:
        """Empty the directory *name* of *parent_fd*."""
        here = self._open(parent_fd, name)
        try:
            # One frame per level: the name of the directory, who its parent is, and what is left to do in it.
            stack = [(name, (0, 0), self._unlink_files(here))]
            while True:
                child, above, todo = stack[-1]
                if todo:
                    name = todo.pop()
                    info = os.fstat(here)
                    # In this order: a signal may raise right behind close(2), and nobody may close that number again.
                    left, here = here, self._open(here, name)
                    os.close(left)
                    stack.append((name, (info.st_dev, info.st_ino), self._unlink_files(here)))
                    continue
                stack.pop()
                if not stack:
                    return
                left, here = here, os.open(b"..", _DIRECTORY, dir_fd=here)
                os.close(left)
                info = os.fstat(here)
                if (info.st_dev, info.st_ino) != above:
                    raise ImgError("a directory was moved while it was being removed")
                mutation("rmdir", child)
                os.rmdir(child, dir_fd=here)
        finally:
            os.close(here)

    def _open(self, parent_fd: int, name: bytes) -> int:
        """Open a directory for listing, after giving its owner access where that is missing."""
        try:
            return _rooted.open_rooted(parent_fd, name, _DIRECTORY, 0, self.resolve)
        except PermissionError:
            _grant(parent_fd, name)
            return _rooted.open_rooted(parent_fd, name, _DIRECTORY, 0, self.resolve)
        except OSError as err:
            if err.errno == errno.EXDEV:
                raise ImgError(f"not removing `{os.fsdecode(name)!a}`: something is mounted there") from err
            raise

    def _unlink_files(self, fd: int) -> list[bytes]:
        """Unlink what is not a directory in *fd*; return the names of the directories, in scanning order."""
        if os.fstat(fd).st_mode & 0o300 != 0o300:
            os.fchmod(fd, 0o700)
        directories: list[bytes] = []
        with os.scandir(fd) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    directories.append(name)
                else:
                    mutation("unlink", name)
                    os.unlink(name, dir_fd=fd)
        return directories


def _grant(parent_fd: int, name: bytes) -> None:
    """Change the mode of directory *name* to 0700 without following a link and without read access to it."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent_fd)
    try:
        mutation("chmod", name)
        os.chmod(f"/proc/self/fd/{fd}", 0o700)  # fchmod(2) refuses O_PATH descriptors; fchmodat2 is Linux 6.6
    finally:
        os.close(fd)
