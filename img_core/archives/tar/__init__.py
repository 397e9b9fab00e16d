"""Our own tar: a strict streaming reader for archives of strangers, a fast deterministic writer, layers on top.

* `reader` and `member`: what an archive says, or an `ArchiveError`
* `extraction`: files below a root directory, and nowhere else
* `writer`: ustar with pax records where needed
* `layer` and `unpacked`: changes to blob and blob to files, with both digests in one pass

The standard library's ``tarfile`` is not used: it ends silently at damage, has no bounds, and its filters were escaped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.spec._lazy import names_from

if TYPE_CHECKING:
    from img_core.archives.tar.extraction import Directories, Mode, OwnerPolicy, Stats, extract, finish_directories
    from img_core.archives.tar.layer import LayerInfo, content_digest, write_layer
    from img_core.archives.tar.member import Limits, Member, MissingLinkTarget
    from img_core.archives.tar.reader import TarReader
    from img_core.archives.tar.unpacked import unpack_stream
    from img_core.archives.tar.writer import TarWriter

__all__ = [
    "Directories",
    "LayerInfo",
    "Limits",
    "Member",
    "MissingLinkTarget",
    "Mode",
    "OwnerPolicy",
    "Stats",
    "TarReader",
    "TarWriter",
    "content_digest",
    "extract",
    "finish_directories",
    "unpack_stream",
    "write_layer",
]

_HOMES = {
    "extraction": ("Directories", "Mode", "OwnerPolicy", "Stats", "extract", "finish_directories"),
    "layer": ("LayerInfo", "content_digest", "write_layer"),
    "member": ("Limits", "Member", "MissingLinkTarget"),
    "reader": ("TarReader",),
    "unpacked": ("unpack_stream",),
    "writer": ("TarWriter",),
}

__getattr__ = names_from(__name__, _HOMES)
