"""``img unpack``: the root file system of an image as a directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from img_core.cli._base import Command, refuse_more, settings_of
from img_core.cli._output import echo, say
from img_core.cli._transfers import complete_image
from img_core.spec.errors import UsageError
from img_core.spec.text import show

if TYPE_CHECKING:
    from img_core.api import Unpacked

__all__ = ["command"]


@click.command("unpack", cls=Command)
@click.option(
    "--force", is_flag=True, help="replace an existing directory that img has unpacked, or that has nothing of its own"
)
@click.option("-o", "--output", default="./rootfs", help="directory to unpack the rootfs to")
@click.option("--platform", default="", help="choose one platform of an image that has several")
@click.argument("names", nargs=-1, metavar="IMAGE")
@click.pass_context
def command(context: click.Context, force: bool, output: str, platform: str, names: tuple[str, ...]) -> None:
    """Unpack an image to a rootfs directory."""
    from img_core.images import platforms

    if not names:
        raise UsageError("must pass an image to unpack as a rootfs")
    refuse_more(context, names, 1, "one image")
    if not output:
        raise UsageError("`--output` is empty")
    if os.path.lexists(output) and not force:  # before anything is set up
        raise UsageError(f"destination directory already exists: {show(output)}", hint="remove it, or use `--force`")
    if platform:
        platforms.parse(platform)  # a mistake is told before anything is opened
    settings = settings_of(context)
    with settings.client() as client:
        client.enter()  # while there is a single thread
        settings.check_backend(settings.plugins())
        found = client.inspect(names[0], platform=platform).platform
        complete_image(client, names[0], "", settings, platform=found)
        unpacked = client.unpack(names[0], output, platform=platform, force=force)
    _tell_skipped(unpacked)
    echo(f"Successfully unpacked rootfs for {names[0]} to: {output}")


def _tell_skipped(unpacked: Unpacked) -> None:
    if unpacked.skipped_count:
        names = ", ".join(f"`/{show(path)}`" for path in unpacked.skipped[:3])
        rest = unpacked.skipped_count - min(3, len(unpacked.skipped))
        say(f"warning: devices were left out: {names}" + (f" and {rest} more" if rest > 0 else ""))
