"""``img save``: images as one tar archive."""

from __future__ import annotations

import os

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._images import find_image
from img_core.cli._progress import HELP as PROGRESS_HELP
from img_core.cli._transfers import complete_image, showing_file
from img_core.config import DEFAULT_ARCHIVE
from img_core.linux import stdout
from img_core.spec.errors import UsageError

__all__ = ["command"]


@click.command("save", cls=Command)
@click.option("--format", "form", default=DEFAULT_ARCHIVE, help="image output format ([docker oci])")
@click.option("-o", "--output", default="", help="write to a file, instead of STDOUT")
@click.option("--progress", default="", help=f"{PROGRESS_HELP}; default: only on a terminal and with -o")
@click.argument("names", nargs=-1, metavar="IMAGE [IMAGE...]")
@click.pass_context
def command(context: click.Context, form: str, output: str, progress: str, names: tuple[str, ...]) -> None:
    """Save an image to a tar archive."""
    if not names:
        raise UsageError("must pass an image to save")
    settings = settings_of(context)
    client = settings.client()
    client.archive_exporter(form)  # a wrong word is told first
    if not output and os.isatty(stdout.descriptor()):
        raise UsageError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    for name in names:
        find_image(client, name, doing=f"exporting image {name} failed")
    # Ends of a pipe may have the same terminal, and would draw over each other.
    wanted = progress or ("" if output else "none")
    for name in names:
        complete_image(client, name, wanted, settings)
    with showing_file("Saving", wanted, client, settings) as show:
        client.save(names, output or None, format=form, on_event=show)
