"""A walk over a tree that hostile content shaped: sorted, by descriptors only, of any depth, with one directory open."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from img_core.files import fs, xattrs
from img_core.spec.errors import ImgError
from img_core.spec.text import why

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Climber", "Entry", "EntryLook", "look_of", "reading", "root_of", "tree_size", "walk"]

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class Entry:
    """One entry of a walk; *parent_fd* is valid until the walk goes on.

    *path* is relative to the root, without a leading slash. With *leaving* a directory is mentioned again after its content.
    """

    path: bytes
    name: bytes
    parent_fd: int
    info: os.stat_result
    leaving: bool = False

    def open(self) -> int:
        """Open a regular file for reading. Raises ImgError when it is not the file any more that the walk has seen."""
        with reading(self.path):
            fd = os.open(self.name, _READ, dir_fd=self.parent_fd)
        info = os.fstat(fd)
        if (info.st_dev, info.st_ino) != (self.info.st_dev, self.info.st_ino) or not stat.S_ISREG(info.st_mode):
            os.close(fd)
            raise ImgError(f"file changed while it was read: `{fs.show(self.path)}`")
        return fd


class EntryLook(NamedTuple):
    """How an entry is to look in an image: *mode* as in a stat result, and its owner."""

    mode: int
    uid: int
    gid: int


def look_of(entry: Entry, recorded: tuple[int, int] | None) -> EntryLook:
    """Return the look of *entry*, which lstat(2) does not tell where we can give files no owner, or need permissions that they lack.

    *recorded* is what the tree says of its owner (`img_core.spec.exporter.Tree.owner`).
    """
    info, marks = entry.info, xattrs.Marks()
    if stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode):
        with reading(entry.path or b"/"):
            fd = os.open(entry.name, _READ, dir_fd=entry.parent_fd)
            try:
                marks = xattrs.read_all(fd)
            finally:
                os.close(fd)
    owner = recorded or marks.owner_of(info.st_uid, info.st_gid)
    return EntryLook(stat.S_IFMT(info.st_mode) | marks.mode_of(info.st_mode), *owner)


def root_of(fd: int) -> Entry:
    """Return the directory *fd* itself, which `walk` leaves out, as an entry with an empty path; *fd* may be one of ``O_PATH``."""
    return Entry(b"", b".", fd, os.fstat(fd))


@contextlib.contextmanager
def reading(path: bytes) -> Iterator[None]:
    """Turn `OSError` into a line that names *path*, an entry of the tree that is read."""
    try:
        yield
    except OSError as err:
        raise ImgError(f"cannot read `{fs.show(path)}` of the image: {why(err)}") from err


class Climber:
    """Goes down and up in a tree with one descriptor: the way back is ``..``, verified by device and inode."""

    def __init__(self, root_fd: int) -> None:
        self.fd = os.open(b".", _DIRECTORY, dir_fd=root_fd)
        self._above: list[tuple[int, int]] = []

    def down(self, name: bytes) -> None:
        """Enter the directory *name*; a symlink is an `OSError`."""
        info = os.fstat(self.fd)
        self._move(os.open(name, _DIRECTORY, dir_fd=self.fd))
        self._above.append((info.st_dev, info.st_ino))

    def up(self) -> None:
        """Return to the directory that `down` left."""
        self._move(os.open(b"..", _DIRECTORY, dir_fd=self.fd))
        info = os.fstat(self.fd)
        if (info.st_dev, info.st_ino) != self._above.pop():
            raise ImgError("a directory was moved while it was in use")

    def close(self) -> None:
        """Release the descriptor; harmless when called twice."""
        if self.fd >= 0:
            self._move(-1)

    def _move(self, to: int) -> None:
        # Forgotten first: a signal may raise right behind close(2), and by then the number may be that of another file.
        left, self.fd = self.fd, to
        os.close(left)


def walk(root_fd: int) -> Iterator[Entry]:
    """Yield everything below *root_fd*: a directory right before its content, and once more behind it."""
    here = Climber(root_fd)
    try:
        # one frame per level: the directory's own entry and the names that are left in it, last first
        frames: list[tuple[Entry | None, list[bytes]]] = [(None, _names(here.fd, b""))]
        while frames:
            directory, names = frames[-1]
            if not names:
                frames.pop()
                if directory is not None:
                    here.up()
                    yield Entry(directory.path, directory.name, here.fd, directory.info, leaving=True)
                continue
            name = names.pop()
            path = name if directory is None else directory.path + b"/" + name
            with reading(path):
                info = os.stat(name, dir_fd=here.fd, follow_symlinks=False)
            entry = Entry(path, name, here.fd, info)
            yield entry
            if stat.S_ISDIR(info.st_mode):
                with reading(path):
                    here.down(name)
                    frames.append((entry, _names(here.fd, path)))
    finally:
        here.close()


def _names(fd: int, path: bytes) -> list[bytes]:
    with reading(path or b"/"), os.scandir(fd) as entries:
        return sorted((os.fsencode(entry.name) for entry in entries), reverse=True)


def tree_size(path: str) -> int:
    """Return the bytes that the file or directory *path* occupies on disk; hard links count once, what vanishes meanwhile not at all."""
    total = 0
    linked: set[tuple[int, int]] = set()
    pending = [path]
    while pending:
        current = pending.pop()
        try:
            info = os.lstat(current)
            if info.st_nlink > 1 and not os.path.isdir(current):
                if (info.st_dev, info.st_ino) in linked:
                    continue
                linked.add((info.st_dev, info.st_ino))
            total += info.st_blocks * 512
            if (info.st_mode & 0o170000) == 0o040000:
                with os.scandir(current) as entries:
                    pending.extend(entry.path for entry in entries)
        except OSError:
            continue
    return total
