"""Copies a tree of our own with everything that it has: owners, modes, times, attributes, hard links, holes, special files."""

from __future__ import annotations

import errno
import os
import stat
from functools import partial
from typing import TYPE_CHECKING

from img_core.files import fs, xattrs
from img_core.linux.parallel import run_together
from img_core.spec.errors import ImgError
from img_lib_layers.changes import scan

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["clone_tree", "copy_attributes"]

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY

# `trusted.` is invisible outside of real root and means nothing to an image; labels are given by the host's policy.
_COPIED_XATTRS = ("user.", "security.capability", "system.posix_acl_")
_UNSUPPORTED = (errno.ENOTSUP, errno.EPERM, errno.EINVAL)

_LARGE = 1 << 20  # bytes of a file from which on a thread is worth its while
_WORKERS = 4  # threads that copy large files: the kernel does the work, the interpreter waits


def clone_tree(source_fd: int, target_fd: int, check: Callable[[], None] = lambda: None) -> dict[bytes, int]:
    """Copy everything below *source_fd* into the empty directory *target_fd*, which gets the same look itself.

    Returns the inode number of every directory made, by path. Raises `ImgError` naming what could not be copied.
    """
    cloner = _Cloner(source_fd, target_fd)
    try:
        cloner.run(check)
    except OSError as err:
        is_of_disk = err.errno in fs.DISK_ERRORS and err.errno != errno.EFBIG and not isinstance(err, fs.SourceError)
        if is_of_disk:  # not the fault of one file
            raise fs.disk_error(err, b"/") from err
        raise ImgError(f"cannot copy `/{fs.show(cloner.here)}`: {os.strerror(err.errno or 0).lower()}") from err
    return cloner.inodes


