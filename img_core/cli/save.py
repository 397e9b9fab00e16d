"""``img save``: images as one tar archive."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._images import find_image, open_store
from img_core.cli._output import warn
from img_core.cli._progress import HELP as PROGRESS_HELP
from img_core.cli._transfers import complete_image, showing_file
from img_core.linux import stdout
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from img_core.cli._settings import Settings
    from img_core.spec.exporter import Exporter
    from img_core.store.images import Image

__all__ = ["command"]

_FORMATS = ("docker", "oci")


@click.command("save", cls=Command)
@click.option("--format", "form", default="docker", help="image output format ([docker oci])")
@click.option("-o", "--output", default="", help="write to a file, instead of STDOUT")
@click.option("--progress", default="", help=f"{PROGRESS_HELP}; default: only on a terminal and with -o")
@click.argument("names", nargs=-1, metavar="IMAGE [IMAGE...]")
@click.pass_context
def command(context: click.Context, form: str, output: str, progress: str, names: tuple[str, ...]) -> None:
    """Save an image to a tar archive."""
    from img_core.api._images import save

    if not names:
        raise UsageError("must pass an image to save")
    if form not in _FORMATS:
        raise UsageError(f'"{form}" is not a valid format', hint="known: `docker`, `oci`")
    if not output and os.isatty(stdout.descriptor()):
        raise UsageError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    settings = settings_of(context)
    exporter = _exporter(settings, form)
    with ExitStack() as opened:
        store = opened.enter_context(open_store(settings))
        images = [find_image(store, name, doing=f"exporting image {name} failed") for name in names]
        # Ends of a pipe may have the same terminal, and would draw over each other.
        wanted = progress or ("" if output else "none")
        for image in images:
            if store.images.left(store.images.contents(image.descriptor)):
                _complete(image, settings, wanted)
        total = 0 if wanted == "none" else sum(store.images.content_size(image) or 0 for image in images)
        tick = opened.enter_context(showing_file("Saving", f"saving {', '.join(names)}", total, wanted, settings))
        save(store, names, output or None, exporter=exporter, tick=tick)


def _exporter(settings: Settings, name: str) -> Exporter:
    """Return the exporter *name*. Raises PluginError that says who switched it off."""
    from img_core.plugins import Choice, Plugins
    from img_core.spec.host import Host

    config = settings.config()
    made: Exporter = Plugins(config).make(
        "exporter", Choice(name, {}), Host("none", config.state_directory, "", environment=config.environment)
    )
    return made


def _complete(image: Image, settings: Settings, flag: str) -> None:
    """Fetch what *image* lacks; needs more of this process than reading it does."""
    from img_core.api.session import Session

    with Session(settings.config(), namespace=False, notice=warn) as session:
        complete_image(session, image, flag)
