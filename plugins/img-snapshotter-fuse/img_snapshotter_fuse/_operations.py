"""The answers to the kernel's questions: requests of pyfuse3 turned into calls of the tree."""

from __future__ import annotations

import errno
import os
import stat
import sys
import traceback
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import pyfuse3
from pyfuse3 import EntryAttributes, FileInfo, FUSEError

from img_snapshotter_fuse._listing import Listings
from img_snapshotter_fuse._relay import NAMELESS
from img_snapshotter_fuse._stack import OVERLAY_XATTRS
from img_snapshotter_fuse._tree import Creator, Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from img_snapshotter_fuse._files import OpenFiles
    from img_snapshotter_fuse._node import Node

__all__ = ["OverlayOperations"]

#: seconds for which the kernel need not ask again: nobody else writes here
_FOREVER: Final = 10_000_000.0


def _answer(method: Callable[..., Any]) -> Callable[..., Any]:  # Any: the signatures are pyfuse3's
    """Make a coroutine of *method*, whose errors become those of the system call."""

    @wraps(method)
    async def answer(self: OverlayOperations, *arguments: Any) -> Any:
        try:
            return method(self, *arguments)
        except OSError as err:
            raise FUSEError(err.errno or errno.EIO) from None
        except FUSEError:
            raise
        except Exception:
            # A bug: this call fails, the others go on.
            traceback.print_exc(file=sys.stderr)
            raise FUSEError(errno.EIO) from None

    return answer