class _Cloner:
    def __init__(self, source_fd: int, target_fd: int) -> None:
        self.source_fd = source_fd
        self.target_fd = target_fd
        self.inodes: dict[bytes, int] = {}
        self.here = b""
        self._links: dict[int, bytes] = {}
        self._large: list[Callable[[], None]] = []
        self._ids = (os.geteuid(), os.getegid())

    def run(self, check: Callable[[], None]) -> None:
        todo = [b""]
        made: list[tuple[bytes, os.stat_result, bytes]] = []
        while todo:
            check()
            path = todo.pop()
            self.here = path
            below = self._directory(path, made)
            todo.extend(reversed(below))
        run_together(self._large, workers=_WORKERS, stop=lambda: None)
        # Content disturbs the time, a mode may forbid content, and a list that is handed down is one of new files only.
        for path, info, handed_down in reversed(made):
            self.here = path
            if handed_down:
                self._hand_down(path, handed_down)
            os.chmod(path or b".", stat.S_IMODE(info.st_mode), dir_fd=self.target_fd)
            self._set_time(path or b".", info, self.target_fd)

    def _hand_down(self, path: bytes, access_list: bytes) -> None:
        directory = fs.open_beneath(self.target_fd, path or b".", _DIRECTORY)
        try:
            _set_attributes(directory, {xattrs.DEFAULT_LIST: access_list})
        finally:
            os.close(directory)

    def _directory(self, path: bytes, made: list[tuple[bytes, os.stat_result, bytes]]) -> list[bytes]:
        """Copy directory *path* and the files in it; return its directories."""
        source = fs.open_beneath(self.source_fd, path or b".", _DIRECTORY)
        try:
            if path:
                fs.mutation("mkdir", path)
                os.mkdir(path, 0o700, dir_fd=self.target_fd)
            target = fs.open_beneath(self.target_fd, path or b".", _DIRECTORY)
            try:
                info = os.fstat(source)
                self._own(target, info, inherits=True)
                attributes = _attributes(source)
                handed_down = attributes.pop(xattrs.DEFAULT_LIST, b"")
                _set_attributes(target, attributes)
                self.inodes[path] = os.fstat(target).st_ino
                made.append((path, info, handed_down))
                return self._files(path, source, target, _inherits(target))
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _files(self, path: bytes, source: int, target: int, inherits: bool) -> list[bytes]:
        below = []
        for name, info in scan(source, b""):
            entry = path + b"/" + name if path else name
            if stat.S_ISDIR(info.st_mode):
                below.append(entry)
                continue
            self.here = entry
            if info.st_nlink > 1 and self._linked(entry, info.st_ino, name, target):
                continue
            if info.st_size >= _LARGE and stat.S_ISREG(info.st_mode) and info.st_nlink == 1:
                self._large.append(partial(self._large_file, entry, info, inherits))
            elif stat.S_ISREG(info.st_mode):
                self._file(source, target, name, info, inherits)
            else:
                self._other(source, target, name, info, inherits)
        return below

    def _linked(self, entry: bytes, inode: int, name: bytes, target: int) -> bool:
        first = self._links.setdefault(inode, entry)
        if first is entry:
            return False
        fs.mutation("link", entry)
        os.link(first, name, src_dir_fd=self.target_fd, dst_dir_fd=target, follow_symlinks=False)
        return True

    def _large_file(self, path: bytes, info: os.stat_result, inherits: bool) -> None:
        try:
            self._file(self.source_fd, self.target_fd, path, info, inherits)
        except OSError:
            self.here = path
            raise

    def _file(self, source: int, target: int, name: bytes, info: os.stat_result, inherits: bool) -> None:
        fs.mutation("create", name)
        original = fs.of_source(os.open, name, _READ, dir_fd=source)
        try:
            copy = os.open(name, _CREATE, 0o600, dir_fd=target)
            try:
                if fs.copy_file(original, copy, info.st_size) != info.st_size:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                # In this order: a change of owner takes set-id bits and capabilities away.
                self._own(copy, info, inherits=inherits)
                copy_attributes(original, copy)
                os.fchmod(copy, stat.S_IMODE(info.st_mode))
                os.utime(copy, ns=(info.st_atime_ns, info.st_mtime_ns))
            finally:
                os.close(copy)
        finally:
            os.close(original)

    def _other(self, source: int, target: int, name: bytes, info: os.stat_result, inherits: bool) -> None:
        """Copy a symlink, FIFO, socket or device."""
        link = stat.S_ISLNK(info.st_mode)
        fs.mutation("symlink" if link else "mknod", name)
        if link:
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        else:
            os.mknod(name, stat.S_IFMT(info.st_mode) | 0o600, info.st_rdev, dir_fd=target)
        if inherits or (info.st_uid, info.st_gid) != self._ids:
            os.chown(name, info.st_uid, info.st_gid, dir_fd=target, follow_symlinks=False)
        if not link:
            os.chmod(name, stat.S_IMODE(info.st_mode), dir_fd=target)  # made a moment ago, so it is no link
        self._set_time(name, info, target)

    def _own(self, fd: int, info: os.stat_result, *, inherits: bool) -> None:
        if inherits or (info.st_uid, info.st_gid) != self._ids:
            os.fchown(fd, info.st_uid, info.st_gid)

    def _set_time(self, name: bytes, info: os.stat_result, dir_fd: int) -> None:
        os.utime(name, ns=(info.st_atime_ns, info.st_mtime_ns), dir_fd=dir_fd, follow_symlinks=False)


def _inherits(fd: int) -> bool:
    return bool(os.fstat(fd).st_mode & stat.S_ISGID)


def copy_attributes(source: int, target: int) -> None:
    """Give the open file or directory *target* the attributes of *source*, among them what is noted of owner and mode."""
    _set_attributes(target, _attributes(source))


def _attributes(source: int) -> dict[str, bytes]:
    try:
        names = os.listxattr(source)
    except OSError as err:
        if err.errno in _UNSUPPORTED:
            return {}
        raise
    found = {}
    for name in names:
        if name.startswith(_COPIED_XATTRS):
            try:
                found[name] = os.getxattr(source, name)
            except OSError as err:
                if not _is_no_loss(err, name):
                    raise
    return found


def _set_attributes(target: int, attributes: dict[str, bytes]) -> None:
    for name, value in attributes.items():
        try:
            os.setxattr(target, name, value)
        except OSError as err:
            if not _is_no_loss(err, name):
                raise


def _is_no_loss(err: OSError, name: str) -> bool:
    """Tell of an access list that the file system does not keep; our own records and capabilities may not get lost."""
    return err.errno in _UNSUPPORTED and name.startswith("system.")
