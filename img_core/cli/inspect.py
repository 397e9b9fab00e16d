"""``img inspect``: the configuration of an image."""

from __future__ import annotations

import json

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._images import find_image, open_store
from img_core.cli._output import echo
from img_core.spec.errors import UsageError

__all__ = ["command"]


@click.command("inspect", cls=Command)
@click.option("--platform", default="", help="choose one platform of an image that has several")
@click.argument("names", nargs=-1, metavar="NAME[:TAG]")
@click.pass_context
def command(context: click.Context, platform: str, names: tuple[str, ...]) -> None:
    """Show the configuration of an image as JSON."""
    from img_core.kit import platforms

    if not names:
        raise UsageError("must pass an image to inspect")
    wanted = platforms.parse(platform) if platform else platforms.host_platform()
    with open_store(settings_of(context)) as store:
        image = find_image(store, names[0], doing=f"getting image {names[0]} from image store failed")
        content = store.images.content(image.descriptor, wanted, names[0])
        document = json.loads(store.read(content.config_descriptor.digest))
    echo(json.dumps(document, indent="\t", ensure_ascii=False))
