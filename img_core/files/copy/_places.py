"""Places in the root file system that a copy writes to. Links resolve inside of it, and what is missing is made."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from img_core.files import fs, xattrs
from img_core.files.ownership import Owners
from img_core.files.walker import Walk
from img_core.spec.errors import ImgError

__all__ = ["NewDirectory", "OpenPlace", "TargetRoot", "finish_directory"]


@dataclass(frozen=True, slots=True)
class NewDirectory:
    """How directories look that are made on the way."""

    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class OpenPlace:
    """A name in an open directory; *path* is where that is in the root, links resolved. Close *fd* after use."""

    fd: int
    name: bytes
    path: bytes


class TargetRoot:
    """The root file system *fd*; nothing here leaves it, whatever links it holds. *now_ns* is the time of new directories."""

    def __init__(self, fd: int, owners: Owners, now_ns: int | None) -> None:
        self.fd = fd
        self.owners = owners
        self.now_ns = now_ns
        self._made: list[tuple[bytes, int]] = []
        self._changed: set[bytes] = set()
        self._times: dict[bytes, int] = {}

    def note_change(self, directory: bytes) -> None:
        """Remember that *directory*, a path without links, got an entry: its time is the clock's now, which `finish` corrects."""
        self._changed.add(directory)
        self._times.pop(directory, None)

    def forget_change(self, directory: bytes) -> None:
        """Let *directory*, a path without links, keep the time that it was given after all its entries."""
        self._changed.discard(directory)

    def note_time(self, directory: bytes, mtime_ns: int) -> None:
        """Let `finish` set the time of *directory*, a path without links, if nothing changes it until then."""
        self._times[directory] = mtime_ns
        self.forget_change(directory)

    def is_directory(self, path: bytes) -> bool:
        """Tell whether *path*, links followed, is a directory."""
        try:
            os.close(fs.open_in_root(self.fd, path or b".", os.O_PATH | os.O_DIRECTORY))
        except OSError:
            return False
        return True

    def directory(self, path: bytes, new: NewDirectory) -> tuple[int, bytes]:
        """Return ``(descriptor, path without links)`` of directory *path*, making it and its parents where they are missing."""
        with Walk(self.fd, path) as walk:
            while (name := walk.next()) is not None:
                self._step(walk, name, path, new)
            return walk.leave(), walk.path

    def place(self, path: bytes, new: NewDirectory) -> OpenPlace:
        """Return where a file *path* is to be written: links are followed, missing parents are made."""
        with Walk(self.fd, path) as walk:
            while (name := walk.next()) is not None:
                if walk.left:
                    self._step(walk, name, path, new)
                elif (target := _link_target(walk.here, name)) is None:
                    return OpenPlace(walk.leave(), name, walk.path_of(name))
                else:
                    with _errors(path, walk.path_of(name)):
                        walk.follow(target)
        raise ImgError(f"a directory is in the place of the file: `/{fs.show(path.strip(b'/'))}`")

    def _step(self, walk: Walk, name: bytes, wanted: bytes, new: NewDirectory) -> None:
        """Go to *name* on the way to *wanted*; make it if it is missing."""
        here = walk.path_of(name)
        try:
            fd = walk.look(name)
        except FileNotFoundError:
            self.make_directory(walk.here, name, here, new)
            fd = walk.look(name)
        except OSError as err:
            raise ImgError(f"cannot use `/{fs.show(here)}`: {os.strerror(err.errno or 0).lower()}") from err
        with _errors(wanted, here):
            walk.go(name, fd)

    def make_directory(self, parent_fd: int, name: bytes, path: bytes, new: NewDirectory) -> None:
        """Make directory *name* in *parent_fd*, where it will be *path*."""
        fs.mutation("mkdir", name)
        made = fs.mkdir_open(name, new.mode, dir_fd=parent_fd)
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
        try:
            info = os.fstat(fd)
            if new.uid != info.st_uid or new.gid != info.st_gid or self.owners.records:
                self.owners.set_fd(fd, new.uid, new.gid, fresh=True)
        finally:
            os.close(fd)
        listed = xattrs.hands_down_a_list(f"/proc/self/fd/{parent_fd}")  # else the umask took something
        self._made.append((path, new.mode & (made | ~0o777) if listed else new.mode))
        self.note_change(path.rpartition(b"/")[0])

    def finish(self) -> None:
        """Give the directories that were made their mode and time; at the end, because they would be in the way of their content.

        With a fixed time of what has none of its own, the directories that were there before and changed get it, too: the clock must not
        be in an image that is made twice.
        """
        times = dict.fromkeys(self._changed, self.now_ns) | self._times
        for path in times.keys() - {path for path, _ in self._made}:
            finish_directory(self.fd, path, None, times[path], self.owners)
        for path, mode in reversed(self._made):
            finish_directory(self.fd, path, mode, times.get(path, self.now_ns), self.owners)
        self._made.clear()
        self._changed.clear()
        self._times.clear()


def finish_directory(root_fd: int, path: bytes, mode: int | None, mtime_ns: int | None, owners: Owners) -> None:
    """Give directory *path* below *root_fd* its *mode* and time, if it is still a directory: an archive may have replaced it.

    None leaves the one or the other alone.
    """
    if mode is None and mtime_ns is None:
        return
    try:
        fd = fs.open_beneath(root_fd, path or b".", os.O_RDONLY | os.O_DIRECTORY)
    except OSError as err:
        if err.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return
        raise
    try:
        if mode is not None:
            os.fchmod(fd, owners.mode_of(fd, mode, 0o700))
        if mtime_ns is not None:
            os.utime(fd, ns=(mtime_ns, mtime_ns))
    finally:
        os.close(fd)


@contextmanager
def _errors(wanted: bytes, here: bytes) -> Iterator[None]:
    """Say what is wrong with *here* on the way to *wanted*."""
    try:
        yield
    except OSError as err:
        if err.errno == errno.ELOOP:
            raise ImgError(f"too many links: `/{fs.show(wanted.strip(b'/'))}`") from err
        raise ImgError(f"not a directory: `/{fs.show(here)}`") from err


def _link_target(directory: int, name: bytes) -> bytes | None:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError:  # EINVAL: not a link; ENOENT
        return None
