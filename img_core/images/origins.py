"""Bytes of blobs that are not kept here, from the repositories that are known to have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from img_core.images.reference import Reference
from img_core.spec.errors import CredentialsError, ImgError, IntegrityError, NotFoundError, RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from img_core.images.contents import ImageContent
    from img_core.spec.source import ImageSource, PinnedImage
    from img_core.spec.values import Descriptor, Digest

__all__ = ["fetch_left", "from_origins", "pinned_before"]

#: What to do when a layer cannot be fetched from where it was left.
_HINT = "images that need no registry are made by `img pull`, or `img build -o type=image,name=NAME,store-allow-incomplete=false`"


class _Store(Protocol):
    """What is known of blobs, and documents."""

    def origins(self, digest: Digest) -> list[str]: ...

    def read(self, digest: Digest) -> bytes: ...


def from_origins(
    name: str, digest: Digest, origins: Sequence[str], read: Callable[[str, int], Iterator[bytes]], start: int
) -> Iterator[bytes]:
    """Give the blob *digest* of the image *name* from byte *start* on; where one of *origins* fails, the next goes on.

    *read* gives the bytes from a repository (``domain/path``), from a byte on. The caller verifies them. When no repository is left,
    RegistryError (CredentialsError, if that was it) says why the first one failed.
    """
    failures: list[ImgError] = []
    for origin in origins:
        try:
            for chunk in read(origin, start):
                start += len(chunk)
                yield chunk
            return
        except (NotFoundError, RegistryError, CredentialsError) as err:
            failures.append(err)
    kind = CredentialsError if isinstance(failures[0], CredentialsError) else RegistryError
    raise kind(
        f"layer {digest} of {name} was left in {origins[0]}: {failures[0].message}",
        hint=failures[0].hint or _HINT,
    ) from failures[0]


def fetch_left(
    store: _Store,
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

    from img_core.spec.graph import IMAGE_SCHEME  # 2 ms; a push needs neither this nor what is below

    def read(origin: str, position: int) -> Iterator[bytes]:
        return source(IMAGE_SCHEME).blob_from(pinned_before(store, origin, content), layer, position)

    yield from from_origins(name, layer.digest, origins, read, start)


def pinned_before(store: _Store, name: str, content: ImageContent) -> PinnedImage:
    """Return what a source gave for *content* under *name* in an earlier build, or would give if it were there."""
    from img_core.spec.source import PinnedImage

    manifest, config = content.manifest, content.config_descriptor
    documents = {item.digest: store.read(item.digest) for item in (manifest, config)}
    reference = str(Reference.parse(name).with_digest(manifest.digest))
    return PinnedImage(reference, manifest, manifest, config, content.layers, documents)
