"""Make mount points that an image lacks, and remove them after the step as if they had never been there.

Nothing runs in the root file system while this works on it, and every lookup goes through directory descriptors with
symlinks resolved beneath the root, so an image cannot lead us outside. What is removed is only what was made here: the same
inode, still empty.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from img_core.files import fs
from img_core.files.faults import mutation
from img_core.files.walker import Walk
from img_core.spec.errors import StepError

__all__ = ["MountPoints"]

# The step has put something into it, or removed it: now it is the step's.
_CHANGED_BY_STEP: Final = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR)


@dataclass(frozen=True, slots=True)
class _Made:
    """An entry that we made: *parent_fd* and *name* say where, the times belong to the parent directory (nanoseconds)."""

    parent_fd: int
    name: str
    inode: int
    parent_atime: int
    parent_mtime_before: int
    parent_mtime_after: int


class MountPoints:
    """The mount points made in one root file system for one step. Use as a context manager: leaving removes them."""

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd
        self._made: list[_Made] = []

    def __enter__(self) -> MountPoints:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.remove()

    def ensure(self, target: str, *, directory: bool) -> None:
        """Make the absolute path *target* exist as a directory or an empty file. Raises StepError when it cannot."""
        try:
            fd = fs.open_in_root(self._root_fd, os.fsencode(target), os.O_PATH)
        except OSError as err:
            if err.errno != errno.ENOENT:
                raise StepError(f"cannot mount at `{target}`: {os.strerror(err.errno or 0)}") from err
            self._make(target, directory=directory)
            return
        try:
            found = stat.S_ISDIR(os.fstat(fd).st_mode)
        finally:
            os.close(fd)
        if found != directory:
            kinds = ("a directory", "a file") if directory else ("a file", "a directory")
            raise StepError(f"cannot mount {kinds[0]} at `{target}`: it is {kinds[1]} in the image")

    def refuse_symlink(self, name: str) -> None:
        """Raise StepError if the entry *name* of the root directory is a symbolic link."""
        try:
            mode = os.stat(name, dir_fd=self._root_fd, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISLNK(mode):
            raise StepError(f"`/{name}` in the image is a symbolic link", hint="it must be a directory or absent")

    def remove(self) -> None:
        """Remove what was made and is still untouched, newest first; give the parents their times back.

        Raises StepError when the disk refuses: else the mount point would become part of the image.
        """
        failure: OSError | None = None
        while self._made:
            entry = self._made.pop()
            try:
                _remove(entry)
            except OSError as err:
                if err.errno not in _CHANGED_BY_STEP:
                    failure = failure or err
            finally:
                os.close(entry.parent_fd)
        if failure is not None:
            raise StepError(
                f"cannot remove a mount point from the image: {os.strerror(failure.errno or 0)}"
            ) from failure

    def _make(self, target: str, *, directory: bool) -> None:
        """Walk to *target* by hand, through symlinks as the container will see them, and make what is missing."""
        try:
            with Walk(self._root_fd, os.fsencode(target)) as walk:
                while (name := walk.next()) is not None:
                    fd = self._step(walk, name, directory=directory or bool(walk.left))
                    mode = os.fstat(fd).st_mode
                    if not (walk.left or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
                        os.close(fd)
                        return
                    walk.go(name, fd)
        except OSError as err:
            raise StepError(f"cannot make the mount point `{target}`: {os.strerror(err.errno or 0)}") from err

    def _step(self, walk: Walk, name: bytes, *, directory: bool) -> int:
        try:
            return walk.look(name)
        except FileNotFoundError:
            with suppress(FileExistsError):  # another step in the same root made it meanwhile, and will remove it
                self._create(walk.here, os.fsdecode(name), directory=directory)
            return walk.look(name)

    def _create(self, parent_fd: int, name: str, *, directory: bool) -> None:
        parent = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent_fd)
        try:
            before = os.fstat(parent)
            mutation("mkdir" if directory else "create", name)
            if directory:
                fs.mkdir_open(name, 0o755, dir_fd=parent)
            else:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                os.close(os.open(name, flags, 0o644, dir_fd=parent))
            inode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_ino
            after = os.fstat(parent).st_mtime_ns
        except BaseException:
            os.close(parent)
            raise
        self._made.append(_Made(parent, name, inode, before.st_atime_ns, before.st_mtime_ns, after))


def _remove(entry: _Made) -> None:
    found = os.stat(entry.name, dir_fd=entry.parent_fd, follow_symlinks=False)
    parent_mtime = os.fstat(entry.parent_fd).st_mtime_ns
    if found.st_ino != entry.inode:
        return
    if stat.S_ISDIR(found.st_mode):
        mutation("rmdir", entry.name)
        os.rmdir(entry.name, dir_fd=entry.parent_fd)
    elif stat.S_ISREG(found.st_mode) and found.st_size == 0:
        mutation("unlink", entry.name)
        os.unlink(entry.name, dir_fd=entry.parent_fd)
    else:
        return
    untouched = parent_mtime == entry.parent_mtime_after
    mtime = entry.parent_mtime_before if untouched else parent_mtime
    os.utime(entry.parent_fd, ns=(entry.parent_atime, mtime))
