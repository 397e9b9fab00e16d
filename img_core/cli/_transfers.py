"""Shows how far the transfers of a pull, a push, a save or a load are, by the plugin that shows builds."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from img_core.cli import _progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from img_core.plugins import Plugins
    from img_core.spec.progress import TransferStatus

__all__ = ["showing_transfers"]


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
        with events.step(name) as step:

            def status(what: str, current: int, total: int, outcome: str = "") -> None:
                text = f"{verb} {what}" if verb else what
                events.status(step, text, current, total, finished=bool(outcome), outcome=outcome)

            yield status
