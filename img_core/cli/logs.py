"""``img logs``: everything that a build said."""

from __future__ import annotations

from typing import Any, TextIO, cast

import click

from img_core.cli import _progress
from img_core.cli._base import Command, refuse_more, settings_of
from img_core.cli._explained import Explained
from img_core.cli._output import echo

__all__ = ["command"]

_FORM = "plain"


class _Data:
    """Standard output as those who show progress want a stream to be; not to reach it is an error here."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        echo(text, end="")
        return len(text)

    def flush(self) -> None:
        pass


@click.command("logs", cls=Command)
@click.option("--progress", "form", default=_FORM, help="how to show it: plain, or rawjson for programs")
@click.option("--explain", is_flag=True, help="show only where each step was found, or why it had to run")
@click.option("--step", type=click.IntRange(min=1), default=None, help="show only the step with this number")
@click.argument("builds", nargs=-1, metavar="[BUILD]")
@click.pass_context
def command(context: click.Context, form: str, explain: bool, step: int | None, builds: tuple[str, ...]) -> None:
    """Show the log of a build, of the last one if none is named."""
    refuse_more(context, builds, 1, "one BUILD")
    client = settings_of(context).client()
    events = client.logs(builds[0] if builds else "last", step=step or 0)
    if explain:
        explained = Explained()
        for event in events:
            explained(event)
        for line in explained.lines():
            echo(line)
        return
    for name in _progress.choose(form or _FORM, client.config.environment, client.plugins)[:1]:
        shown: Any = client.plugins.make("progress", name, cast(TextIO, _Data()))  # Any: a Progress
        try:
            for event in events:
                shown.handle(event)
        finally:
            shown.close()
