"""The merged root file system of an image as a tar stream: the same tree gives the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.archives.tar.layer import Packer
from img_core.archives.tar.member import DIRECTORY
from img_core.archives.tar.writer import TarWriter
from img_core.files.treewalk import walk

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from img_core.files.output import OpenOutput
    from img_core.files.treewalk import Entry
    from img_core.spec.exporter import Tree

__all__ = ["add_tree", "write_tree"]


def write_tree(
    tree: Tree, output: OpenOutput, *, epoch: int | None = None, tick: Callable[[int], None] = lambda _bytes: None
) -> int:
    """Write *tree* as one archive to *output*; see `add_tree`. Return the number of entries."""
    writer = TarWriter(output.write)
    entries = add_tree(tree, writer, epoch=epoch, tick=tick)
    writer.finish()
    return entries


def add_tree(
    tree: Tree,
    writer: TarWriter,
    *,
    top: bytes = b"",
    epoch: int | None = None,
    admit: Callable[[Entry], bool] | None = None,
    tick: Callable[[int], None] = lambda _bytes: None,
) -> int:
    """Add all of *tree*, sorted by name, below the directory *top*; return the number of entries.

    Owners (those on record where only one id is mapped), modes with setuid bits, hard links, extended attributes and
    device numbers are kept; sockets, which tar cannot hold, are left out. All times are *epoch* (seconds since 1970), if it is given.
    *admit* may leave out single entries (not what is below them) or raise. *tick* gets the size of the archive so
    far and may raise to stop. Raises ImgError for what cannot be read.
    """

    def owner_of(path: bytes, _info: os.stat_result) -> tuple[int, int] | None:
        return tree.owner(path)

    if top:
        writer.add(top, kind=DIRECTORY, mode=0o755, mtime_ns=(epoch or 0) * 10**9)
    packer = Packer(writer, tree.fd, owner_of, None, prefix=top + b"/" if top else b"", epoch=epoch)
    for entry in walk(tree.fd):
        if not entry.leaving and (admit is None or admit(entry)):
            packer.add(entry.path, entry.info)
            tick(writer.size)
    return packer.entries
