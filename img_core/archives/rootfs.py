"""An image of one layer from a root file system in a tar archive."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

from img_core.archives import codecs
from img_core.archives.tar import TarReader
from img_core.images import oci
from img_core.spec.values import Descriptor, DiffId

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from img_core.spec.exporter import ImageStore
    from img_core.spec.importer import ImportStream
    from img_core.spec.values import Platform

__all__ = ["RootfsImage", "store_rootfs"]

_CHUNK = 1024 * 1024


class RootfsImage(NamedTuple):
    """What was stored: the image's *manifest*, its one *layer*, and the *diff_id* of that."""

    manifest: Descriptor
    layer: Descriptor
    diff_id: DiffId


def store_rootfs(
    stream: ImportStream, store: ImageStore, *, config: Mapping[str, Any], platform: Platform
) -> RootfsImage:
    """Put an image of the archive *stream*, plain or compressed, into *store*; the caller names it.

    *config* is the ``config`` part of the image config (``Cmd``, ``Env``…). Raises ArchiveError for anything but a sound tar.
    """
    packer = _Packer(stream)
    layer = store.ingest(packer.chunks(), oci.OCI_LAYER_GZIP)
    diff_id = DiffId("sha256:" + packer.content.hexdigest())
    document = {
        "architecture": platform.architecture,
        "os": platform.os,
        **({"variant": platform.variant} if platform.variant else {}),
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created_by": "import", "comment": "img import"}],
    }
    kept = store.put(oci.canonical_json(document), oci.OCI_CONFIG)
    manifest = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_MANIFEST,
        "config": oci.descriptor_document(kept),
        "layers": [oci.descriptor_document(layer)],
    }
    return RootfsImage(store.put(oci.canonical_json(manifest), oci.OCI_MANIFEST), layer, diff_id)


class _Packer:
    """Reads an archive to its end, as strictly as if it were unpacked, and packs what passes."""

    def __init__(self, stream: ImportStream) -> None:
        self._source = codecs.open_decompressed(stream)
        self._compressor = codecs.compressor("gzip")
        self._packed: list[bytes] = []
        self.content = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        """Read for the `TarReader`."""
        data = self._source.read(size)
        if data:
            self.content.update(data)
            self._packed.append(self._compressor.compress(data))
        return data

    def chunks(self) -> Iterator[bytes]:
        """Give the packed bytes. Raises ArchiveError."""
        reader = TarReader(self)
        for _member in reader:
            yield from self._taken()
            for _data in reader.chunks():
                yield from self._taken()
        while self.read(_CHUNK):
            yield from self._taken()
        self._packed.append(self._compressor.flush())
        yield from self._taken()

    def _taken(self) -> Iterator[bytes]:
        packed, self._packed = self._packed, []
        return filter(None, packed)
