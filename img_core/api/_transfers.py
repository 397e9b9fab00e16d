"""Progress events of a pull, a push, a save or a load: one step, whose parts are the blobs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from img_core.spec.progress import Event, TransferStatus

__all__ = ["counting", "reporting"]


@contextmanager
def reporting(name: str, on_event: Callable[[Event], None] | None, *, verb: str = "") -> Iterator[TransferStatus]:
    """Tell *on_event* of the block as one step *name*; give the function that hears of the transfers.

    *verb* stands before the digests of blobs, e.g. ``pushing``.
    """
    from img_core.solver.events import Events

    events = Events()
    if on_event is not None:
        events.listen(on_event)
    with events.step(name):

        def status(what: str, current: int, total: int, outcome: str = "") -> None:
            text = f"{verb} {what}" if verb else what
            events.status(name, text, current, total, finished=bool(outcome), outcome=outcome)

        yield status


@contextmanager
def counting(name: str, total: int, on_event: Callable[[Event], None] | None) -> Iterator[Callable[[int], None]]:
    """Tell *on_event* of the block as one step *name* that reads or writes an archive of about *total* bytes.

    Gives the function that hears how many bytes are done.
    """
    if on_event is None:
        yield lambda _bytes: None
        return
    with reporting(name, on_event) as status:
        done = 0

        def tick(current: int) -> None:
            nonlocal done
            done = current
            status("archive", current, total)

        yield tick
        status("archive", done, done, "done")
