"""Images in the store: getting them in, looking at them, and taking them out."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from img_core.images import oci, platforms
from img_core.spec.errors import NotFoundError
from img_core.spec.text import show
from img_core.spec.values import Descriptor, DiffId, Digest

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, BinaryIO

    from img_core.plugins import Plugins
    from img_core.spec.exporter import Exporter
    from img_core.spec.importer import ImportStream, LoadedImage
    from img_core.spec.values import Platform
    from img_core.store import Store
    from img_core.store.images import Image

__all__ = ["get_image", "import_rootfs", "load", "parsed_platform", "save"]

CHUNK = 1024 * 1024


def get_image(store: Store, text: str) -> Image:
    """Return the stored image that *text*, a name or an id, means. Raises NotFoundError, UsageError."""
    from img_core.store.lookup import find_image

    image = find_image(store.images, text)
    if image is None:
        raise NotFoundError(f'image "{show(text)}": not found', hint="`img ls` shows what is there")
    return image


def parsed_platform(text: str) -> Platform | None:
    """Return the platform that *text* names, None for none. Raises UsageError."""
    return platforms.parse(text) if text else None


def import_rootfs(
    store: Store,
    stream: BinaryIO,
    name: str,
    *,
    config: Mapping[str, Any] | None = None,
    platform: Platform | None = None,
) -> Descriptor:
    """Make an image of one layer from a root file system as a tar archive (plain or compressed), called *name*.

    *config* is the ``config`` part of the image config (``Cmd``, ``Env``…). Raises ArchiveError for anything but a sound tar.
    """
    from img_core.archives import codecs
    from img_core.archives.tar import TarReader
    from img_core.images.names import new_name

    diff = hashlib.sha256()
    with store.blobs.writer(oci.OCI_LAYER_GZIP) as writer:
        compressor = codecs.compressor("gzip")

        def keep(data: bytes) -> None:
            diff.update(data)
            writer.write(compressor.compress(data))

        source = _Tee(codecs.open_decompressed(stream), keep)
        for _member in TarReader(source):
            pass
        while source.read(CHUNK):
            pass
        writer.write(compressor.flush())
        layer = writer.commit()
    diff_id = DiffId("sha256:" + diff.hexdigest())
    store.blobs.remember_layer(layer.digest, diff_id)
    descriptor = _single_layer_image(store, layer, diff_id, dict(config or {}), platform or platforms.host_platform())
    store.tag(new_name(name), descriptor)
    return descriptor


class _Tee:
    """Hands everything that is read from *source* to *observe*, too."""

    def __init__(self, source: Any, observe: Callable[[bytes], object]) -> None:  # Any: whatever has read(size)
        self._source = source
        self._observe = observe

    def read(self, size: int, /) -> bytes:
        data: bytes = self._source.read(size)
        if data:
            self._observe(data)
        return data


def _single_layer_image(
    store: Store, layer: Descriptor, diff_id: DiffId, config: dict[str, Any], platform: Platform
) -> Descriptor:
    document = {
        "architecture": platform.architecture,
        "os": platform.os,
        **({"variant": platform.variant} if platform.variant else {}),
        "config": config,
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
    return store.put(oci.canonical_json(manifest), oci.OCI_MANIFEST, references=[kept.digest, layer.digest])


def load(store: Store, source: ImportStream | str | os.PathLike[str], plugins: Plugins) -> list[LoadedImage]:
    """Take every image of *source* (a stream, or the path of a directory) into the store, by the importer that knows its form.

    Raises ArchiveError, IntegrityError, PluginError; then no name was changed.
    """
    from img_core.api._imports import read_images

    loaded = read_images(plugins, source, store)
    for image in loaded:
        for name in image.names:
            store.tag(name, image.descriptor)
    return loaded


def save(
    store: Store,
    names: Sequence[str],
    dest: str | None,
    *,
    exporter: Exporter,
    tick: Callable[[int], None] = lambda _bytes: None,
) -> None:
    """Write the images *names* as one archive of *exporter*'s to the file *dest* (None: standard output), complete or not at all.

    *tick* hears now and then how many bytes are written.
    """
    from img_core.files.output import open_output
    from img_core.spec.exporter import NamedImage

    images: dict[Digest, NamedImage] = {}
    for name in names:
        found = get_image(store, name)
        earlier = images.get(found.descriptor.digest)
        images[found.descriptor.digest] = NamedImage(
            found.descriptor, (*(earlier.names if earlier else ()), *(() if found.is_untagged else (found.name,)))
        )
    with open_output(dest) as output:
        exporter.save(list(images.values()), store, output, tick)