class OverlayOperations(pyfuse3.Operations):
    """One mounted tree."""

    enable_acl = True
    enable_writeback_cache = True
    supports_dot_lookup = False

    def __init__(self, tree: Tree, files: OpenFiles) -> None:
        super().__init__()
        self._tree = tree
        self._stack = tree.stack
        self._nodes = tree.nodes
        self._files = files
        self._listings = Listings(tree)
        self._nothing = EntryAttributes()
        self._nothing.st_ino = 0
        self._nothing.entry_timeout = _FOREVER

    # --- names ---

    @_answer
    def lookup(self, parent: int, name: bytes, _context: Any) -> EntryAttributes:
        """Find *name*; that there is nothing is remembered by the kernel, too."""
        found = self._tree.lookup(self._nodes[parent], name)
        if found is None:
            return self._nothing
        return self._entry(*found)

    def _entry(self, node: Node, info: os.stat_result) -> EntryAttributes:
        node.lookups += 1
        if node.modified < 0:
            node.modified = info.st_mtime_ns
        return _attributes(node, info, entry=True)

    async def forget(self, forgotten: Sequence[tuple[int, int]]) -> None:
        """Drop nodes."""
        for number, lookups in forgotten:
            try:
                node = self._nodes[number]
            except KeyError:
                continue
            self._nodes.forget(node, lookups)

    @_answer
    def mkdir(self, parent: int, name: bytes, mode: int, context: Any) -> EntryAttributes:
        """Make a directory."""
        return self._create(parent, name, lambda place: os.mkdir(place, stat.S_IMODE(mode)), context, mode)

    @_answer
    def mknod(self, parent: int, name: bytes, mode: int, device: int, context: Any) -> EntryAttributes:
        """Make a file, FIFO, socket or device; a whiteout is none of these."""
        if stat.S_ISCHR(mode) and device == 0:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        return self._create(parent, name, lambda place: os.mknod(place, mode, device), context, mode)

    @_answer
    def symlink(self, parent: int, name: bytes, target: bytes, context: Any) -> EntryAttributes:
        """Make a symbolic link."""
        return self._create(parent, name, lambda place: os.symlink(target, place), context, 0)

    def _create(
        self, parent: int, name: bytes, make: Callable[[bytes], None], context: Any, mode: int
    ) -> EntryAttributes:
        return self._entry(*self._tree.create(self._nodes[parent], name, make, _creator(context), mode))

    @_answer
    def create(
        self, parent: int, name: bytes, mode: int, _flags: int, context: Any
    ) -> tuple[FileInfo, EntryAttributes]:
        """Make a file and open it."""
        above, creator = self._nodes[parent], _creator(context)
        if name == NAMELESS:
            opened, node, info = self._tree.create_nameless(above, creator, mode)
        else:
            opened, node, info = self._create_open(above, name, creator, mode)
        self._files.created(opened, node, context.uid)
        return FileInfo(fh=opened), self._entry(node, info)

    def _create_open(self, parent: Node, name: bytes, creator: Creator, mode: int) -> tuple[int, Node, os.stat_result]:
        opened = -1

        def make(place: bytes) -> None:
            nonlocal opened
            opened = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, stat.S_IMODE(mode))

        try:
            node, info = self._tree.create(parent, name, make, creator, mode)
        except BaseException:
            if opened >= 0:
                os.close(opened)
            raise
        return opened, node, info

    @_answer
    def link(self, number: int, parent: int, name: bytes, _context: Any) -> EntryAttributes:
        """Make one more name."""
        node = self._nodes[number]
        return self._entry(node, self._tree.link(node, self._nodes[parent], name))

    @_answer
    def unlink(self, parent: int, name: bytes, _context: Any) -> None:
        """Remove a file."""
        self._tree.remove(self._nodes[parent], name)

    @_answer
    def rmdir(self, parent: int, name: bytes, _context: Any) -> None:
        """Remove an empty directory."""
        self._tree.remove(self._nodes[parent], name)

    @_answer
    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int, _context: Any) -> None:
        """Rename."""
        self._tree.rename(self._nodes[parent], name, self._nodes[new_parent], new_name, flags)

    @_answer
    def readlink(self, number: int, _context: Any) -> bytes:
        """Return a link's target."""
        return self._stack.readlink(self._nodes[number])

    # --- attributes ---

    @_answer
    def getattr(self, number: int, _context: Any) -> EntryAttributes:
        """Return the attributes."""
        node = self._nodes[number]
        return _attributes(node, self._stack.stat(node))

    @_answer
    def setattr(self, number: int, wanted: EntryAttributes, fields: Any, handle: int | None, context: Any) -> Any:
        """Change what *fields* names."""
        node = self._nodes[number]
        resized = fields.update_size
        self._tree.copy_up(node, content=not (resized and wanted.st_size == 0))
        place, follow = self._stack.file(node), node.fd >= 0
        if resized:
            if context.uid:
                self._tree.drop_set_id(node, self._stack.stat(node))
            os.truncate(place if handle is None or handle not in self._files else handle, wanted.st_size)
        if fields.update_uid or fields.update_gid:
            uid = wanted.st_uid if fields.update_uid else -1
            gid = wanted.st_gid if fields.update_gid else -1
            os.chown(place, uid, gid, follow_symlinks=follow)
        if fields.update_mode:
            os.chmod(place, stat.S_IMODE(wanted.st_mode))
        if fields.update_atime or fields.update_mtime:
            now = self._stack.stat(node)
            times = (
                wanted.st_atime_ns if fields.update_atime else now.st_atime_ns,
                wanted.st_mtime_ns if fields.update_mtime else now.st_mtime_ns,
            )
            os.utime(place, ns=times, follow_symlinks=follow)
            node.modified = times[1]
        return _attributes(node, self._stack.stat(node))

    @_answer
    def getxattr(self, number: int, name: bytes, _context: Any) -> bytes:
        """Return one extended attribute."""
        node = self._nodes[number]
        if os.fsdecode(name).startswith(OVERLAY_XATTRS):
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        return os.getxattr(self._stack.file(node), name, follow_symlinks=node.fd >= 0)

    @_answer
    def listxattr(self, number: int, _context: Any) -> list[bytes]:
        """Return the names of the extended attributes, without overlayfs' own."""
        node = self._nodes[number]
        names = os.listxattr(self._stack.file(node), follow_symlinks=node.fd >= 0)
        return [os.fsencode(name) for name in names if not name.startswith(OVERLAY_XATTRS)]

    @_answer
    def setxattr(self, number: int, name: bytes, value: bytes, _context: Any) -> None:
        """Set an extended attribute."""
        node = self._writable_attribute(number, name)
        os.setxattr(self._stack.file(node), name, value, follow_symlinks=node.fd >= 0)

    @_answer
    def removexattr(self, number: int, name: bytes, _context: Any) -> None:
        """Remove an extended attribute."""
        node = self._nodes[number]
        if node.layer:
            os.getxattr(self._stack.file(node), name, follow_symlinks=node.fd >= 0)  # no copy of the file for an error
        node = self._writable_attribute(number, name)
        os.removexattr(self._stack.file(node), name, follow_symlinks=node.fd >= 0)

    def _writable_attribute(self, number: int, name: bytes) -> Node:
        if os.fsdecode(name).startswith(OVERLAY_XATTRS):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        node = self._nodes[number]
        self._tree.copy_up(node)
        return node

    @_answer
    def statfs(self, _context: Any) -> Any:
        """Return the free space of the upper layer's file system."""
        found, answer = os.statvfs(self._stack.place(0, b"")), pyfuse3.StatvfsData()
        for name in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail"):
            setattr(answer, name, getattr(found, name))
        answer.f_namemax = found.f_namemax
        return answer

    # --- content: `_relay` has the rest ---

    @_answer
    def flush(self, _handle: int) -> None:
        """Nothing is kept here; the kernel need not ask again."""
        raise FUSEError(errno.ENOSYS)

    @_answer
    def fsync(self, _handle: int, _only_data: bool) -> None:
        """What has to survive is synced as a whole when it is complete; as with overlayfs' option ``volatile``."""
        raise FUSEError(errno.ENOSYS)

    @_answer
    def fsyncdir(self, _handle: int, _only_data: bool) -> None:
        """See `fsync`."""
        raise FUSEError(errno.ENOSYS)

    # --- directories ---

    @_answer
    def opendir(self, _number: int, _context: Any) -> int:
        """Let the kernel open directories by itself and keep what they list until it changes; so it did not when we opened them."""
        raise FUSEError(errno.ENOSYS)

    @_answer
    def readdir(self, number: int, start: int, token: Any) -> None:
        """List names and attributes in the directory *number* (see `_relay`), as many as the token takes."""
        node, nodes, reply = self._nodes[number], self._nodes, pyfuse3.readdir_reply
        if not self._dots(node, start, token):
            return
        for position, name, found in self._listings.since(node, start):
            entry = nodes.adopt(node, name, found)
            if not reply(token, name, _attributes(entry, found.info, entry=True), position + 1):
                nodes.forget(entry)  # if nobody else knows it
                return
            entry.lookups += 1
            if entry.modified < 0:
                entry.modified = found.info.st_mtime_ns

    def _dots(self, node: Node, start: int, token: Any) -> bool:
        for position, name in ((0, b"."), (1, b"..")):
            if position >= start:
                shown = node.names[0][0] if position and node.names else node
                attributes = EntryAttributes()
                attributes.st_ino, attributes.st_mode = shown.number, stat.S_IFDIR
                if not pyfuse3.readdir_reply(token, name, attributes, position + 1):
                    return False
        return True


def _creator(context: Any) -> Creator:
    return Creator(context.uid, context.gid, context.umask)


def _attributes(node: Node, info: os.stat_result, *, entry: bool = False) -> EntryAttributes:
    """Return attributes for the kernel; an *entry* carries the number by which it will ask."""
    made = EntryAttributes()
    made.entry_timeout = made.attr_timeout = _FOREVER
    made.st_ino = node.number
    if node.shown:
        # Other names of the same lower file: what they share ends when one of them is written, so the kernel asks each time.
        # pyfuse3 has one field for the number of the node and the one to show, the latter can only be told in that answer.
        made.attr_timeout = 0.0
        if not entry:
            made.st_ino = node.shown
    made.st_mode = info.st_mode
    made.st_nlink = 1 if len(node.layers) > 1 else info.st_nlink
    made.st_uid = info.st_uid
    made.st_gid = info.st_gid
    made.st_rdev = info.st_rdev
    made.st_size = info.st_size
    made.st_blocks = info.st_blocks
    made.st_atime_ns = info.st_atime_ns
    made.st_mtime_ns = info.st_mtime_ns
    made.st_ctime_ns = info.st_ctime_ns
    return made
