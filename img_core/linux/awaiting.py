"""What takes long, done in a thread for programs with an event loop, and stopped when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["awaited"]

Result = TypeVar("Result")


async def awaited(work: Callable[[], Result], stop: Callable[[], None], *, name: str) -> Result:
    """Return what *work* does in a thread *name* of its own. If the task is canceled, *stop* stops the work, and its end is awaited."""
    future: Future[Result] = Future()
    # Not the loop's own executor: a few calls would hold up everybody else who uses that.
    threading.Thread(target=_settle, args=(future, work), name=name, daemon=True).start()
    waiting = asyncio.wrap_future(future)
    canceled: asyncio.CancelledError | None = None
    while not waiting.done():
        try:
            await asyncio.wait([waiting])
        except asyncio.CancelledError as err:
            canceled = err
            stop()
    if canceled is not None:
        waiting.exception()  # it was heard
        raise canceled
    return waiting.result()


def _settle(future: Future[Result], work: Callable[[], Result]) -> None:
    try:
        future.set_result(work())
    except BaseException as err:  # surfaces in the task that waits
        future.set_exception(err)
