"""``img version``: versions of img and of what runs the containers, in the form of the original."""

from __future__ import annotations

import click

from img_core.cli._base import Command
from img_core.cli._output import echo
from img_core.cli._version import version_page
from img_core.spec.errors import UsageError

__all__ = ["command"]


@click.command("version", cls=Command)
@click.argument("arguments", nargs=-1, metavar="")
def command(arguments: tuple[str, ...]) -> None:
    """Show the version information."""
    if arguments:
        raise UsageError("no arguments expected")
    echo(version_page())
