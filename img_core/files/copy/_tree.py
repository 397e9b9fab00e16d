"""Trees to copy from: a build context, a checkout, another stage. Whatever links they hold, nothing outside is looked at."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import field
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from img_core.files import fs
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import ImgError

if TYPE_CHECKING:
    from img_core.files.ignore import IgnoreMatcher

__all__ = [
    "FileInfo",
    "SourceTree",
    "follow",
    "list_directory",
    "lookup",
    "open_directory",
    "read_error",
    "resolve",
]

_LINK_LIMIT = 40  # the kernel's own, see path_resolution(7)
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
    try:
        return fs.open_beneath(tree.fd, path or b".", os.O_RDONLY | os.O_DIRECTORY)
    except OSError as err:
        raise read_error(tree, path, err) from err


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
    todo = path.split(b"/")[::-1]
    done: list[bytes] = []
    link: tuple[bytes, bytes] | None = None
    links = behind = 0  # behind: how many parts follow those of the link's target
    info = lookup(tree, b"")
    while todo and info is not None:
        if len(todo) <= behind:
            link = None
        part = todo.pop()
        if part in (b"", b"."):
            continue
        if part == b"..":
            done = done[:-1]
            info = lookup(tree, b"/".join(done))
            continue
        done.append(part)
        here = b"/".join(done)
        info = lookup(tree, here)
        if info is None or (tree.hides(here) and not (stat.S_ISDIR(info.st_mode) and tree.shows_below(here))):
            return Way(here, None, link)
        if stat.S_ISLNK(info.st_mode) and (todo or last):
            links += 1
            if links > _LINK_LIMIT:
                raise ImgError(f"too many links: `/{fs.show(path)}` in {tree.name}")
            done.pop()
            link = here, _read_link(tree, here)
            behind = len(todo)
            if link[1].startswith(b"/"):
                done.clear()
            todo.extend(link[1].split(b"/")[::-1])
            info = lookup(tree, b"/".join(done))
    return Way(b"/".join(done), info, link)


def _read_link(tree: SourceTree, path: bytes) -> bytes:
    try:
        fd = fs.open_beneath(tree.fd, path, os.O_PATH)
        try:
            return os.readlink(b"", dir_fd=fd)
        finally:
            os.close(fd)
    except OSError as err:  # no link any more
        raise read_error(tree, path, err) from err
