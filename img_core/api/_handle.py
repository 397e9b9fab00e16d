"""Stops calls of a client from outside of them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from img_core.spec.errors import Canceled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["CancelHandle"]


class CancelHandle:
    """Stops the calls it was given to, from another thread, a signal handler or a callback; these raise `Canceled`, and leave nothing.

    .. code-block:: python

        handle = CancelHandle()
        threading.Timer(60, handle.cancel).start()
        client.build(".", cancel=handle)

    One handle may serve several calls. Once set it stays set: a call that begins later raises at once.
    """

    def __init__(self) -> None:
        # Only atomic operations on these: a signal handler can wait for no lock that it interrupted.
        self._stops: list[Callable[[int], None]] = []
        self._signum = 0

    def cancel(self, signum: int = 2) -> None:
        """Stop; may be called again. *signum* is what `Canceled` will tell."""
        self._signum = self._signum or signum
        for stop in tuple(self._stops):
            stop(self._signum)

    @property
    def canceled(self) -> bool:
        """Whether `cancel` was called."""
        return bool(self._signum)

    @property
    def is_heard(self) -> bool:
        """Whether a call listens at this moment."""
        return bool(self._stops)

    def check(self) -> None:
        """Raise Canceled if `cancel` was called."""
        if self._signum:
            raise Canceled(signum=self._signum)

    @contextmanager
    def stopping(self, stop: Callable[[int], None]) -> Iterator[None]:
        """Within the block, call *stop* with the number of a signal when `cancel` is called, perhaps more than once. Raises Canceled."""
        self.check()
        self._stops.append(stop)
        try:
            if self._signum:  # since the check
                stop(self._signum)
            yield
        finally:
            self._stops.remove(stop)
