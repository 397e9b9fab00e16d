"""``img completion SHELL``: a script that lets a shell complete commands, flags, plugins, images and stages."""

from __future__ import annotations

import click

from img_core.cli._base import Command, refuse_more
from img_core.cli._output import echo
from img_core.spec.errors import UsageError
from img_core.spec.text import show, suggestion

__all__ = ["command"]

_SHELLS = ("bash", "fish", "zsh")


@click.command("completion", cls=Command, epilog="For this session: source <(img completion bash)")
@click.argument("shells", nargs=-1, metavar="bash|zsh|fish")
@click.pass_context
def command(context: click.Context, shells: tuple[str, ...]) -> None:
    """Print a script that completes img's command lines."""
    refuse_more(context, shells, 1, "one shell")
    if not shells:
        raise UsageError("completion expects the name of a shell", hint="known: " + ", ".join(_SHELLS))
    if shells[0] not in _SHELLS:
        raise UsageError(f"no completion for `{show(shells[0])}`", hint=suggestion(shells[0], _SHELLS))
    from img_core.cli.completion.shells import script

    echo(script(shells[0]), end="")
