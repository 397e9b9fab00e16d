"""``img rm``: forget names of images. Their content stays until it is pruned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._images import find_image, open_store
from img_core.cli._output import echo
from img_core.spec.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.store import Store

__all__ = ["command"]

_WILDCARDS = frozenset("*?[")  # no image name contains them
_DOING = "removing image failed"


@click.command("rm", cls=Command)
@click.option("-f", "--force", is_flag=True, help="it is no error if an image does not exist")
@click.argument("names", nargs=-1, metavar="IMAGE [IMAGE...]")
@click.pass_context
def command(context: click.Context, force: bool, names: tuple[str, ...]) -> None:
    """Remove one or more images. Names may have wildcards: 'app:*'."""
    if not names:
        raise UsageError("must pass an image to remove")
    with open_store(settings_of(context), cleaning=True) as store:
        for name in names:
            try:
                _remove(store, name)
            except NotFoundError:
                if not force:
                    raise


def _remove(store: Store, name: str) -> None:
    if _WILDCARDS & set(name):
        matching = list(_matching(store, name))
        if not matching:
            raise NotFoundError(f"{_DOING}: no image matches `{name}`", hint="`img ls` shows what is there")
    else:
        matching = [(name, "")]
    for shown, full in matching:
        echo(f"Removing {shown}...")
        store.images.remove(full or find_image(store, shown, doing=_DOING).name)
        echo(f"Successfully removed {shown}")


def _matching(store: Store, pattern: str) -> Iterator[tuple[str, str]]:
    """Give the images whose short or full names match *pattern*, as people and as the store call them; ``app*`` means ``app*:*``, too."""
    from fnmatch import fnmatchcase

    from img_core.kit.reference import Reference

    for image in store.images.list():
        familiar = Reference.parse(image.name).familiar()
        names = (familiar, familiar.rpartition(":")[0], image.name)
        if any(fnmatchcase(name, pattern) for name in names):
            yield familiar, image.name
