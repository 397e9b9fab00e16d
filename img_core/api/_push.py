"""Pushing images of the store to registries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.kit.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from img_core.api.session import Session
    from img_core.kit.registry import Pushed
    from img_core.spec.progress import TransferStatus
    from img_core.spec.values import Descriptor, Platform
    from img_core.store import Store

__all__ = ["push"]


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

    Of an index all images are pushed, or only the manifest for *platform*, if given. What the registry has is not sent again, and what
    we do not have ourselves is copied from where the image was pulled. *status* hears of each blob.
    Raises NotFoundError, RegistryError, CredentialsError.
    """
    from img_core.kit.registry import push_image

    reference = Reference.parse(destination or name).with_default_tag()
    store = session.store
    top = store.images.get(str(Reference.parse(name).with_default_tag()), name).descriptor
    if platform is not None:
        top = store.images.content(top, platform, name).manifest
    with session.registries(insecure) as clients:
        pushed = push_image(reference, top, store, clients, status=status)
    _remember(store, top, reference)
    return pushed


def _remember(store: Store, top: Descriptor, reference: Reference) -> None:
    """Note that the repository has these blobs now: the next push beside it can mount them."""
    blobs = [top.digest]
    for content in store.images.contents(top):
        blobs += [content.manifest.digest, content.config_descriptor.digest, *(item.digest for item in content.layers)]
    store.blobs.remember_origins(dict.fromkeys(blobs), reference.name)
