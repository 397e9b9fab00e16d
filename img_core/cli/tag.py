"""``img tag``: give an image another name."""

from __future__ import annotations

import click

from img_core.cli._base import Command, refuse_more, settings_of
from img_core.cli._images import find_image, open_store, target_name
from img_core.cli._output import echo
from img_core.spec.errors import UsageError

__all__ = ["command"]


@click.command("tag", cls=Command)
@click.argument("names", nargs=-1, metavar="SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]")
@click.pass_context
def command(context: click.Context, names: tuple[str, ...]) -> None:
    """Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE."""
    if len(names) < 2:
        raise UsageError("must pass an image or repository and target to tag")
    refuse_more(context, names, 2, "an image and its new name")
    source, target = names
    new_name = target_name(target, pinned=True)
    with open_store(settings_of(context), writable=True) as store:
        image = find_image(store, source, doing=f"tagging {source} failed")
        store.tag(new_name, image.descriptor)
    echo(f"Successfully tagged {source} as {target}")
