"""Pushing images of the store to registries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.api._images import get_image
from img_core.images.reference import Reference, full_id
from img_core.spec.errors import UsageError
from img_core.store.images import check_pin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from img_core.api.session import Session
    from img_core.images.push import Pushed
    from img_core.spec.progress import TransferStatus
    from img_core.spec.values import Descriptor, Platform
    from img_core.store import Store

__all__ = ["push", "refuse_id"]


def push(
    session: Session,
    name: str,
    *,
    destination: str = "",
    platform: Platform | None = None,
    insecure: Sequence[str] = (),
    status: TransferStatus = lambda *_news: None,
) -> Pushed:
    """Push the stored image *name* to the registry and under the name that it has, or as *destination*, byte for byte.

    With a destination *name* may be an id.
    Of an index all images are pushed, or only the manifest for *platform*, if given. What the registry has is not sent again, and what
    we do not have ourselves is copied from where the image was pulled. *status* hears of each blob.
    Raises NotFoundError, RegistryError, CredentialsError, UsageError.
    """
    from img_core.images.push import push_image

    store = session.store
    if not destination:
        refuse_id(name)
    top = get_image(store, name).descriptor
    if platform is not None:
        top = store.images.content(top, platform, name).manifest
    reference = Reference.parse(destination or name).with_default_tag()
    check_pin(str(reference), top)
    with session.registry(insecure=insecure) as registry:
        pushed = push_image(reference, top, store, registry, status=status)
    _remember(store, top, reference)
    return pushed


def refuse_id(name: str) -> None:
    """Raise UsageError if *name* is the whole id of an image: it does not tell where to push to."""
    if full_id(name):
        raise UsageError(f"`{name}` is an id, which names no repository", hint=f"say where to: `img push {name} NAME`")


def _remember(store: Store, top: Descriptor, reference: Reference) -> None:
    """Note that the repository has these blobs now: the next push beside it can mount them."""
    blobs = [top.digest]
    for content in store.images.contents(top):
        blobs += [content.manifest.digest, content.config_descriptor.digest, *(item.digest for item in content.layers)]
    store.blobs.remember_origins(dict.fromkeys(blobs), reference.name)
