"""Shows how far the transfers of a pull, a push, a save or a load are, by the plugin that shows builds."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from img_core.cli import _progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import BinaryIO

    from img_core.api.session import Session
    from img_core.cli._settings import Settings
    from img_core.plugins import Plugins
    from img_core.spec.progress import TransferStatus
    from img_core.spec.values import Platform
    from img_core.store.images import Image

__all__ = ["Watched", "complete_image", "showing_file", "showing_transfers"]


@contextmanager
def showing_transfers(
    title: str, name: str, flag: str, plugins: Plugins, environment: Mapping[str, str], *, verb: str = ""
) -> Iterator[TransferStatus]:
    """Show the block as one step *name* of the work *title* (a word such as ``Pulling``), by the progress that *flag* asks for.

    Gives the function that hears of the transfers. *verb* stands before the digests of blobs, e.g. ``pushing``. Raises UsageError.
    """
    from img_core.solver.events import Events

    names = _progress.choose(flag, environment, plugins)
    with _progress.showing(names, plugins, title=title) as show:
        events = Events()
        if show is not None:
            events.listen(show)
        with events.step(name):

            def status(what: str, current: int, total: int, outcome: str = "") -> None:
                text = f"{verb} {what}" if verb else what
                events.status(name, text, current, total, finished=bool(outcome), outcome=outcome)

            yield status


def complete_image(session: Session, image: Image, flag: str, platform: Platform | None = None) -> None:
    """Fetch the layers of *image* that its build left in registries, shown by the progress that *flag* asks for; see `complete`."""
    from img_core.api._fetch import complete

    with showing_transfers(
        "Fetching", f"fetching layers of {image.name}", flag, session.plugins, session.config.environment
    ) as status:
        complete(session, image.name, image.descriptor, platform=platform, status=status)


@contextmanager
def showing_file(title: str, name: str, total: int, flag: str, settings: Settings) -> Iterator[Callable[[int], None]]:
    """Show the block as one step *name* that reads or writes an archive of about *total* bytes.

    Gives the function that hears how many bytes are done. Without *flag* something is shown only on a terminal. Raises UsageError.
    """
    if flag == _progress.NONE or (not flag and (sys.stderr is None or not sys.stderr.isatty())):
        yield lambda _bytes: None  # plugins need not even be looked for
        return
    with showing_transfers(title, name, flag, settings.plugins(), settings.config().environment) as status:
        done = 0

        def tick(current: int) -> None:
            nonlocal done
            done = current
            status("archive", current, total)

        yield tick
        status("archive", done, done, "done")


class Watched:
    """Reads *source* and tells *tick* how much was read."""

    def __init__(self, source: BinaryIO, tick: Callable[[int], None]) -> None:
        self._source = source
        self._tick = tick
        self._done = 0

    def read(self, size: int, /) -> bytes:
        """Read at most *size* bytes."""
        data = self._source.read(size)
        self._done += len(data)
        self._tick(self._done)
        return data
