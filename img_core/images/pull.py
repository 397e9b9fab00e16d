"""Pulls images: their documents, and their layers several at a time, each once whoever else wants it."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Protocol

from img_core.images import oci, platforms
from img_core.images.reference import Reference
from img_core.linux.parallel import run_together
from img_core.spec.errors import Canceled
from img_core.spec.source_op import IMAGE_SCHEME, SourceOp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from img_core.spec.progress import TransferStatus
    from img_core.spec.source import ImageSource, PinnedImage
    from img_core.spec.values import Descriptor, Digest, Platform

__all__ = ["PullStore", "fetch_layers", "pull_image"]

_WORKERS = 4  # layers on the way at the same time


class PullStore(Protocol):
    """Where an image is pulled into."""

    def put(
        self, data: bytes, media_type: str, *, digest: Digest | None = None, references: Iterable[Digest] = ()
    ) -> Descriptor:
        """Keep a small document, and which blobs it names."""

    def has(self, digest: Digest) -> bool:
        """Tell whether a blob is kept."""

    def resume(self, descriptor: Descriptor, fetch: Callable[[int], Iterable[bytes]]) -> Iterator[bytes]:
        """Give the bytes of a blob while they are kept; *fetch* gives them from where an earlier transfer was cut."""

    def lock(self, name: str, check: Callable[[], None]) -> AbstractContextManager[None]:
        """Hold the lock *name*; *check* is called while waiting."""

    def remember_origins(self, digests: Iterable[Digest], repository: str) -> None:
        """Record that *repository* has the blobs *digests*, kept or not."""

    def tag(self, name: str, descriptor: Descriptor) -> None:
        """Let *name* mean *descriptor*."""


def pull_image(
    name: str,
    source: ImageSource,
    store: PullStore,
    *,
    wanted: Sequence[Platform] = (),
    all_platforms: bool = False,
    status: TransferStatus = lambda *_news: None,
    notice: Callable[[str], None] = lambda _text: None,
) -> Descriptor:
    """Fetch the image *name* of *source* with all layers and store it under that name; return what the name means.

    Of an index only the *wanted* platforms (default: the host's) or *all_platforms* are fetched. Nothing is listed before all of it has
    arrived; what arrived stays for the next try. *status* hears of each layer, *notice* gets one-line messages.
    Raises RegistryError, CredentialsError, NotFoundError, IntegrityError.
    """
    reference = Reference.parse(name).with_default_tag()
    images = _pin(source, reference, wanted, all_platforms=all_platforms)
    _warn_of_others(notice, str(reference), images, wanted)
    top = images[0].top
    for pinned in images:
        blobs = [*pinned.documents, *(layer.digest for layer in pinned.layers)]
        store.remember_origins(blobs, reference.name)
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


def _keep_documents(store: PullStore, pinned: PinnedImage) -> None:
    """Store config and manifest, what is referenced before what references it."""
    store.put(pinned.documents[pinned.config.digest], pinned.config.media_type, digest=pinned.config.digest)
    store.put(
        pinned.documents[pinned.manifest.digest],
        pinned.manifest.media_type,
        digest=pinned.manifest.digest,
        references=[pinned.config.digest, *(layer.digest for layer in pinned.layers)],
    )


def _keep_index(store: PullStore, images: Sequence[PinnedImage]) -> None:
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


def fetch_layers(
    store: PullStore,
    wanted: Mapping[Descriptor, Callable[[int], Iterable[bytes]]],
    *,
    status: TransferStatus,
    close: Callable[[], None],
) -> None:
    """Bring the layers *wanted* into the store, several at the same time; each has a function that gives its bytes from one on.

    *status* hears of each. The first failure ends all, by *close* what waits.
    """
    stop = threading.Event()

    def end() -> None:
        stop.set()
        close()

    run_together(_fetches(store, wanted, status, stop), workers=_WORKERS, stop=end)


def _fetches(
    store: PullStore,
    wanted: Mapping[Descriptor, Callable[[int], Iterable[bytes]]],
    status: TransferStatus,
    stop: threading.Event,
) -> Iterator[Callable[[], None]]:
    """Give one task per layer that is not there, the largest first."""
    layers = {layer.digest: (layer, fetch) for layer, fetch in wanted.items()}
    for layer, fetch in sorted(layers.values(), key=lambda pair: -pair[0].size):
        if store.has(layer.digest):
            status(layer.digest, layer.size, layer.size, "reused")
        else:
            yield partial(_fetch_layer, store, layer, fetch, status, stop)


def _fetch_layer(
    store: PullStore,
    layer: Descriptor,
    fetch: Callable[[int], Iterable[bytes]],
    status: TransferStatus,
    stop: threading.Event,
) -> None:
    def check() -> None:
        if stop.is_set():
            raise Canceled

    with store.lock(f"blob:{layer.digest}", check):  # two that want one layer fetch it once
        if store.has(layer.digest):
            status(layer.digest, layer.size, layer.size, "reused")
            return
        done = 0
        for chunk in store.resume(layer, fetch):
            check()
            done += len(chunk)
            status(layer.digest, done, layer.size)
    status(layer.digest, done, layer.size, "done")
