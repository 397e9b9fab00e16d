"""Copying files of lower layers into the upper one, where they can be written."""

from __future__ import annotations

import errno
import os
import stat
from itertools import count
from typing import TYPE_CHECKING, Final

from img_core.files import fs
from img_snapshotter_fuse._stack import ORIGIN, OVERLAY_XATTRS

if TYPE_CHECKING:
    from img_snapshotter_fuse._node import Node, Nodes
    from img_snapshotter_fuse._stack import Stack

__all__ = ["CopyUp"]

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_UNSUPPORTED: Final = (errno.ENOTSUP, errno.EPERM, errno.EINVAL)


class CopyUp:
    """Moves nodes to the upper layer. What is copied appears there at once and complete."""

    def __init__(self, stack: Stack, nodes: Nodes, work: str) -> None:
        self._stack = stack
        self._nodes = nodes
        self._work = os.open(work, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._numbers = count()

    def temporary(self) -> bytes:
        """Return an unused name on the file system of the upper layer."""
        return b"/proc/self/fd/%d/#%x" % (self._work, next(self._numbers))

    def ensure(self, node: Node, *, content: bool = True) -> None:
        """Bring *node* and the directories above it to the upper layer; without *content* a file comes empty."""
        if node.layer == 0:
            return
        if not node.names:
            self._copy_nameless(node, content=content)
            return
        parent = node.names[0][0]
        self.ensure(parent)
        source = self._stack.file(node)
        info = self._copy(node, source, temporary := self.temporary(), content=content)
        above = self._stack.place(0, parent.path())
        before = os.stat(above)
        os.rename(temporary, self._stack.place(0, node.path()))
        os.utime(above, ns=(before.st_atime_ns, before.st_mtime_ns))  # the directory has not changed for anybody
        self._moved(node, info)

    def _copy_nameless(self, node: Node, *, content: bool) -> None:
        """Copy a file that is open although it was deleted; a directory can only be asked about then."""
        if node.is_directory:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        temporary = self.temporary()
        info = self._copy(node, self._stack.file(node), temporary, content=content)
        fd = os.open(temporary, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        os.unlink(temporary)
        gone, node.fd = node.fd, fd
        os.close(gone)
        self._moved(node, info, findable=False)

    def _moved(self, node: Node, info: os.stat_result, *, findable: bool = True) -> None:
        if node.is_directory:
            node.layers = (0, *node.layers)
        node.layer = 0
        if findable:
            self._nodes.rekey(node, info)
        # Who reads the lower file goes on with the new one, for both share the kernel's cache.
        for reader in node.readers:
            fd = os.open(self._stack.file(node), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.dup2(fd, reader, inheritable=False)
            os.close(fd)
        node.readers.clear()

    def _copy(self, node: Node, source: bytes, target: bytes, *, content: bool) -> os.stat_result:
        follow = node.fd >= 0
        info = os.stat(source, follow_symlinks=follow)
        try:
            if node.kind == stat.S_IFREG:
                _copy_content(source, target, info.st_size if content else 0, follow=follow)
            elif node.kind == stat.S_IFDIR:
                os.mkdir(target, 0o700)
            elif node.kind == stat.S_IFLNK:
                os.symlink(self._stack.readlink(node), target)
            else:
                os.mknod(target, node.kind | 0o600, info.st_rdev)
            copy_attributes(source, target, info, follow=follow)
        except BaseException:
            fs.remove_tree(target)
            raise
        return os.stat(target, follow_symlinks=False)


def _copy_content(source: bytes, target: bytes, size: int, *, follow: bool) -> None:
    original = os.open(source, _READ & ~os.O_NOFOLLOW if follow else _READ)
    try:
        copy = os.open(target, _CREATE, 0o600)
        try:
            if size and fs.copy_file(original, copy, size) != size:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        finally:
            os.close(copy)
    finally:
        os.close(original)


def copy_attributes(source: bytes, target: bytes, info: os.stat_result, *, follow: bool = False) -> None:
    """Give *target* the owner, attributes, mode and times of *source*, in the order in which they do not undo each other."""
    if info.st_uid or info.st_gid or os.stat(target, follow_symlinks=False).st_gid:
        os.chown(target, info.st_uid, info.st_gid, follow_symlinks=False)
    _copy_xattrs(source, target, follow=follow)
    kind = stat.S_IFMT(info.st_mode)
    if kind in (stat.S_IFREG, stat.S_IFDIR):
        os.setxattr(target, ORIGIN, b"")  # as in overlayfs: copied from somewhere
    if kind != stat.S_IFLNK:
        os.chmod(target, stat.S_IMODE(info.st_mode))
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=False)


def _copy_xattrs(source: bytes, target: bytes, *, follow: bool) -> None:
    try:
        names = os.listxattr(source, follow_symlinks=follow)
    except OSError as err:
        if err.errno in _UNSUPPORTED:
            return
        raise
    for name in names:
        if name.startswith(OVERLAY_XATTRS):
            continue
        try:
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=follow), follow_symlinks=False)
        except OSError as err:
            # Labels of a security module are given by the host; our own records and capabilities may not get lost.
            if err.errno not in _UNSUPPORTED or name.startswith("user.") or name == "security.capability":
                raise
