"""``img engines``: who could do parts of a build."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from img_core.cli._base import CommandGroup, settings_of
from img_core.cli._listing import Listing, listing_flags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.api import Client
    from img_core.spec.engine import EngineWorker

__all__ = ["command"]

_HEADER = ("ENGINE", "WORKER", "PLATFORMS", "TASKS")


@click.group("engines", cls=CommandGroup)
def command() -> None:
    """List engines and their workers, which do parts of builds on other machines."""


@command.command("ls")
@listing_flags(
    example="{{.Engine}} {{.Worker}}", cut="accepted: nothing is cut", quiet="show only the names of workers"
)
@click.argument("engines", nargs=-1, metavar="[ENGINE[,KEY=VALUE]]...")
@click.pass_context
def list_engines(context: click.Context, engines: tuple[str, ...], template: str, no_trunc: bool, quiet: bool) -> None:
    """List the workers of each ENGINE; without any, the engines that are installed."""
    with settings_of(context).client() as client:
        if engines:
            client.enter()
            found = [(engine, worker) for engine in engines for worker in client.workers(engine)]
            rows = [_row(engine, worker) for engine, worker in found]
        else:
            rows = [(name, "", "", "") for name in _installed(client)]
    Listing(template, quiet).show(
        lambda: [dict(zip(("Engine", "Worker", "Platforms", "Tasks"), row, strict=True)) for row in rows],
        keys=lambda: [row[1] or row[0] for row in rows],
        rows=lambda: [_HEADER, *rows],
    )


def _installed(client: Client) -> Iterator[str]:
    return iter(client.plugins.names("engine"))


def _row(engine: str, worker: EngineWorker) -> tuple[str, str, str, str]:
    return engine.partition(",")[0], worker.name, ",".join(worker.platforms), str(worker.slots)
