"""Directories as they are listed, piece by piece, while others change them."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_snapshotter_fuse._node import Found, Node
    from img_snapshotter_fuse._tree import Tree

__all__ = ["FIRST", "Listings"]

FIRST: Final = 2  #: the first position that is neither "." nor ".."
_MOST: Final = 64  # directories that are being listed at a time


class _Listing(NamedTuple):
    node: Node
    version: int  # of the tree
    entries: list[tuple[int, bytes, Found]]  # by position


class Listings:
    """Directories that somebody is in the middle of.

    A name keeps its position as long as the kernel knows the directory, so that who goes on, or back, misses and repeats nothing.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._listings: dict[int, _Listing] = {}  # by number of the node

    def since(self, node: Node, start: int) -> Iterator[tuple[int, bytes, Found]]:
        """Yield position, name and what it is now, of each entry from position *start* on."""
        listing = self._listings.get(node.number)
        if start < FIRST or listing is None or listing.node is not node:
            listing = self._list(node)
        entries = listing.entries
        first = bisect_left(entries, (start,))
        if first == len(entries):
            self._listings.pop(node.number, None)
        for index in range(first, len(entries)):
            position, name, found = entries[index]
            if listing.version == self._tree.version:
                yield position, name, found
                continue
            now = self._tree.stack.find(node, name)
            if now is not None:
                yield position, name, now

    def _list(self, node: Node) -> _Listing:
        positions = node.positions
        entries = [
            (positions.setdefault(name, len(positions) + FIRST), name, found)
            for name, found in self._tree.stack.listing(node)
        ]
        entries.sort()  # positions differ
        listing = _Listing(node, self._tree.version, entries)
        self._listings.pop(node.number, None)
        if len(self._listings) >= _MOST:
            del self._listings[next(iter(self._listings))]
        self._listings[node.number] = listing
        return listing
