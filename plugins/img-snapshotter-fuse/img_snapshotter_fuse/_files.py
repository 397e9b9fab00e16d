"""Files that are open, and their content."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from img_core.linux import syscalls

if TYPE_CHECKING:
    from img_snapshotter_fuse._node import Node
    from img_snapshotter_fuse._tree import Tree

__all__ = ["OpenFiles"]

_SET_ID: Final = stat.S_ISUID | stat.S_ISGID
_CAPABILITY: Final = "security.capability"
_NOT_OURS: Final = os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOATIME | os.O_SYNC | os.O_DIRECT | os.O_ACCMODE


class OpenFiles:
    """Open files by handle, which is our descriptor of the file on disk. Methods raise OSError."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._nodes: dict[int, Node] = {}
        self._unsafe: set[int] = set()  # handles through which an ordinary user writes

    def __contains__(self, handle: int) -> bool:
        return handle in self._nodes

    def open(self, node: Node, flags: int, user: int) -> int:
        """Open *node* for the user id *user*; for writing in the upper layer, and always readable since the kernel fills its pages."""
        tree, stack = self._tree, self._tree.stack
        writes = flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)
        if writes:
            tree.copy_up(node, content=not flags & os.O_TRUNC)
        mode = (os.O_RDWR if writes else os.O_RDONLY) | (flags & ~_NOT_OURS) | os.O_CLOEXEC | os.O_NONBLOCK
        if user and flags & os.O_TRUNC:
            tree.drop_set_id(node, stack.stat(node))
        handle = os.open(stack.file(node), mode & ~os.O_NOFOLLOW)
        self._nodes[handle] = node
        if writes and user:
            self._unsafe.add(handle)
        elif node.layer and tree.writable:
            node.readers.append(handle)
        return handle

    def created(self, handle: int, node: Node, user: int) -> None:
        """Keep the new file *node*, open for writing as *handle*."""
        self._nodes[handle] = node
        if user:
            self._unsafe.add(handle)

    def close(self, handle: int) -> None:
        """Close it."""
        node = self._nodes.pop(handle)
        self._unsafe.discard(handle)
        if handle in node.readers:
            node.readers.remove(handle)
        os.close(handle)

    def read(self, handle: int, offset: int, buffer: memoryview) -> int:
        """Read into *buffer*; return how much there was."""
        return os.preadv(handle, [buffer], offset)

    def write(self, handle: int, offset: int, data: memoryview) -> int:
        """Write, and restore what a write takes away: where that is due the kernel has removed it before (not so through a mapping)."""
        self._tree.version += 1
        node, info = self._nodes[handle], os.fstat(handle)
        capability = _capability(handle)
        written = os.pwrite(handle, data, offset)
        if capability:
            os.setxattr(handle, _CAPABILITY, capability)
        if info.st_mode & _SET_ID and handle not in self._unsafe:
            os.chmod(handle, stat.S_IMODE(info.st_mode))
        # The time of the write is that at which the kernel took it, which it tells us if it is another one than before.
        os.utime(handle, ns=(info.st_atime_ns, node.modified))
        return written

    def allocate(self, handle: int, mode: int, offset: int, length: int) -> None:
        """Do what fallocate(2) does."""
        self._tree.version += 1
        syscalls.fallocate(handle, mode, offset, length)

    def copy(self, source: int, start: int, target: int, offset: int, length: int) -> int:
        """Copy from the handle *source* to the handle *target*; return how much."""
        self._tree.version += 1
        return os.copy_file_range(source, target, length, start, offset)


def _capability(fd: int) -> bytes:
    try:
        return os.getxattr(fd, _CAPABILITY)
    except OSError:
        return b""
