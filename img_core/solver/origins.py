"""Layers of stored images that were left in the registries of their base images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.images.origins import from_origins
from img_core.images.reference import Reference
from img_core.spec.errors import IntegrityError
from img_core.spec.graph import IMAGE_SCHEME
from img_core.spec.source import PinnedImage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from img_core.images.contents import ImageContent
    from img_core.spec.source import ImageSource
    from img_core.spec.values import Descriptor
    from img_core.store import Store

__all__ = ["fetch_left", "pinned_before"]


def fetch_left(
    store: Store,
    source: Callable[[str], ImageSource],
    name: str,
    content: ImageContent,
    layer: Descriptor,
    start: int,
) -> Iterator[bytes]:
    """Give *layer* of the stored image *name* from byte *start* on, from a registry that is known to have it; the caller verifies it.

    Raises RegistryError or CredentialsError when no registry gives it, IntegrityError when none is known.
    """
    origins = store.origins(layer.digest)
    if not origins:
        raise IntegrityError(f"layer {layer.digest} is missing in the state directory", hint="pull the image again")

    def read(origin: str, position: int) -> Iterator[bytes]:
        return source(IMAGE_SCHEME).blob_from(pinned_before(store, origin, content), layer, position)

    yield from from_origins(name, layer.digest, origins, read, start)


def pinned_before(store: Store, name: str, content: ImageContent) -> PinnedImage:
    """Return what a source gave for *content* under *name* in an earlier build, or would give if it were there."""
    manifest, config = content.manifest, content.config_descriptor
    documents = {item.digest: store.read(item.digest) for item in (manifest, config)}
    reference = str(Reference.parse(name).with_digest(manifest.digest))
    return PinnedImage(reference, manifest, manifest, config, content.layers, documents)
