"""All that there is to know of an image that is kept: where it comes from, layer by layer, and what it says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from img_core.spec.dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.images.contents import Documents, ImageContent

__all__ = ["HistoryEntry", "ImageDetails", "StoredImage", "details"]


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A stored image. *name* is in full, e.g. ``docker.io/library/app:1``; an image without a name has its digest there.

    *digest* is its id: that of its manifest, or of the index of several platforms. *size* is the stored bytes of manifest, config and
    layers for this host, None if the image is damaged. Times are seconds since 1970 UTC. *labels* are there where they were asked for.
    """

    name: str
    digest: str
    media_type: str
    size: int | None
    created: float
    updated: float
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_untagged(self) -> bool:
        """Whether it is known by its id only, which docker calls dangling."""
        return self.name == self.digest


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A step of an image's history. *layer* is the digest of the layer that it made, empty if it made none; *size* are its stored bytes.

    *created* is a time as the image has it (RFC 3339), perhaps empty.
    """

    created: str
    created_by: str
    comment: str = ""
    layer: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class ImageDetails:
    """One platform's image behind a name. *config* is the whole config document; *layers* are digests, the base first.

    *history* begins with the oldest step; layers that it does not speak of come last, as steps without words.
    """

    image: StoredImage
    platform: str
    manifest_digest: str
    config_digest: str
    config: Mapping[str, Any]  # Any: JSON
    layers: tuple[str, ...]
    history: tuple[HistoryEntry, ...]


def details(documents: Documents, image: StoredImage, content: ImageContent) -> ImageDetails:
    """Return all about the platform *content* of *image*."""
    return ImageDetails(
        image=image,
        platform=str(content.config.platform),
        manifest_digest=content.manifest.digest,
        config_digest=content.config_descriptor.digest,
        config=json.loads(documents.read(content.config_descriptor.digest)),
        layers=tuple(layer.digest for layer in content.layers),
        history=tuple(_history(content)),
    )


def _history(content: ImageContent) -> Iterator[HistoryEntry]:
    """Give one entry per step, oldest first; layers that no step speaks of come last."""
    from img_core.images.history import layered_history  # not for `img ls`

    for step, layer in layered_history(content.config.document.get("history") or (), content.layers):
        made, words, comment = (str(step.get(key) or "") for key in ("created", "created_by", "comment"))
        entry = HistoryEntry(made, words, comment)
        yield replace(entry, layer=layer.digest, size=layer.size) if layer else entry
