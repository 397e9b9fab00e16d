"""``img plugins new``: a project of a plugin that works, to begin with."""

from __future__ import annotations

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._commands import is_taken
from img_core.cli._output import echo
from img_core.spec.errors import UsageError
from img_core.spec.kinds import KINDS

__all__ = ["command"]


@click.command("new", cls=Command, epilog=f"Kinds: {', '.join(KINDS)}.")
@click.argument("kind", metavar="KIND")
@click.argument("name", metavar="NAME")
@click.option("--directory", default=".", help="where the project's directory is made", show_default="the current one")
@click.pass_context
def command(context: click.Context, kind: str, name: str, directory: str) -> None:
    """Write the project of a new plugin, which works, with its tests."""
    from img_core.testing.templates import write_project  # only when a project is written

    if kind == "command" and is_taken(name):
        raise UsageError(f"`img {name}` means something else already")
    if any((found.kind, found.name) == (kind, name) for found in settings_of(context).plugins().installed()):
        raise UsageError(f"`{kind}:{name}` is there already", hint="`img plugins ls` shows what is installed")
    echo(write_project(kind, name, directory))
