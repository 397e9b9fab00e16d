"""Waiting for what may take for ever, in such a way that a signal is heard meanwhile.

Python calls the handler of a signal in the main thread, between two instructions. A wait of that thread is interrupted for it, but not
where the signal came after the last instruction and before the wait had begun, nor where the kernel gave it to another thread. On a busy
machine that moment is long: who gives up the interpreter waits for another thread to take it. Such a signal would be heard when the wait
ends by itself. So this is how the main thread waits for threads, processes and descriptors that may take for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import select
    import threading

__all__ = ["join", "ready", "until_set"]

_PAUSE: Final = 0.5  #: seconds for which at most a signal is not heard


def join(thread: threading.Thread) -> None:
    """Wait for the end of *thread*."""
    while thread.is_alive():
        thread.join(_PAUSE)


def until_set(event: threading.Event) -> None:
    """Wait until *event* is set."""
    while not event.wait(_PAUSE):
        pass


def ready(poll: select.poll) -> list[tuple[int, int]]:
    """Wait until *poll* has something to tell; return descriptors with their events, as its method does."""
    while not (found := poll.poll(_PAUSE * 1000)):
        pass
    return found
