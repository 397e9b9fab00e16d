"""Places in the root file system that a copy writes to. Links resolve inside of it, and what is missing is made."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from img_core.files import fs
from img_core.files.ownership import Owners
from img_core.spec.errors import ImgError

__all__ = ["NewDirectory", "OpenPlace", "TargetRoot", "finish_directory"]

_LINK_LIMIT = 40  # the kernel's own, see path_resolution(7)
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


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

    def note_time(self, directory: bytes, mtime_ns: int) -> None:
        """Let `finish` set the time of *directory*, a path without links, if nothing changes it until then."""
        self._times[directory] = mtime_ns
        self._changed.discard(directory)

    def is_directory(self, path: bytes) -> bool:
        """Tell whether *path*, links followed, is a directory."""
        try:
            os.close(fs.open_in_root(self.fd, path or b".", os.O_PATH | os.O_DIRECTORY))
        except OSError:
            return False
        return True

    def directory(self, path: bytes, new: NewDirectory) -> tuple[int, bytes]:
        """Return ``(descriptor, path without links)`` of directory *path*, making it and its parents where they are missing."""
        walk = _Walk(self, path, new)
        return walk.directory()

    def place(self, path: bytes, new: NewDirectory) -> OpenPlace:
        """Return where a file *path* is to be written: links are followed, missing parents are made."""
        walk = _Walk(self, path, new)
        return walk.place()

    def make_directory(self, parent_fd: int, name: bytes, path: bytes, new: NewDirectory) -> None:
        """Make directory *name* in *parent_fd*, where it will be *path*."""
        fs.mutation("mkdir", name)
        os.mkdir(name, 0o700, dir_fd=parent_fd)
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
        try:
            info = os.fstat(fd)
            if new.uid != info.st_uid or new.gid != info.st_gid or self.owners.records:
                self.owners.set_fd(fd, new.uid, new.gid, fresh=True)
        finally:
            os.close(fd)
        self._made.append((path, new.mode))
        self.note_change(path.rpartition(b"/")[0])

    def finish(self) -> None:
        """Give the directories that were made their mode and time; at the end, because they would be in the way of their content.

        With a fixed time of what has none of its own, the directories that were there before and changed get it, too: the clock must not
        be in an image that is made twice.
        """
        times = dict.fromkeys(self._changed, self.now_ns) | self._times
        for path in times.keys() - {path for path, _ in self._made}:
            finish_directory(self.fd, path, None, times[path])
        for path, mode in reversed(self._made):
            finish_directory(self.fd, path, mode, times.get(path, self.now_ns))
        self._made.clear()
        self._changed.clear()
        self._times.clear()


def finish_directory(root_fd: int, path: bytes, mode: int | None, mtime_ns: int | None) -> None:
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
            os.fchmod(fd, mode)
        if mtime_ns is not None:
            os.utime(fd, ns=(mtime_ns, mtime_ns))
    finally:
        os.close(fd)


class _Walk:
    """Goes down one path, keeping every directory on the way open so that ``..`` is where we came from."""

    def __init__(self, root: TargetRoot, path: bytes, new: NewDirectory) -> None:
        self.root = root
        self.wanted = path
        self.new = new
        self.todo = [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]
        self.names: list[bytes] = []
        self.fds = [os.open(b".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root.fd)]
        self.links = 0

    def directory(self) -> tuple[int, bytes]:
        try:
            while self.todo:
                self._step()
            return self.fds.pop(), b"/".join(self.names)
        finally:
            self._close()

    def place(self) -> OpenPlace:
        try:
            while True:
                while len(self.todo) > 1:
                    self._step()
                if not self.todo or self.todo[0] == b"..":
                    raise ImgError(f"a directory is in the place of the file: `/{fs.show(self.wanted.strip(b'/'))}`")
                name = self.todo.pop()
                target = self._link_target(name)
                if target is None:
                    return OpenPlace(self.fds.pop(), name, b"/".join([*self.names, name]))
                self._follow(target)
        finally:
            self._close()

    def _close(self) -> None:
        for fd in self.fds:
            os.close(fd)

    def _step(self) -> None:
        name = self.todo.pop()
        if name == b"..":
            if self.names:
                self.names.pop()
                os.close(self.fds.pop())
            return
        here = self.fds[-1]
        try:
            fd = os.open(name, _LOOK, dir_fd=here)
        except FileNotFoundError:
            self.root.make_directory(here, name, b"/".join([*self.names, name]), self.new)
            fd = os.open(name, _LOOK, dir_fd=here)
        except OSError as err:
            path = b"/".join([*self.names, name])
            raise ImgError(f"cannot use `/{fs.show(path)}`: {os.strerror(err.errno or 0).lower()}") from err
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            self.fds.append(fd)
            self.names.append(name)
            return
        try:
            if not stat.S_ISLNK(mode):
                raise ImgError(f"not a directory: `/{fs.show(b'/'.join([*self.names, name]))}`")
            target = os.readlink(b"", dir_fd=fd)
        finally:
            os.close(fd)
        self._follow(target)

    def _link_target(self, name: bytes) -> bytes | None:
        try:
            return os.readlink(name, dir_fd=self.fds[-1])
        except OSError:  # EINVAL: not a link; ENOENT
            return None

    def _follow(self, target: bytes) -> None:
        self.links += 1
        if self.links > _LINK_LIMIT:
            raise ImgError(f"too many links: `/{fs.show(self.wanted.strip(b'/'))}`")
        if target.startswith(b"/"):
            for fd in self.fds[1:]:
                os.close(fd)
            del self.fds[1:]
            self.names.clear()
        self.todo.extend(part for part in reversed(target.split(b"/")) if part not in (b"", b"."))
