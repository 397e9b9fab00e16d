"""``img rm``: forget names of images. Their content stays until it is pruned."""

from __future__ import annotations

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._images import find_image, open_store
from img_core.cli._output import echo
from img_core.spec.errors import UsageError

__all__ = ["command"]


@click.command("rm", cls=Command)
@click.argument("names", nargs=-1, metavar="IMAGE [IMAGE...]")
@click.pass_context
def command(context: click.Context, names: tuple[str, ...]) -> None:
    """Remove one or more images."""
    if not names:
        raise UsageError("must pass an image to remove")
    with open_store(settings_of(context), writable=True) as store:
        for name in names:
            echo(f"Removing {name}...")
            image = find_image(store, name, doing="removing image failed")
            store.images.remove(image.name)
            echo(f"Successfully removed {name}")
