"""Pulling images from registries into the store."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from img_core.api._fetch import fetch_layers
from img_core.images import oci, platforms
from img_core.images.reference import Reference
from img_core.spec.graph import IMAGE_SCHEME, SourceOp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from img_core.api.session import Session
    from img_core.spec.progress import TransferStatus
    from img_core.spec.source import ImageSource, PinnedImage
    from img_core.spec.values import Descriptor, Platform
    from img_core.store import Store

__all__ = ["pull"]


def pull(
    session: Session,
    name: str,
    *,
    wanted: Sequence[Platform] = (),
    all_platforms: bool = False,
    insecure: Sequence[str] = (),
    status: TransferStatus = lambda *_news: None,
) -> Descriptor:
    """Fetch the image *name* with all layers and store it under that name with the registry's digest; return what the name means.

    Of an index only the *wanted* platforms (default: the host's) or *all_platforms* are fetched. Nothing is listed before all of it has
    arrived; what arrived stays for the next try. *status* hears of each layer.
    Raises RegistryError, CredentialsError, NotFoundError, IntegrityError.
    """
    source: ImageSource = session.sources(insecure=insecure)(IMAGE_SCHEME)
    reference = Reference.parse(name).with_default_tag()
    store = session.store
    images = _pin(source, reference, wanted, all_platforms=all_platforms)
    _warn_of_others(session.notice, str(reference), images, wanted)
    top = images[0].top
    for pinned in images:
        blobs = [*pinned.documents, *(layer.digest for layer in pinned.layers)]
        store.blobs.remember_origins(blobs, reference.name)
    wanted_layers = {layer: partial(source.blob_from, pinned, layer) for pinned in images for layer in pinned.layers}
    fetch_layers(store, wanted_layers, status=status, close=source.close)
    for pinned in images:
        _keep_documents(store, pinned)
    _keep_index(store, images)
    store.tag(str(reference), top)
    return top


def _pin(
    source: ImageSource, reference: Reference, wanted: Sequence[Platform], *, all_platforms: bool
) -> list[PinnedImage]:
    """Resolve the images to fetch; the first one has what the name means as its top."""
    choices = list(dict.fromkeys(wanted)) or [platforms.host_platform()]
    if not all_platforms:
        first = source.pin(SourceOp(IMAGE_SCHEME, str(reference)), choices[0])
        return [first, *_others(source, first, reference, choices[1:])]
    first = source.pin(SourceOp(IMAGE_SCHEME, str(reference)), None)
    if first.top.digest == first.manifest.digest:
        return [first]
    rest = [image for image in _all_images(source, reference, first, depth=1) if image.digest != first.manifest.digest]
    return [
        first,
        *(source.pin(SourceOp(IMAGE_SCHEME, f"{reference.name}@{entry.digest}"), entry.platform) for entry in rest),
    ]


def _all_images(source: ImageSource, reference: Reference, pinned: PinnedImage, *, depth: int) -> Iterator[Descriptor]:
    """Give the images that the index behind *pinned* lists, also those in indexes within it, at *depth* and more."""
    top = pinned.top
    index = oci.parse_index(pinned.documents[top.digest], name=str(reference), media_type=top.media_type)
    for entry in index.manifests:
        if _is_image(entry):
            yield entry
        elif entry.media_type in oci.INDEX_TYPES and depth < oci.INDEX_DEPTH:
            inner = source.pin(SourceOp(IMAGE_SCHEME, f"{reference.name}@{entry.digest}"), entry.platform)
            yield from _all_images(source, reference, inner, depth=depth + 1)


def _others(
    source: ImageSource, first: PinnedImage, reference: Reference, wanted: Sequence[Platform]
) -> Iterator[PinnedImage]:
    """Resolve further platforms of the index that was seen *first*, also if the tag moves meanwhile."""
    for platform in wanted:
        yield source.pin(SourceOp(IMAGE_SCHEME, f"{reference.name}@{first.top.digest}"), platform)


def _warn_of_others(
    notice: Callable[[str], None], name: str, images: Sequence[PinnedImage], wanted: Sequence[Platform]
) -> None:
    """Say so, as docker does, if *name* is a single image, which has the one platform that it has, and that is not *wanted*."""
    have = images[0].manifest.platform
    for platform in wanted if images[0].top.digest == images[0].manifest.digest else ():
        if platforms.choose(platform, [have]) is None:
            notice(f"{name} does not match the specified platform: wanted {platform}, it is for {have}")


def _is_image(entry: Descriptor) -> bool:
    """Tell whether an entry of an index is an image; attestations are kept under the platform ``unknown/unknown``."""
    return entry.media_type in oci.MANIFEST_TYPES and (entry.platform is None or entry.platform.os != "unknown")


def _keep_documents(store: Store, pinned: PinnedImage) -> None:
    """Store config and manifest, what is referenced before what references it."""
    store.put(pinned.documents[pinned.config.digest], pinned.config.media_type, digest=pinned.config.digest)
    store.put(
        pinned.documents[pinned.manifest.digest],
        pinned.manifest.media_type,
        digest=pinned.manifest.digest,
        references=[pinned.config.digest, *(layer.digest for layer in pinned.layers)],
    )


def _keep_index(store: Store, images: Sequence[PinnedImage]) -> None:
    """Store what the name means, if that is an index, after the indexes within it; each references what it lists and is kept."""
    top = images[0].top
    if top.digest == images[0].manifest.digest:
        return
    documents = {digest: data for pinned in images for digest, data in pinned.documents.items()}
    kept = {pinned.manifest.digest for pinned in images}

    def keep(descriptor: Descriptor, depth: int) -> None:
        index = oci.parse_index(documents[descriptor.digest], name=descriptor.digest, media_type=descriptor.media_type)
        for entry in index.manifests:
            if entry.media_type in oci.INDEX_TYPES and entry.digest in documents and depth < oci.INDEX_DEPTH:
                keep(entry, depth + 1)
                kept.add(entry.digest)
        listed = [entry.digest for entry in index.manifests if entry.digest in kept]
        content, digest = documents[descriptor.digest], descriptor.digest
        store.put(content, descriptor.media_type, digest=digest, references=listed)

    keep(top, 1)
