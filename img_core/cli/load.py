"""``img load``: images from an archive made by ``img save``, ``docker save`` or ``-o type=oci``."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._files import open_input
from img_core.cli._images import open_store, target_name
from img_core.cli._output import echo
from img_core.cli._progress import HELP as PROGRESS_HELP
from img_core.cli._transfers import Watched, showing_file
from img_core.images.reference import Reference
from img_core.spec.errors import ArchiveError, UsageError
from img_core.spec.text import show

if TYPE_CHECKING:
    from img_core.cli._settings import Settings
    from img_core.spec.importer import LoadedImage
    from img_core.store import Store

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
    name = target_name(tag) if tag else ""
    settings = settings_of(context)
    with ExitStack() as opened:
        source = path if os.path.isdir(path) else opened.enter_context(open_input(path))
        store = opened.enter_context(open_store(settings, writable=True))
        size = 0 if isinstance(source, str) else os.fstat(source.fileno()).st_size
        # Ends of a pipe may have the same terminal, and would draw over each other.
        wanted = "none" if quiet else progress or ("" if size and path != "-" else "none")
        with showing_file("Loading", f"loading {path}", size, wanted, settings) as tick:
            images = _load(store, source if isinstance(source, str) else Watched(source, tick), path, settings)
        for image in images:
            if image.names and not quiet:
                echo("\n".join(f"Loaded image: {Reference.parse(known).familiar()}" for known in image.names))
        _keep_the_nameless(store, [image for image in images if not image.names], name, quiet=quiet)


def _load(
    store: Store, source: Any, path: str, settings: Settings
) -> list[LoadedImage]:  # Any: a path, or whatever has read(size)
    """Load the images of *source*, which the user called *path*. Raises ArchiveError that names it."""
    from img_core.api._images import load
    from img_core.plugins import Plugins

    try:
        return load(store, source, Plugins(settings.config()))
    except ArchiveError as err:
        shown = "standard input" if path == "-" else f"`{show(path)}`"
        hint = "`img save`, `docker save` and `skopeo copy` write what can be loaded; `img import` takes a root file system"
        raise ArchiveError(f"cannot load {shown}: {err.message}", hint=err.hint or hint) from err


def _keep_the_nameless(store: Store, images: list[LoadedImage], name: str, *, quiet: bool) -> None:
    """Give an image without a name the one of ``-t``; without that it is kept under its id, as docker does. Raises UsageError."""
    if name and len(images) > 1:
        raise UsageError(f"the archive holds {len(images)} images without a name, but there is one `-t`")
    for image in images:
        if name:
            store.tag(name, image.descriptor)
        else:
            store.keep(image.descriptor)
        if not quiet:
            echo(
                f"Loaded image: {Reference.parse(name).familiar()}"
                if name
                else f"Loaded image ID: {image.descriptor.digest}"
            )
