"""Trees to copy from: a build context, a checkout, another stage. Whatever links they hold, nothing outside is looked at."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import field
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from img_core.files import fs
from img_core.files.walker import Walk
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import ImgError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.files.ignore import IgnoreMatcher

__all__ = [
    "FileInfo",
    "SourceTree",
    "follow",
    "list_directory",
    "lookup",
    "open_directory",
    "read_error",
    "reading",
    "resolve",
]

_GONE = (errno.ENOENT, errno.ENOTDIR)


class FileInfo(NamedTuple):
    """The part of a stat result that a copy needs: a third of the memory, which counts for hundreds of thousands of files."""

    st_mode: int
    st_ino: int
    st_dev: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_size: int
    st_rdev: int
    st_mtime_ns: int
    st_ctime_ns: int


_fields_of = attrgetter(*FileInfo._fields)
_make = FileInfo._make


@dataclass(frozen=True, slots=True, eq=False)
class SourceTree:
    """A directory tree below *fd*, a directory descriptor that stays open while the tree is in use.

    *ignore* hides what an ignore file names; *ignore_name* and *name* are for messages. With *keep_owner* (stages and images) entries
    bring their owners and extended attributes along, else they belong to 0:0; *owners* are the records of entries that cannot carry
    one (`Snapshotter.owners`).
    """

    fd: int
    name: str = "the build context"
    ignore: IgnoreMatcher | None = None
    ignore_name: str = ""
    keep_owner: bool = False
    owners: Mapping[bytes, tuple[int, int]] = field(default_factory=dict)

    def hides(self, path: bytes) -> bool:
        """Tell whether the ignore file takes *path* out of the tree."""
        return self.ignore is not None and bool(path) and self.ignore.excludes(path)

    def shows_below(self, path: bytes) -> bool:
        """Tell whether something below the hidden directory *path* may be visible nevertheless."""
        return self.ignore is not None and self.ignore.may_reinclude_below(path)


def read_error(tree: SourceTree, path: bytes, err: OSError) -> ImgError:
    """Say that *path* of *tree* cannot be read."""
    hint = None
    if err.errno in (errno.EACCES, errno.EPERM):
        where = f" in `{tree.ignore_name}`" if tree.ignore_name else ""
        hint = f"make it readable or exclude it{where}" if not tree.keep_owner else None
    reason = os.strerror(err.errno).lower() if err.errno else str(err)  # without the name of the system call
    return ImgError(f"cannot read `/{fs.show(path)}` in {tree.name}: {reason}", hint=hint)


@contextmanager
def reading(tree: SourceTree, path: bytes) -> Iterator[None]:
    """Say of an OSError that *path* of *tree* cannot be read."""
    try:
        yield
    except OSError as err:
        raise read_error(tree, path, err) from err


def lookup(tree: SourceTree, path: bytes) -> FileInfo | None:
    """Return the lstat result of *path*, whose parents are no links; None when it does not exist."""
    try:
        fd = fs.open_beneath(tree.fd, path or b".", os.O_PATH)
    except OSError as err:
        if err.errno in _GONE:
            return None
        raise read_error(tree, path, err) from err
    try:
        return _make(_fields_of(os.fstat(fd)))
    finally:
        os.close(fd)


def open_directory(tree: SourceTree, path: bytes) -> int:
    """Open directory *path*, whose parents are no links."""
    with reading(tree, path):
        return fs.open_beneath(tree.fd, path or b".", os.O_RDONLY | os.O_DIRECTORY)


def list_directory(tree: SourceTree, path: bytes) -> list[tuple[bytes, FileInfo]]:
    """Return ``(name, lstat result)`` of the entries of *path*, sorted by name; ignored ones included, but not what is gone meanwhile."""
    fd = open_directory(tree, path)
    found = []
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                try:
                    found.append((os.fsencode(entry.name), _make(_fields_of(entry.stat(follow_symlinks=False)))))
                except FileNotFoundError:
                    continue
    except OSError as err:
        raise read_error(tree, path, err) from err
    finally:
        os.close(fd)
    found.sort()
    return found


class Way(NamedTuple):
    """Where a path leads: *path* and what is there, or the first *path* on the way where nothing is to be seen.

    *link* is a link and its target, if it is the target that leads nowhere.
    """

    path: bytes
    info: FileInfo | None
    link: tuple[bytes, bytes] | None


def resolve(tree: SourceTree, path: bytes, *, last: bool = True) -> tuple[bytes, FileInfo] | None:
    """Follow the links on *path* inside the tree; return where it leads, or None where that does not exist or is hidden.

    A directory that the ignore file hides is returned if something below it may be visible. Without *last*, a link at the end of *path*
    is returned itself.
    """
    way = follow(tree, path, last=last)
    return None if way.info is None else (way.path, way.info)


def follow(tree: SourceTree, path: bytes, *, last: bool = True) -> Way:
    """Follow *path* as `resolve` does, and tell where it ended. Raises ImgError for a circle of links."""
    link: tuple[bytes, bytes] | None = None
    behind = 0  # how many parts follow those of the link's target
    with Walk(tree.fd, path) as walk:
        while (name := walk.next()) is not None:
            if walk.left < behind:
                link = None
            here = walk.path_of(name)
            try:
                fd = walk.look(name)
            except OSError as err:
                if err.errno in _GONE:
                    return Way(here, None, link)
                raise read_error(tree, here, err) from err
            info = _make(_fields_of(os.fstat(fd)))
            is_link, is_directory = stat.S_ISLNK(info.st_mode), stat.S_ISDIR(info.st_mode)
            hidden = tree.hides(here) and not (is_directory and tree.shows_below(here))
            if hidden or not (is_directory or (is_link and (walk.left or last))):
                os.close(fd)
                is_reached = not hidden and not walk.left
                return Way(
                    here if hidden or is_reached else _joined(here, walk.next()), info if is_reached else None, link
                )
            left = walk.left
            try:
                target = walk.go(name, fd)
            except OSError as err:
                if err.errno == errno.ELOOP:
                    raise ImgError(f"too many links: `/{fs.show(path)}` in {tree.name}") from err
                raise read_error(tree, here, err) from err
            if target is not None:
                link, behind = (here, target), left
        return Way(walk.path, _make(_fields_of(os.fstat(walk.here))), link)


def _joined(path: bytes, name: bytes | None) -> bytes:
    return path + b"/" + name if name else path
