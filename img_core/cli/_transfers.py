"""Shows how far the transfers of a pull, a push, a save or a load are, by the plugin that shows builds."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from img_core.cli import _progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from img_core.api import Client
    from img_core.cli._settings import Settings
    from img_core.spec.progress import Event

__all__ = ["complete_image", "showing_file", "showing_transfers"]


@contextmanager
def showing_transfers(
    title: str, flag: str, client: Client, settings: Settings
) -> Iterator[Callable[[Event], None] | None]:
    """Give what shows the events of the work *title* (a word such as ``Pulling``), by the progress that *flag* asks for.

    None if nobody wants them. Raises UsageError.
    """
    plugins = settings.plugins()
    names = _progress.choose(flag, client.config.environment, plugins)
    with _progress.showing(names, plugins, title=title) as show:
        yield show


def complete_image(client: Client, name: str, flag: str, settings: Settings, *, platform: str = "") -> None:
    """Fetch the layers of the image *name* that its build left in registries, shown by the progress that *flag* asks for."""
    if client.missing(name, platform=platform):
        with showing_transfers("Fetching", flag, client, settings) as show:
            client.complete(name, platform=platform, on_event=show)


@contextmanager
def showing_file(title: str, flag: str, client: Client, settings: Settings) -> Iterator[Callable[[Event], None] | None]:
    """Like `showing_transfers`, for work on one archive: without *flag* something is shown only on a terminal."""
    if flag == _progress.NONE or (not flag and (sys.stderr is None or not sys.stderr.isatty())):
        yield None  # plugins need not even be looked for
        return
    with showing_transfers(title, flag, client, settings) as show:
        yield show
