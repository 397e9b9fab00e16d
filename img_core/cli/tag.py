"""``img tag``: give an image another name."""

from __future__ import annotations

import click

from img_core.cli._base import Command, refuse_more, settings_of
from img_core.cli._images import find_image, target_name
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
    target_name(target, pinned=True)
    client = settings_of(context).client()
    find_image(client, source, doing=f"tagging {source} failed")
    client.tag(source, target)
    echo(f"Successfully tagged {source} as {target}")
