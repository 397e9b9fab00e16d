"""``img import``: an image of one layer from a root file system in a tar archive."""

from __future__ import annotations

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._files import open_input
from img_core.cli._images import target_name
from img_core.cli._output import echo
from img_core.spec.errors import UsageError

__all__ = ["command"]


@click.command("import", cls=Command)
@click.option("--platform", default="", help="platform of the files (default: this host's)")
@click.argument("arguments", nargs=-1, metavar="FILE|- NAME[:TAG]")
@click.pass_context
def command(context: click.Context, platform: str, arguments: tuple[str, ...]) -> None:
    """Make an image from a tar archive (plain or compressed) of a root file system; - reads standard input."""
    from img_core.images import platforms

    if len(arguments) != 2:
        raise UsageError("must pass a file (or `-`) and a name for the image")
    path, name = arguments
    target_name(name)
    if platform:
        platforms.parse(platform)  # a mistake is told before anything is opened
    with open_input(path) as stream:
        image = settings_of(context).client().import_rootfs(stream, name, platform=platform)
    echo(image.digest)
