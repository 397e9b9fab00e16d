"""Layers of stored images that stayed in the registries of their base images, brought here."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from img_core.api._transfers import reporting
from img_core.images.pull import fetch_layers
from img_core.spec.graph import IMAGE_SCHEME

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_core.api.session import Session
    from img_core.spec.progress import Event
    from img_core.spec.source import ImageSource
    from img_core.spec.values import Descriptor, Platform

__all__ = ["complete"]


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
