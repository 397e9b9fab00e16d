"""One flag that stops work: for those who poll, those who wait on a descriptor, those who ask, and those who wait for the network."""

from __future__ import annotations

import os
import select
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from img_core.spec.errors import Canceled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["CancelHandle", "Cancellation", "CloseOnCancel"]


Worker = TypeVar("Worker")


class Cancellation:
    """Set once, by a signal handler, a failed step or a caller; never unset."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  #: becomes readable when set
        self._event = threading.Event()
        self._closing = threading.RLock()  # guards the life of `fd`; a signal handler may interrupt who holds it
        self.signum = int(signal.SIGINT)
        self._interrupted: int | None = None  # the thread in which `cancel` raises

    def cancel(self, signum: int = int(signal.SIGINT)) -> None:
        """Stop; safe in a signal handler, when called again, and in another thread while `close` is called."""
        with self._closing:
            if not self._event.is_set():
                self.signum = signum
                self._event.set()
                if self.fd >= 0:
                    os.eventfd_write(self.fd, 1)  # eight bytes: into another file, if the number were no longer ours
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

    def undisturbed(self, worker: Worker) -> Worker:
        """Return what can do all that *worker* can, where nothing of it is left in its middle within `interrupting`.

        It watches the cancellation itself where it waits.
        """
        return cast("Worker", _Undisturbed(worker, self))

    @property
    def canceled(self) -> bool:
        """Whether to stop."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise Canceled if to stop."""
        if self._event.is_set():
            raise Canceled(signum=self.signum)

    def close(self) -> None:
        """Release the descriptor; harmless when called twice."""
        with self._closing:
            fd, self.fd = self.fd, -1
            if fd >= 0:
                os.close(fd)


class _Undisturbed:
    """Whatever *worker* can do, each call done to its end."""

    def __init__(self, worker: object, cancellation: Cancellation) -> None:
        self._worker = worker
        self._cancellation = cancellation

    def __getattr__(self, name: str) -> Any:  # Any: a method of the worker
        method = getattr(self._worker, name)

        def call(*arguments: Any, **named: Any) -> Any:
            with self._cancellation.interrupting(False):
                return method(*arguments, **named)

        return call


class Closable(Protocol):
    """What makes its waiting callers return when it is closed, from any thread."""

    def close(self) -> None:
        """Close."""


class CloseOnCancel:
    """Closes *closable*, for which a thread waits, once *cancel_fd* becomes readable; does nothing if that is -1. `stop` it at the end."""

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
