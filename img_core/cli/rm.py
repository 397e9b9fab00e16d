"""``img rm``: forget names of images. Their content stays until it is pruned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._images import find_image
from img_core.cli._output import echo
from img_core.spec.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.api import Client

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
    client = settings_of(context).client()
    for name in names:
        try:
            _remove(client, name, force=force)
        except NotFoundError:
            if not force:
                raise


def _remove(client: Client, name: str, *, force: bool) -> None:
    if _WILDCARDS & set(name):
        matching = list(_matching(client, name))
        if not matching:
            raise NotFoundError(f"{_DOING}: no image matches `{name}`", hint="`img ls` shows what is there")
    else:
        matching = [(name, "")]
    for shown, full in matching:
        echo(f"Removing {shown}...")
        if full:
            client.remove(full)
        else:
            _remove_one(client, shown, force=force)
        echo(f"Successfully removed {shown}")


def _remove_one(client: Client, name: str, *, force: bool) -> None:
    find_image(client, name, doing=_DOING)
    try:
        client.remove(name, force=force)
    except (NotFoundError, UsageError) as err:
        raise type(err)(f"{_DOING}: {err.message}", hint=err.hint) from err


def _matching(client: Client, pattern: str) -> Iterator[tuple[str, str]]:
    """Give the images whose short or full names match *pattern*, as people call them and in full; ``app*`` means ``app*:*``, too."""
    from fnmatch import fnmatchcase

    from img_core.images.reference import Reference

    for image in client.images():
        if image.is_untagged:
            continue
        familiar = Reference.parse(image.name).familiar()
        names = (familiar, familiar.rpartition(":")[0], image.name)
        if any(fnmatchcase(name, pattern) for name in names):
            yield familiar, image.name
