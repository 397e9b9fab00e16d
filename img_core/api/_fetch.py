"""Layers on their way into the store: for a pull, and for a stored image whose base layers stayed in their registries."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from img_core.api._transfers import reporting
from img_core.linux.parallel import run_together
from img_core.spec.errors import Canceled
from img_core.spec.graph import IMAGE_SCHEME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from img_core.api.session import Session
    from img_core.spec.progress import Event, TransferStatus
    from img_core.spec.source import ImageSource
    from img_core.spec.values import Descriptor, Platform
    from img_core.store import Store

__all__ = ["complete", "fetch_layers"]

_WORKERS = 4  # layers on the way at the same time


def complete(
    session: Session,
    name: str,
    descriptor: Descriptor,
    *,
    platform: Platform | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> None:
    """Fetch what the stored image *name* (as people know it), which means *descriptor*, lacks: layers that its build left in registries.

    Of an index that is all kept images, or only the one for *platform*. What arrived stays if another layer cannot be had.
    *on_event* hears of it as one step. Raises NotFoundError, RegistryError, CredentialsError, IntegrityError.
    """
    from img_core.solver.origins import fetch_left

    store = session.store
    images = store.images
    contents = [images.content(descriptor, platform, name)] if platform else list(images.contents(descriptor))
    left = {digest for digest, origins in images.left(contents).items() if origins}  # others are met by who reads them
    if not left:
        return
    sources = session.sources()
    source: ImageSource = sources(IMAGE_SCHEME)
    wanted = {
        layer: partial(fetch_left, store, sources, name, content, layer)
        for content in contents
        for layer in content.layers
        if layer.digest in left
    }
    with reporting(f"fetching layers of {name}", on_event) as status:
        fetch_layers(store, wanted, status=status, close=source.close)


def fetch_layers(
    store: Store,
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
    store: Store,
    wanted: Mapping[Descriptor, Callable[[int], Iterable[bytes]]],
    status: TransferStatus,
    stop: threading.Event,
) -> Iterator[Callable[[], None]]:
    """Give one task per layer that is not there, the largest first."""
    layers = {layer.digest: (layer, fetch) for layer, fetch in wanted.items()}
    for layer, fetch in sorted(layers.values(), key=lambda pair: -pair[0].size):
        if store.blobs.has(layer.digest):
            status(layer.digest, layer.size, layer.size, "reused")
        else:
            yield partial(_fetch_layer, store, layer, fetch, status, stop)


def _fetch_layer(
    store: Store,
    layer: Descriptor,
    fetch: Callable[[int], Iterable[bytes]],
    status: TransferStatus,
    stop: threading.Event,
) -> None:
    def check() -> None:
        if stop.is_set():
            raise Canceled

    with store.lock(f"blob:{layer.digest}", check):  # two that want one layer fetch it once
        if store.blobs.has(layer.digest):
            status(layer.digest, layer.size, layer.size, "reused")
            return
        done = 0
        for chunk in store.blobs.resume(layer, fetch):
            check()
            done += len(chunk)
            status(layer.digest, done, layer.size)
    status(layer.digest, done, layer.size, "done")
