"""``img rm``: forget names of images. Their content stays until it is pruned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._images import find_image, normalized, open_store
from img_core.cli._output import echo
from img_core.spec.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.store import Store
    from img_core.store.images import Image

__all__ = ["command"]

_WILDCARDS = frozenset("*?[")  # no image name contains them
_DOING = "removing image failed"


@click.command("rm", cls=Command)
@click.option(
    "-f", "--force", is_flag=True, help="it is no error if an image does not exist; by id, remove all its names"
)
@click.argument("names", nargs=-1, metavar="IMAGE [IMAGE...]")
@click.pass_context
def command(context: click.Context, force: bool, names: tuple[str, ...]) -> None:
    """Remove one or more images, by name or id. Names may have wildcards: 'app:*'."""
    if not names:
        raise UsageError("must pass an image to remove")
    with open_store(settings_of(context), cleaning=True) as store:
        for name in names:
            try:
                _remove(store, name, force=force)
            except NotFoundError:
                if not force:
                    raise


def _remove(store: Store, name: str, *, force: bool) -> None:
    if _WILDCARDS & set(name):
        matching = list(_matching(store, name))
        if not matching:
            raise NotFoundError(f"{_DOING}: no image matches `{name}`", hint="`img ls` shows what is there")
    else:
        matching = [(name, "")]
    for shown, full in matching:
        echo(f"Removing {shown}...")
        for known in [full] if full else _names(store, find_image(store, shown, doing=_DOING), shown, force=force):
            store.images.remove(known)
        echo(f"Successfully removed {shown}")


def _names(store: Store, image: Image, shown: str, *, force: bool) -> list[str]:
    """Return what has to be forgotten for *image* to go: its name, or all names of one that was found by its id, if *force* says so."""
    if not image.is_untagged:
        if "@" in shown and image.name != normalized(shown):
            raise NotFoundError(f'{_DOING}: image "{shown}": not found', hint=f"that image is called {image.name}")
        return [image.name]
    names = [other.name for other in store.images.list() if other.descriptor.digest == image.descriptor.digest]
    if not names:
        raise UsageError(f"{_DOING}: `{shown}` is one platform of an image with several", hint="remove that image")
    if len(names) > 1 and not force:
        raise UsageError(
            f"{_DOING}: {shown} has several names: {', '.join(names)}", hint="remove one of them, or all with `-f`"
        )
    return names


def _matching(store: Store, pattern: str) -> Iterator[tuple[str, str]]:
    """Give the images whose short or full names match *pattern*, as people and as the store call them; ``app*`` means ``app*:*``, too."""
    from fnmatch import fnmatchcase

    from img_core.images.reference import Reference

    for image in store.images.list():
        if image.is_untagged:
            continue
        familiar = Reference.parse(image.name).familiar()
        names = (familiar, familiar.rpartition(":")[0], image.name)
        if any(fnmatchcase(name, pattern) for name in names):
            yield familiar, image.name
