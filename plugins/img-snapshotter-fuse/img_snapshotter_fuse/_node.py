"""The inodes that the kernel knows, and where their files are."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from itertools import count
from typing import Final, NamedTuple

__all__ = ["ROOT", "Found", "Node", "Nodes"]

ROOT: Final = 1  #: the number of the root directory, see FUSE_ROOT_ID in fuse(4)
_FIRST_OWN: Final = 1 << 48  # numbers that no disk of today gives


class Found(NamedTuple):
    """What the merged tree has at some path."""

    layer: int  #: the topmost layer that has it
    info: os.stat_result
    layers: tuple[int, ...]  #: of a directory: the layers whose entries show in it, topmost first; else empty


@dataclass(slots=True, eq=False)
class Node:
    """One inode: a directory, or a file with all its names.

    *layer* is where its content and attributes are now (0 is the upper layer of a writable tree). *fd* keeps what has no names any more.
    *readers* are descriptors that read it in a lower layer. *shown* is the inode number for people, if not *number*. *modified* is the
    time of modification that the kernel believes in, which decides about it (-1: not known yet). *positions* are those of names in a
    directory that was listed.
    """

    number: int
    kind: int
    layer: int
    layers: tuple[int, ...]
    key: tuple[int, int | bytes]
    names: list[tuple[Node, bytes]] = field(default_factory=list)
    lookups: int = 0
    fd: int = -1
    readers: list[int] = field(default_factory=list)
    shown: int = 0
    modified: int = -1
    positions: dict[bytes, int] = field(default_factory=dict)

    @property
    def is_directory(self) -> bool:
        """Tell a directory from everything else."""
        return self.kind == stat.S_IFDIR

    @property
    def is_pure_upper(self) -> bool:
        """Tell whether nothing of a lower layer shows in this directory."""
        return self.layers == (0,)

    def path(self) -> bytes:
        """Return the path below the root of the tree; empty for the root itself. Raises FileNotFoundError for what was deleted.

        A deleted directory must never be reached by its old path: there may be a symbolic link now, to anywhere on the host.
        """
        parts = []
        node = self
        while node.names:
            node, name = node.names[0]
            parts.append(name)
        if node.number != ROOT:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        parts.reverse()
        return b"/".join(parts)


class Nodes:
    """All nodes, by number and by what they are on disk.

    Numbers are those of the real files as long as these are free, so that they stay the same after the kernel has forgotten a file.
    """

    def __init__(self, root: Node, *, writable: bool) -> None:
        self.root = root
        self._writable = writable
        self._by_number = {root.number: root}
        self._by_key = {root.key: root}
        self._own = count(_FIRST_OWN)

    def __getitem__(self, number: int) -> Node:
        return self._by_number[number]

    def adopt(self, parent: Node, name: bytes, found: Found) -> Node:
        """Return the node of what was found as *name* in *parent*."""
        key = self._key(parent, name, found)
        node = self._by_key.get(key)
        if node is None:
            return self._make(found, key, [(parent, name)], shared=self._is_shared_lower(found))
        if (parent, name) not in node.names:
            if node.is_directory:
                node.names.clear()
            self.named(node, parent, name)
        return node

    def nameless(self, info: os.stat_result, fd: int) -> Node:
        """Return the node of a new file that has no name; *fd* refers to it and is the node's from now on."""
        node = self._make(Found(0, info, ()), (info.st_dev, info.st_ino), [])
        node.fd = fd
        return node

    def named(self, node: Node, parent: Node, name: bytes) -> None:
        """*node* is called *name* in *parent*, too."""
        node.names.append((parent, name))
        if node.fd >= 0:  # it had lost all names that were known
            os.close(node.fd)
            node.fd = -1

    def known(self, parent: Node, name: bytes, found: Found) -> Node | None:
        """Return the node if the kernel knows it."""
        return self._by_key.get(self._key(parent, name, found))

    def _key(self, parent: Node, name: bytes, found: Found) -> tuple[int, int | bytes]:
        if self._is_shared_lower(found):
            return (parent.number, name)
        return (found.info.st_dev, found.info.st_ino)

    def _is_shared_lower(self, found: Found) -> bool:
        """Tell whether this is one of several names of a lower file: to write to one of them leaves the others alone, as in overlayfs."""
        return self._writable and found.layer > 0 and not found.layers and found.info.st_nlink > 1

    def _make(
        self, found: Found, key: tuple[int, int | bytes], names: list[tuple[Node, bytes]], *, shared: bool = False
    ) -> Node:
        info = found.info
        number = info.st_ino
        if shared or number <= ROOT or number in self._by_number:
            number = next(self._own)
        node = Node(number, stat.S_IFMT(info.st_mode), found.layer, found.layers, key, names)
        node.shown = info.st_ino if shared else 0
        self._by_number[number] = self._by_key[key] = node
        return node

    def rekey(self, node: Node, info: os.stat_result) -> None:
        """*node* is another file on disk now."""
        self.unkey(node)
        node.key = (info.st_dev, info.st_ino)
        node.shown = 0
        self._by_key[node.key] = node

    def unkey(self, node: Node) -> None:
        """*node* cannot be found by a name any more."""
        if self._by_key.get(node.key) is node:
            del self._by_key[node.key]

    def forget(self, node: Node, lookups: int = 0) -> None:
        """Drop *node* when the kernel has given back all references to it."""
        node.lookups -= lookups
        if node.lookups > 0 or node is self.root:
            return
        self._by_number.pop(node.number, None)
        self.unkey(node)
        if node.fd >= 0:
            os.close(node.fd)
            node.fd = -1
