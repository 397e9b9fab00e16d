"""``img load``: images from an archive made by ``img save``, ``docker save`` or ``-o type=oci``."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._files import open_input
from img_core.cli._images import target_name
from img_core.cli._output import echo
from img_core.cli._progress import HELP as PROGRESS_HELP
from img_core.cli._transfers import showing_file
from img_core.images.reference import Reference
from img_core.spec.errors import ArchiveError, UsageError
from img_core.spec.text import show as show_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from img_core.api import Client, LoadResult
    from img_core.spec.progress import Event

__all__ = ["command"]


@click.command("load", cls=Command)
@click.option(
    "-i", "--input", "path", default="-", help="tar archive, or directory with an OCI image layout (default: stdin)"
)
@click.option("--progress", default="", help=f"{PROGRESS_HELP}; default: only on a terminal and with -i")
@click.option("-q", "--quiet", is_flag=True, help="print nothing")
@click.option("-t", "--tag", default="", help="name for an image that has none in the archive")
@click.argument("arguments", nargs=-1, metavar="")
@click.pass_context
def command(
    context: click.Context, path: str, progress: str, quiet: bool, tag: str, arguments: tuple[str, ...]
) -> None:
    """Load images from a tar archive."""
    if arguments:
        raise UsageError("no arguments expected", hint=f"to read a file: `img load -i {arguments[0]}`")
    if tag:
        target_name(tag)
    settings = settings_of(context)
    with ExitStack() as opened:
        source = path if os.path.isdir(path) else opened.enter_context(open_input(path))
        client = settings.client()
        size = 0 if isinstance(source, str) else os.fstat(source.fileno()).st_size
        # Ends of a pipe may have the same terminal, and would draw over each other.
        wanted = "none" if quiet else progress or ("" if size and path != "-" else "none")
        with showing_file("Loading", wanted, client, settings) as show:
            images = _load(client, source, path, tag, show)
    for image in images if not quiet else ():
        if not image.names:
            echo(f"Loaded image ID: {image.digest}")
        for name in image.names:
            echo(f"Loaded image: {Reference.parse(name).familiar()}")


def _load(
    client: Client, source: str | BinaryIO, path: str, tag: str, show: Callable[[Event], None] | None
) -> Sequence[LoadResult]:
    """Load the images of *source*, which the user called *path*. Raises ArchiveError that names it."""
    try:
        return client.load(source, name=tag, on_event=show)
    except ArchiveError as err:
        shown = "standard input" if path == "-" else f"`{show_text(path)}`"
        hint = "`img save`, `docker save` and `skopeo copy` write what can be loaded; `img import` takes a root file system"
        raise ArchiveError(f"cannot load {shown}: {err.message}", hint=err.hint or hint) from err
