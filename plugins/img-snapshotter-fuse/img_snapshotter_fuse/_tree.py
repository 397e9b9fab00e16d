"""The merged tree, written: every change happens in the upper layer, as overlayfs would leave it there."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from img_core.files import fs
from img_snapshotter_fuse._copyup import CopyUp
from img_snapshotter_fuse._node import ROOT, Found, Node, Nodes
from img_snapshotter_fuse._stack import OPAQUE, Stack, is_whiteout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["EXCHANGE", "NOREPLACE", "Creator", "Tree"]

NOREPLACE: Final = 1  # RENAME_NOREPLACE
EXCHANGE: Final = 2  # RENAME_EXCHANGE
_SET_ID: Final = stat.S_ISUID | stat.S_ISGID


class Creator(NamedTuple):
    """Whose new files they are."""

    uid: int
    gid: int
    umask: int


class Tree:
    """Layers as one tree, writable if *upper* is given; *work* is a directory on the same file system.

    Methods raise OSError. They are called from one thread, with what the kernel has looked up and checked (permissions, types).
    *version* changes whenever a name does, the layer of a file, or attributes.
    """

    def __init__(self, lowers: Sequence[str], upper: str = "", work: str = "") -> None:
        self.stack = Stack([upper, *lowers] if upper else lowers)
        self.writable = bool(upper)
        self.version = 0
        layers = tuple(range(len(self.stack)))
        info = os.stat(self.stack.place(0, b""))
        self.root = Node(ROOT, stat.S_IFDIR, 0, layers, (info.st_dev, info.st_ino), lookups=1)
        self.nodes = Nodes(self.root, writable=self.writable)
        self._copies = CopyUp(self.stack, self.nodes, work) if upper else None

    def copy_up(self, node: Node, *, content: bool = True) -> None:
        """Make *node* writable."""
        if self._copies is None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        self.version += 1
        if node.layer:
            self._copies.ensure(node, content=content)

    def lookup(self, parent: Node, name: bytes) -> tuple[Node, os.stat_result] | None:
        """Return the node called *name*, and its attributes."""
        found = self.stack.find(parent, name)
        return None if found is None else (self.nodes.adopt(parent, name, found), found.info)

    # --- new names ---

    def create(
        self, parent: Node, name: bytes, make: Callable[[bytes], None], creator: Creator, mode: int = 0
    ) -> tuple[Node, os.stat_result]:
        """Let *make* create something at the place it is given, and give it to *creator*; set-id bits are those of *mode*."""
        place = self._new_place(parent, name)
        covers = stat.S_ISDIR(mode) and self.stack.lower_has(parent, name)

        def made(place: bytes) -> None:
            with _umask(creator.umask):
                make(place)
            try:
                self._give(parent, place, creator, mode)
                if covers:
                    os.setxattr(place, OPAQUE, b"y")
            except BaseException:
                fs.remove_tree(place)
                raise

        self._put(place, made)
        self.version += 1
        info = os.stat(place, follow_symlinks=False)
        found = Found(0, info, (0,) if stat.S_ISDIR(info.st_mode) else ())
        return self.nodes.adopt(parent, name, found), info

    def create_nameless(self, parent: Node, creator: Creator, mode: int) -> tuple[int, Node, os.stat_result]:
        """Make a file without a name, as O_TMPFILE does; return a descriptor to read and write it, too."""
        self.copy_up(parent)
        flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
        with _umask(creator.umask):
            opened = os.open(self.stack.place(0, parent.path()), flags, stat.S_IMODE(mode))
        try:
            place = b"/proc/self/fd/%d" % opened
            self._give(parent, place, creator, mode, follow=True)
            info = os.fstat(opened)
            return opened, self.nodes.nameless(info, os.open(place, os.O_PATH | os.O_CLOEXEC)), info
        except BaseException:
            os.close(opened)
            raise

    def link(self, node: Node, parent: Node, name: bytes) -> os.stat_result:
        """Give *node* one more name, or its first one."""
        self.copy_up(node)
        source, fd = self.stack.file(node), node.fd
        place = self._new_place(parent, name)

        def make(target: bytes) -> None:
            if fd < 0:
                os.link(source, target, follow_symlinks=False)
            else:  # Python follows links only if there is a directory, which an absolute name does not need
                os.link(source, target, src_dir_fd=fd)

        self._put(place, make)
        self.version += 1
        self.nodes.named(node, parent, name)
        return os.stat(place, follow_symlinks=False)

    def _new_place(self, parent: Node, name: bytes) -> bytes:
        self.copy_up(parent)
        return self._place_of(parent, name)

    def _put(self, place: bytes, make: Callable[[bytes], None]) -> None:
        """Make something new at *place*, which may hold a whiteout.

        It is made where it stays, not in the work directory, because it inherits from the directory it is in.
        """
        try:
            make(place)
            return
        except FileExistsError:
            if not is_whiteout(os.stat(place, follow_symlinks=False)):
                raise
        whiteout = self._temporary()
        os.rename(place, whiteout)
        try:
            make(place)
        except BaseException:
            os.rename(whiteout, place)
            raise
        os.unlink(whiteout)

    def _give(self, parent: Node, place: bytes, creator: Creator, mode: int, *, follow: bool = False) -> None:
        above = os.stat(self.stack.place(0, parent.path()))
        gid, set_id = creator.gid, mode & _SET_ID
        if above.st_mode & stat.S_ISGID:
            gid = above.st_gid
            if stat.S_ISDIR(mode):
                set_id |= stat.S_ISGID
        now = os.stat(place, follow_symlinks=follow)
        if (creator.uid, gid) != (now.st_uid, now.st_gid):
            os.chown(place, creator.uid, gid, follow_symlinks=follow)
            now = os.stat(place, follow_symlinks=follow)
        # A change of owner takes these away; a group that is inherited on disk only may have added one.
        if mode and now.st_mode & _SET_ID != set_id:
            os.chmod(place, stat.S_IMODE(now.st_mode) & ~_SET_ID | set_id)

    def _temporary(self) -> bytes:
        assert self._copies is not None
        return self._copies.temporary()

    # --- names that go ---

    def remove(self, parent: Node, name: bytes) -> None:
        """Remove the file or empty directory *name*."""
        found = self._must_find(parent, name)
        self._require_empty(parent, name, found)
        self.copy_up(parent)
        place = self._new_place(parent, name)
        node = self.nodes.known(parent, name, found)
        self._hold(node, parent, name)
        hides = self.stack.lower_has(parent, name)
        self.version += 1
        try:
            if found.layers and found.layer == 0:
                self._discard(place)
            if hides:
                self._whiteout(place)
            elif not found.layers:
                os.unlink(place)
        finally:
            if found.layers:
                self.stack.forget_shortcuts()

    def _whiteout(self, place: bytes) -> None:
        """Put a whiteout at *place*, over a file if there is one."""
        temporary = self._temporary()
        os.mknod(temporary, stat.S_IFCHR, 0)
        os.rename(temporary, place)

    def _discard(self, place: bytes) -> None:
        """Take away an upper directory with the whiteouts in it. When *place* is not needed any more, shortcuts must be forgotten."""
        try:
            os.rmdir(place)
        except OSError as err:
            if err.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            temporary = self._temporary()
            os.rename(place, temporary)
            fs.remove_tree(temporary)

    def _hold(self, node: Node | None, parent: Node, name: bytes) -> None:
        """Keep the file of *node* for those who use it, now that it loses a name."""
        if node is None:
            return
        if len(node.names) <= 1 and node.fd < 0:
            node.fd = os.open(self.stack.file(node), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            if node.is_directory or node.layer or os.fstat(node.fd).st_nlink <= 1:
                self.nodes.unkey(node)
        if (parent, name) in node.names:
            node.names.remove((parent, name))

    def _must_find(self, parent: Node, name: bytes) -> Found:
        found = self.stack.find(parent, name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return found

    def _require_empty(self, parent: Node, name: bytes, found: Found) -> None:
        base = parent.path()
        if found.layers and not self.stack.is_empty(base + b"/" + name if base else name, found.layers):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))

    # --- names that move ---

    def rename(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes, flags: int) -> None:
        """Rename as renameat2(2) does; a directory of which a lower layer has something cannot move (EXDEV), as in overlayfs."""
        if flags & ~(NOREPLACE | EXCHANGE):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        old = self._must_find(parent, name)
        new = self.stack.find(new_parent, new_name)
        self._check_rename(old, new, new_parent, new_name, flags)
        node = self.nodes.adopt(parent, name, old)
        self.copy_up(node)
        self.copy_up(new_parent)
        self.version += 1
        try:
            if flags & EXCHANGE:
                assert new is not None
                other = self.nodes.adopt(new_parent, new_name, new)
                self._exchange(node, (parent, name), other, (new_parent, new_name))
            else:
                self._move(node, (parent, name), new, (new_parent, new_name))
        finally:
            self.stack.forget_shortcuts()

    def _check_rename(self, old: Found, new: Found | None, new_parent: Node, new_name: bytes, flags: int) -> None:
        if flags & NOREPLACE and new is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        if flags & EXCHANGE and new is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if not self.writable:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        moving = [found for found in (old, new if flags & EXCHANGE else None) if found is not None]
        if any(found.layers not in ((), (0,)) for found in moving):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        if new is not None and not flags & EXCHANGE:
            self._require_empty(new_parent, new_name, new)

    def _move(self, node: Node, old: tuple[Node, bytes], target: Found | None, new: tuple[Node, bytes]) -> None:
        source = self._place_of(*old)
        place = self._place_of(*new)
        hides = self.stack.lower_has(*old)
        if node.is_directory and len(new[0].layers) > 1:
            os.setxattr(source, OPAQUE, b"y")
        if target is not None:
            self._hold(self.nodes.known(*new, target), *new)
        if node.is_directory:
            self._make_room(place)
        elif target is not None and target.layers and target.layer == 0:
            self._discard(place)
        os.rename(source, place)
        if hides:
            self._whiteout(source)
        self._renamed(node, old, new)

    def _make_room(self, place: bytes) -> None:
        """Take away what a directory cannot be renamed over: a whiteout, or a directory with whiteouts."""
        try:
            info = os.stat(place, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(info.st_mode):
            self._discard(place)
        else:
            os.unlink(place)

    def _exchange(self, node: Node, old: tuple[Node, bytes], other: Node, new: tuple[Node, bytes]) -> None:
        self.copy_up(other)
        first, second, temporary = self._place_of(*old), self._place_of(*new), self._temporary()
        for moved, place, parent in ((node, first, new[0]), (other, second, old[0])):
            if moved.is_directory and len(parent.layers) > 1:
                os.setxattr(place, OPAQUE, b"y")
        # Nobody looks between these three.
        os.rename(first, temporary)
        os.rename(second, first)
        os.rename(temporary, second)
        self._renamed(node, old, new)
        self._renamed(other, new, old)

    def _place_of(self, parent: Node, name: bytes) -> bytes:
        base = parent.path()
        return self.stack.place(0, base + b"/" + name if base else name)

    @staticmethod
    def _renamed(node: Node, old: tuple[Node, bytes], new: tuple[Node, bytes]) -> None:
        if old in node.names:
            node.names.remove(old)
        node.names.insert(0, new)

    # --- attributes ---

    def drop_set_id(self, node: Node, info: os.stat_result) -> None:
        """Take away what an ordinary user may not leave on a file that he writes."""
        mode = info.st_mode
        if stat.S_ISREG(mode) and mode & _SET_ID:
            keep_group = not mode & stat.S_IXGRP  # then the bit meant mandatory locking
            mode &= ~(stat.S_ISUID if keep_group else _SET_ID)
            os.chmod(self.stack.file(node), stat.S_IMODE(mode))


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    """Make files with *mask*, which the disk's own file system leaves out where an access list is inherited."""
    os.umask(mask)
    try:
        yield
    finally:
        os.umask(0)
