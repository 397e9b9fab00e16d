"""Images in the store: getting them in, looking at them, and taking them out."""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from img_core.kit import fs, oci, platforms
from img_core.kit.reference import Reference
from img_core.spec.errors import ImgError
from img_core.spec.values import Descriptor, DiffId, Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any, BinaryIO

    from img_core.api.session import Session
    from img_core.kit.bundle import LoadedImage
    from img_core.kit.treecopy import Copied
    from img_core.spec.values import Platform
    from img_core.store import Store

__all__ = ["import_rootfs", "load", "normalize", "save", "unpack"]

CHUNK = 1024 * 1024


def normalize(name: str, *, prefix: str = "") -> str:
    """Return *name* in full, with domain and tag, as the store keeps it. Raises UsageError, its message after *prefix*."""
    return str(Reference.parse(name, prefix=prefix).with_default_tag())


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


def load(store: Store, source: Any) -> list[LoadedImage]:  # Any: whatever has read(size), or a path
    """Take every image of a bundle (a docker or OCI archive, plain or compressed, or an image layout directory) into the store.

    Raises ArchiveError, IntegrityError; then no name was changed.
    """
    from img_core.kit.bundle import read_bundle

    loaded = read_bundle(source, store)
    for image in loaded:
        for name in image.names:
            store.tag(name, image.descriptor)
    return loaded


def save(store: Store, names: Sequence[str], dest: str | None, *, docker: bool = True) -> None:
    """Write the images *names* as one archive to the file *dest* (None: standard output), complete or not at all."""
    from img_core.kit.bundle import BundleImage, write_tar
    from img_core.kit.output import open_output

    images: dict[Digest, BundleImage] = {}
    for name in names:
        found = store.images.get(normalize(name), name)
        earlier = images.get(found.descriptor.digest)
        images[found.descriptor.digest] = BundleImage(
            found.descriptor, (*(earlier.names if earlier else ()), found.name)
        )
    with open_output(dest) as output:
        write_tar(output, list(images.values()), store, docker=docker)


def unpack(
    session: Session,
    name: str,
    directory: str,
    *,
    backend: str = "auto",
    platform: Platform | None = None,
    force: bool = False,
) -> Copied:
    """Write the root file system of the image *name* into the new *directory*; with *force* it replaces an existing one.

    As root files get their owners; else all belong to the caller. Devices and sockets are left out and told in the result.
    """
    from img_core.kit.treecopy import CopyPolicy, copy_tree
    from img_core.solver.cancellation import Cancellation
    from img_core.solver.events import Events
    from img_core.solver.layers import Layers, image_stack
    from img_core.solver.result import open_tree

    final = os.path.abspath(directory)
    if os.path.lexists(final) and not force:
        raise ImgError(
            f"destination directory already exists: {fs.show(directory)}", hint="remove it, or use `--force`"
        )
    store = session.store
    image = store.images.get(normalize(name), name)
    content = store.images.content(image.descriptor, platform or platforms.host_platform(), name)
    snapshotter = session.snapshotter(backend)
    layers = Layers(store, snapshotter, Events(session.notice), Cancellation())
    policy = CopyPolicy(owners=session.host.mapping == "root")
    with (
        open_tree(layers, snapshotter, image_stack(content), recorded=session.host.mapping == "single") as tree,
        _staged(final) as stage_fd,
    ):
        return copy_tree(tree, stage_fd, policy)


@contextmanager
def _staged(final: str) -> Iterator[int]:
    """Give a descriptor of a new directory that becomes *final* when the block succeeds, and vanishes when it fails."""
    parent = os.path.dirname(final)
    with fs.disk_errors(parent):
        os.makedirs(parent, exist_ok=True)
        stage = os.path.join(parent, f".{os.path.basename(final)}.{secrets.token_hex(6)}")
        fs.mkdir(stage, 0o755)
    try:
        descriptor = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
        if os.path.lexists(final):
            aside = f"{stage}.old"
            fs.rename(final, aside)
            fs.rename(stage, final)
            fs.remove_tree(aside)
        else:
            fs.rename(stage, final)
    except BaseException:
        with suppress(OSError):
            fs.remove_tree(stage)
        raise
