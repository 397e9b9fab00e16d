"""What there is to know of pushing, beside the transfer itself (`img_core.images.push`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.images.reference import full_id
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from img_core.images.reference import Reference
    from img_core.spec.values import Descriptor
    from img_core.store import Store

__all__ = ["refuse_id", "remember_origin"]


def refuse_id(name: str) -> None:
    """Raise UsageError if *name* is the whole id of an image: it does not tell where to push to."""
    if full_id(name):
        raise UsageError(f"`{name}` is an id, which names no repository", hint=f"say where to: `img push {name} NAME`")


def remember_origin(store: Store, top: Descriptor, reference: Reference) -> None:
    """Note that the repository of *reference* has all of *top* now: the next push beside it can mount the blobs."""
    blobs = [top.digest]
    for content in store.images.contents(top):
        blobs += [content.manifest.digest, content.config_descriptor.digest, *(item.digest for item in content.layers)]
    store.blobs.remember_origins(dict.fromkeys(blobs), reference.name)
