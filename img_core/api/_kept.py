"""Names of kept images, and what is behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.api._images import get_image, parsed_platform, shown
from img_core.api._workplace import Workplace
from img_core.images.details import details
from img_core.spec.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from img_core.images.details import HistoryEntry, ImageDetails, StoredImage
    from img_core.images.kept import Image
    from img_core.store import Store

__all__ = ["KeptImages"]


class KeptImages(Workplace):
    """The calls of a client that look at images and name them: they are brief, and done in this process."""

    def images(self, *, labels: bool = False) -> tuple[StoredImage, ...]:
        """Return all images, by name. With *labels* each has its labels, which takes a look into each."""
        with self._store() as store:
            return tuple(shown(store, image, labels=labels) for image in store.images.list())

    def image(self, name: str) -> StoredImage:
        """Return the image that *name* (a name or an id, perhaps cut) means. Found by an id, its name is that id.

        Raises NotFoundError, UsageError.
        """
        with self._store() as store:
            return shown(store, get_image(store, name))

    def inspect(self, name: str, *, platform: str = "") -> ImageDetails:
        """Return everything about an image; of several platforms that of the host, or *platform*. Raises NotFoundError, UsageError."""
        wanted = parsed_platform(platform)
        with self._store() as store:
            image = get_image(store, name)
            return details(store, shown(store, image), store.images.content(image.descriptor, wanted, name))

    def history(self, name: str, *, platform: str = "") -> tuple[HistoryEntry, ...]:
        """Return how an image came to be, the oldest step first. Arguments and errors as `inspect`."""
        return self.inspect(name, platform=platform).history

    def tag(self, source: str, target: str) -> StoredImage:
        """Let the name *target* mean the image *source* as well; return it under that name. Raises NotFoundError, UsageError."""
        from img_core.images.names import new_name

        name = new_name(target, pinned=True)
        with self._store(writable=True) as store:
            store.tag(name, get_image(store, source).descriptor)
            return shown(store, store.images.get(name))

    def remove(self, name: str, *, force: bool = False) -> tuple[str, ...]:
        """Forget the name of an image; by id all names, which must be one unless *force* is given. Content stays until it is pruned.

        Returns the names that were forgotten. Raises NotFoundError, UsageError.
        """
        with self._store(cleaning=True) as store:
            names = _names_to_forget(store, get_image(store, name), name, force=force)
            for known in names:
                store.images.remove(known)
            return names

    def missing(self, name: str, *, platform: str = "") -> tuple[str, ...]:
        """Return the digests of layers that a build left in the registry of their base image, of *platform* or of all.

        Whatever needs them fetches them. Raises NotFoundError, UsageError.
        """
        wanted = parsed_platform(platform)
        with self._store() as store:
            target, images = get_image(store, name).descriptor, store.images
            return tuple(images.left([images.content(target, wanted, name)] if wanted else images.contents(target)))


def _names_to_forget(store: Store, image: Image, shown: str, *, force: bool) -> tuple[str, ...]:
    """Return what has to be forgotten for *image* to go: its name, or all names of one that was found by its id, if *force* says so."""
    from img_core.images.reference import Reference

    if not image.is_untagged:
        if "@" in shown and image.name != str(Reference.parse(shown).with_default_tag()):
            raise NotFoundError(f'image "{shown}": not found', hint=f"that image is called {image.name}")
        return (image.name,)
    names = tuple(other.name for other in store.images.list() if other.descriptor.digest == image.descriptor.digest)
    if not names:
        raise UsageError(f"`{shown}` is one platform of an image with several", hint="remove that image")
    if len(names) > 1 and not force:
        raise UsageError(f"{shown} has several names: {', '.join(names)}", hint="remove one of them, or all with `-f`")
    return names
