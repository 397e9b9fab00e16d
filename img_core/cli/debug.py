"""``img debug``: a shell, or a command, in what a failed step left."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from img_core.cli import _terminal
from img_core.cli._base import Command, settings_of
from img_core.cli._exit import signals_to
from img_core.cli._output import say_line
from img_core.spec.errors import UsageError
from img_core.spec.text import show

if TYPE_CHECKING:
    from img_core.api import StepFailure

__all__ = ["command"]

_COMMAND = "img_core.cli.debug.command"


class _WithCommand(Command):
    """Keeps the words behind ``--`` apart: they are a command, whatever stands before."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what stands before ``--``."""
        if "--" in args:
            place = args.index("--")
            ctx.meta[_COMMAND], args = args[place + 1 :], args[:place]
        return super().parse_args(ctx, args)


@click.command("debug", cls=_WithCommand)
@click.argument("words", nargs=-1, metavar="[BUILD] [-- COMMAND...]")
@click.pass_context
def command(context: click.Context, words: tuple[str, ...]) -> None:
    """Open a shell in what the last failed step left."""
    from img_core.api import CancelHandle

    if len(words) > 1:
        given = shlex.join(words[1:])
        raise UsageError("debug expects one BUILD", hint=f"a command stands behind two dashes: `-- {show(given)}`")
    wanted: list[str] = context.meta.get(_COMMAND, [])
    client = settings_of(context).client()
    handle = CancelHandle()
    codes = []

    def enter(failure: StepFailure) -> None:
        if not wanted:
            say_line("", f"in a copy of what `{failure.name}` left: {failure.message}")
        codes.append(_terminal.enter(failure, wanted or [failure.shell], _terminal.find()))

    with client, signals_to(handle.cancel):
        client.debug(enter, build=words[0] if words else "last", cancel=handle)
    context.exit(codes[0])
