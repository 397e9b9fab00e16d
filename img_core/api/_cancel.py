"""Ends what waits for the network when a build is canceled: threads that sit in a system call look at no flag."""

from __future__ import annotations

import os
import select
import threading
from typing import Protocol

__all__ = ["CloseOnCancel"]


class Closable(Protocol):
    """What makes its waiting callers return when it is closed, from any thread."""

    def close(self) -> None:
        """Close."""


class CloseOnCancel:
    """Closes *closable* once *cancel_fd* becomes readable; does nothing if that is -1. `stop` it at the end."""

    def __init__(self, cancel_fd: int, closable: Closable) -> None:
        self._closable = closable
        self._thread: threading.Thread | None = None
        if cancel_fd >= 0:
            # Our own descriptor: the number may mean something else when the caller has closed its own.
            self._cancel_fd = os.dup(cancel_fd)
            self._stop_fd = os.eventfd(0, os.EFD_CLOEXEC)
            self._thread = threading.Thread(target=self._watch, name="cancel", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        if self._thread is None:
            return
        os.eventfd_write(self._stop_fd, 1)
        self._thread.join()
        self._thread = None
        os.close(self._cancel_fd)
        os.close(self._stop_fd)

    def _watch(self) -> None:
        ready, _, _ = select.select([self._cancel_fd, self._stop_fd], [], [])
        if self._stop_fd not in ready:
            self._closable.close()
