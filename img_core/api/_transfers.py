"""Transfers of images as progress events: one step, whose parts are the blobs; and what a stored image still lacks, fetched so."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from img_core.api.session import Session
    from img_core.spec.progress import Event, TransferStatus
    from img_core.spec.source import ImageSource
    from img_core.spec.values import Descriptor, Platform

__all__ = ["complete", "counting", "reporting"]


@contextmanager
def reporting(name: str, on_event: Callable[[Event], None] | None, *, verb: str = "") -> Iterator[TransferStatus]:
    """Tell *on_event* of the block as one step *name*; give the function that hears of the transfers.

    *verb* stands before the digests of blobs, e.g. ``pushing``.
    """
    from img_core.solver.events import Events

    events = Events()
    if on_event is not None:
        events.listen(on_event)
    with events.step(name):

        def status(what: str, current: int, total: int, outcome: str = "") -> None:
            text = f"{verb} {what}" if verb else what
            events.status(name, text, current, total, finished=bool(outcome), outcome=outcome)

        yield status


@contextmanager
def counting(name: str, total: int, on_event: Callable[[Event], None] | None) -> Iterator[Callable[[int], None]]:
    """Tell *on_event* of the block as one step *name* that reads or writes an archive of about *total* bytes.

    Gives the function that hears how many bytes are done.
    """
    if on_event is None:
        yield lambda _bytes: None
        return
    with reporting(name, on_event) as status:
        done = 0

        def tick(current: int) -> None:
            nonlocal done
            done = current
            status("archive", current, total)

        yield tick
        status("archive", done, done, "done")


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
    from img_core.images.origins import fetch_left
    from img_core.images.pull import fetch_layers
    from img_core.spec.source_op import IMAGE_SCHEME

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
