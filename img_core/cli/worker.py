"""``img worker``: does a part of somebody's build, as engines start it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._exit import signals_to
from img_core.cli._input import standard_input
from img_core.files.rootlock import given_up
from img_core.spec.errors import ImgError, UsageError
from img_core.spec.text import why

if TYPE_CHECKING:
    from img_core.api import Client
    from img_core.cli._settings import Settings

__all__ = ["command"]


@click.command("worker", cls=Command)
@click.option("--executor", default="auto", help="what runs the steps")
@click.option("--max-parallelism", type=int, default=0, help="run at most so many steps at the same time")
@click.argument("task", required=False, default="")
@click.pass_context
def command(context: click.Context, task: str, executor: str, max_parallelism: int) -> None:
    """Do the steps of the task in a file, or from standard input with `-`, and save them in the cache that it names.

    What happens is printed as JSON, one object a line. Engines start this on other machines, see `img build --engine`.
    """
    if not task:
        raise UsageError("which task? name its file, or `-` for standard input")
    context.exit(_work(settings_of(context), task, executor, max_parallelism))


def _read(path: str) -> str:
    try:
        if path == "-":
            with given_up():
                return standard_input().read().decode()
        with open(path, "rb") as file:
            return file.read().decode()
    except UnicodeDecodeError:
        raise UsageError("a task must be JSON") from None
    except OSError as err:
        raise ImgError(f"cannot read the task `{path}`: {why(err)}") from err


def _get_ready(client: Client, backend: str, executor: str) -> None:
    """Load what tasks need and see what this host has; what it lacks, the task says."""
    client.expect_work()
    for kind, name in (("snapshotter", backend), ("executor", executor)):
        with suppress(ImgError):
            client.plugins.make(kind, name, client.host, host=client.host)


def _work(settings: Settings, path: str, executor: str, steps: int) -> int:
    from img_core.api import CancelHandle
    from img_core.cli._output import echo, flush

    def tell(line: str) -> None:
        echo(line)
        flush()

    handle = CancelHandle()
    with settings.client() as client:
        client.enter()  # while there is a single thread
        _get_ready(client, settings.backend, executor)  # engines may start us before they have a task
        task = _read(path)
        with signals_to(handle.cancel):
            return client.work(
                task,
                on_line=tell,
                backend=settings.backend,
                executor=executor,
                max_parallelism=steps,
                cancel=handle,
            )
