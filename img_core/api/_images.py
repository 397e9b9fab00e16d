"""Images in the store: getting them in, looking at them, and taking them out."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from img_core.kit import oci, platforms
from img_core.kit.reference import Reference
from img_core.spec.values import Descriptor, DiffId, Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any, BinaryIO

    from img_core.api.session import Session
    from img_core.spec.source import ImageSource, PinnedImage
    from img_core.spec.values import Platform
    from img_core.store import Store

__all__ = ["import_rootfs", "normalize", "pull"]

CHUNK = 1024 * 1024


def normalize(name: str, *, prefix: str = "") -> str:
    """Return *name* in full, with domain and tag, as the store keeps it. Raises UsageError, its message after *prefix*."""
    return str(Reference.parse(name, prefix=prefix).with_default_tag())


def pull(
    session: Session,
    name: str,
    *,
    platform: Platform | None = None,
    insecure: Sequence[str] = (),
    status: Callable[[str, int, int], None] = lambda _digest, _current, _total: None,
) -> Descriptor:
    """Fetch the image *name* with all layers and store it under that name with the registry's digest; return what the name means.

    Of an index only *platform* (default: the host's) is fetched. Nothing is listed before all of it has arrived; what arrived stays for the
    next try. Raises RegistryError, CredentialsError, NotFoundError, IntegrityError.
    """
    from img_core.spec.graph import SourceOp

    source: ImageSource = session.sources(insecure=insecure)("docker-image")
    reference = Reference.parse(name).with_default_tag()
    pinned = source.pin(SourceOp("docker-image", str(reference)), platform or platforms.host_platform())
    store = session.store
    for layer in pinned.layers:
        _fetch_layer(store, source, pinned, layer, status)
    top = _keep_documents(store, pinned)
    store.tag(str(reference), top)
    return top


def _fetch_layer(
    store: Store,
    source: ImageSource,
    pinned: PinnedImage,
    layer: Descriptor,
    status: Callable[[str, int, int], None],
) -> None:
    if store.blobs.has(layer.digest):
        return
    with store.lock(f"blob:{layer.digest}"):  # two pulls of one image fetch each layer once
        if store.blobs.has(layer.digest):
            return
        done = 0
        for chunk in store.blobs.ingest(layer, source.blob(pinned, layer)):
            done += len(chunk)
            status(layer.digest, done, layer.size)


def _keep_documents(store: Store, pinned: PinnedImage) -> Descriptor:
    """Store config, manifest and index, what is referenced before what references it."""
    below = [layer.digest for layer in pinned.layers]
    store.put(pinned.documents[pinned.config.digest], pinned.config.media_type)
    manifest = store.put(
        pinned.documents[pinned.manifest.digest],
        pinned.manifest.media_type,
        references=[pinned.config.digest, *below],
    )
    if pinned.top.digest == manifest.digest:
        return manifest
    return store.put(pinned.documents[pinned.top.digest], pinned.top.media_type, references=[manifest.digest])


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
    from img_core.kit import codecs
    from img_core.kit.tar import TarReader

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
    store.tag(normalize(name), descriptor)
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


def blobs_of(store: Store, descriptor: Descriptor) -> Iterator[Digest]:
    """Give every blob behind *descriptor* that is kept, documents first."""
    yield descriptor.digest
    for content in store.images.contents(descriptor):
        yield content.manifest.digest
        yield content.config_descriptor.digest
        yield from (layer.digest for layer in content.layers)
