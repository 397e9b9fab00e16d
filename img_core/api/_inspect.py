"""What there is to know about one stored image."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from img_core.api._values import HistoryEntry, ImageDetails, StoredImage
from img_core.spec.errors import ImgError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from img_core.images.contents import ImageContent
    from img_core.store import Store
    from img_core.store.images import Image

__all__ = ["details", "shown"]


def shown(store: Store, image: Image, *, labels: bool = False) -> StoredImage:
    """Return *image* as callers see it; with *labels* they are read from its config."""
    target = image.descriptor
    return StoredImage(
        image.name,
        target.digest,
        target.media_type,
        store.images.content_size(image),
        image.created,
        image.updated,
        target.annotations,
        _labels(store, image) if labels else {},
    )


def _labels(store: Store, image: Image) -> Mapping[str, str]:
    """Return the labels of the config, of the host's platform if there are several; none for an image that is damaged."""
    try:
        content = store.images.content(image.descriptor, None, image.name)
    except ImgError:
        return {}
    return (content.config.document.get("config") or {}).get("Labels") or {}


def details(store: Store, image: StoredImage, content: ImageContent) -> ImageDetails:
    """Return all about the platform *content* of *image*."""
    return ImageDetails(
        image=image,
        platform=str(content.config.platform),
        manifest_digest=content.manifest.digest,
        config_digest=content.config_descriptor.digest,
        config=json.loads(store.read(content.config_descriptor.digest)),
        layers=tuple(layer.digest for layer in content.layers),
        history=_history(content),
    )


def _history(content: ImageContent) -> tuple[HistoryEntry, ...]:
    """Return one entry per step, oldest first; layers that no step speaks of come last."""
    layers = list(content.layers)
    entries = []
    for step in content.config.document.get("history") or ():
        layer = layers.pop(0) if layers and not step.get("empty_layer") else None
        created, words, comment = (str(step.get(key) or "") for key in ("created", "created_by", "comment"))
        entries.append(
            HistoryEntry(created, words, comment, layer.digest, layer.size)
            if layer
            else HistoryEntry(created, words, comment)
        )
    return (*entries, *(HistoryEntry("", "", "", layer.digest, layer.size) for layer in layers))
