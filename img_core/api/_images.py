"""Images in the store: getting them in, looking at them, and taking them out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from img_core.images import platforms
from img_core.images.details import StoredImage
from img_core.spec.errors import ImgError, NotFoundError
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from img_core.images.kept import Image
    from img_core.plugins import Plugins
    from img_core.spec.exporter import Exporter
    from img_core.spec.importer import Importer, ImportStream, LoadedImage
    from img_core.spec.values import Digest, Platform
    from img_core.store import Store

__all__ = ["get_image", "load", "parsed_platform", "save", "shown"]

_START = 512  #: bytes that importers look at; as many as a tar header


def get_image(store: Store, text: str) -> Image:
    """Return the stored image that *text*, a name or an id, means. Raises NotFoundError, UsageError."""
    from img_core.images.kept import find_image

    image = find_image(store.images, text)
    if image is None:
        raise NotFoundError(f'image "{show(text)}": not found', hint="`img ls` shows what is there")
    return image


def parsed_platform(text: str) -> Platform | None:
    """Return the platform that *text* names, None for none. Raises UsageError."""
    return platforms.parse(text) if text else None


def load(store: Store, source: ImportStream | str | os.PathLike[str], plugins: Plugins) -> list[LoadedImage]:
    """Take every image of *source* (a stream, or the path of a directory) into the store, by the importer that knows its form.

    Raises ArchiveError, IntegrityError, and PluginError that says who switched off what would be needed; then no name was changed.
    """
    loaded = _read(source, store, plugins)
    for image in loaded:
        for name in image.names:
            store.tag(name, image.descriptor)
    return loaded


def _read(source: ImportStream | str | os.PathLike[str], store: Store, plugins: Plugins) -> list[LoadedImage]:
    """Let the importer that claims *source*, by its first bytes or as a directory, put its images into *store*."""
    from img_core.archives.codecs import looked_at

    start, directory = b"", ""
    if isinstance(source, str | os.PathLike):
        directory = source = os.fspath(source)
    else:
        start, source = looked_at(source, _START)
    name = plugins.claiming("importer", lambda driver: driver.claims(start, directory))
    importer: Importer = plugins.make("importer", name)
    return importer.load(source, store)


def save(
    store: Store,
    names: Sequence[str],
    dest: str | None,
    *,
    exporter: Exporter,
    tick: Callable[[int], None] = lambda _bytes: None,
) -> None:
    """Write the images *names* as one archive of *exporter*'s to the file *dest* (None: standard output), complete or not at all.

    *tick* hears now and then how many bytes are written.
    """
    from img_core.files.output import open_output
    from img_core.spec.exporter import NamedImage

    images: dict[Digest, NamedImage] = {}
    for name in names:
        found = get_image(store, name)
        earlier = images.get(found.descriptor.digest)
        images[found.descriptor.digest] = NamedImage(
            found.descriptor, (*(earlier.names if earlier else ()), *(() if found.is_untagged else (found.name,)))
        )
    with open_output(dest) as output:
        exporter.save(list(images.values()), store, output, tick)


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
