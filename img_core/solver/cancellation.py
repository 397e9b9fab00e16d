"""One flag that stops a build, for those who poll, those who wait on a descriptor, and those who ask."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from img_core.spec.errors import Canceled

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Cancellation"]


class Cancellation:
    """Set once, by a signal handler, a failed step or a caller; never unset."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  #: becomes readable when set
        self._event = threading.Event()
        self.signum = int(signal.SIGINT)
        self._interrupted: int | None = None  # the thread in which `cancel` raises

    def cancel(self, signum: int = int(signal.SIGINT)) -> None:
        """Stop; safe in a signal handler and when called again."""
        if not self._event.is_set():
            self.signum = signum
            self._event.set()
            os.eventfd_write(self.fd, 1)
        if self._interrupted == threading.get_ident():
            self.check()

    @contextmanager
    def interrupting(self, interrupting: bool = True) -> Iterator[None]:
        """Within the block, a signal raises Canceled where this thread is: for what only computes, and asks nobody whether to stop.

        With False, not even within such a block: for what must not stop in its middle.
        """
        before = self._interrupted
        self._interrupted = threading.get_ident() if interrupting else None
        try:
            self.check()
            yield
        finally:
            self._interrupted = before
        self.check()

    @property
    def canceled(self) -> bool:
        """Whether to stop."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise Canceled if to stop."""
        if self._event.is_set():
            raise Canceled(signum=self.signum)

    def close(self) -> None:
        """Release the descriptor."""
        os.close(self.fd)
