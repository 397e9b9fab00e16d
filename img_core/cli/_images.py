"""What the commands about stored images share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.images.names import new_name
from img_core.images.reference import Reference
from img_core.spec.errors import NotFoundError

if TYPE_CHECKING:
    from img_core.cli._settings import Settings
    from img_core.store import Store
    from img_core.store.images import Image

__all__ = ["find_image", "normalized", "open_store", "target_name"]


def open_store(settings: Settings, *, writable: bool = False, cleaning: bool = False) -> Store:
    """Open the state directory without entering a namespace: for commands that touch no file of other owners. The rest: see `Store`."""
    from img_core.cli._output import warn
    from img_core.store import Store
    from img_core.store.trust import check_trusted

    config = settings.config()
    check_trusted(config.state_directory, config.environment)
    return Store(
        config.state_directory,
        writable=writable or cleaning,
        cleaning=cleaning,
        notice=warn,
    )


def normalized(name: str) -> str:
    """Return *name* as the store spells it, e.g. ``docker.io/library/t1:latest``. Raises UsageError."""
    return str(Reference.parse(name, prefix=_prefix(name)).with_default_tag())


def target_name(name: str, *, pinned: bool = False) -> str:
    """Return *name* as the store spells it, for an image that gets it. Raises UsageError, also for a digest unless *pinned*."""
    return new_name(name, prefix=_prefix(name), pinned=pinned)


def _prefix(name: str) -> str:
    return f'parsing image name "{name}" failed: '


def find_image(store: Store, name: str, *, doing: str) -> Image:
    """Return the image that *name* (as typed; a name or an id) means. Raises NotFoundError that starts with *doing*."""
    from img_core.store.lookup import find_image as find

    image = find(store.images, name, prefix=_prefix(name))
    if image is None:
        raise NotFoundError(f'{doing}: image "{name}": not found', hint="`img ls` shows what is there")
    return image
