"""What the commands about stored images share."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from img_core.images.names import new_name
from img_core.images.reference import Reference, full_id
from img_core.spec.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.api import Client, StoredImage

__all__ = ["find_image", "looking_for", "normalized", "target_name"]


def normalized(name: str) -> str:
    """Return *name* as the store spells it, e.g. ``docker.io/library/t1:latest``. Raises UsageError."""
    return str(Reference.parse(name, prefix=_prefix(name)).with_default_tag())


def target_name(name: str, *, pinned: bool = False) -> str:
    """Return *name* as the store spells it, for an image that gets it. Raises UsageError, also for a digest unless *pinned*."""
    return new_name(name, prefix=_prefix(name), pinned=pinned)


def _prefix(name: str) -> str:
    return f'parsing image name "{name}" failed: '


def find_image(client: Client, name: str, *, doing: str) -> StoredImage:
    """Return the image that *name* (as typed; a name or an id) means. Raises NotFoundError that starts with *doing*."""
    _check(name)
    try:
        return client.image(name)
    except NotFoundError as err:
        raise NotFoundError(f"{doing}: {err.message}", hint=err.hint) from None


@contextmanager
def looking_for(client: Client, name: str, *, doing: str) -> Iterator[None]:
    """Raise what `find_image` would if the block does not find it: that costs the store being opened once more, so only then."""
    _check(name)
    try:
        yield
    except NotFoundError:
        find_image(client, name, doing=doing)
        raise


def _check(name: str) -> None:
    if not full_id(name):
        normalized(name)  # whose message tells more
