"""Calls that a thread of its own makes, in order, for who must not wait for whoever is called."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Outbox"]

Item = TypeVar("Item")

#: So much may wait before what can be left out is left out: items, and bytes of them.
MOST_ITEMS = 10_000
MOST_BYTES = 16 << 20


class Outbox(Generic[Item]):
    """Calls *deliver*, which raises nothing, with each item that was `put`. The thread *name* starts with the first one."""

    def __init__(self, deliver: Callable[[Item], None], *, name: str) -> None:
        self._deliver = deliver
        self._name = name
        self._waiting: deque[tuple[Item, int]] = deque()
        self._bytes = 0  # of what is in `_waiting`
        self.left_out = 0  #: how many items were not delivered, and will not be
        self._closed = False
        self._changed = threading.Condition()  # guards all of the above
        self._thread: threading.Thread | None = None

    def put(self, item: Item, *, size: int = 0, optional: bool = False) -> bool:
        """Have *item*, of *size* bytes, delivered soon. Returns at once: False if it is *optional* and left out, for too much waits.

        Callable from any thread; after `close` it does nothing.
        """
        with self._changed:
            if self._closed:
                return True
            if optional and (len(self._waiting) >= MOST_ITEMS or self._bytes + size > MOST_BYTES):
                self.left_out += 1
                return False
            self._waiting.append((item, size))
            self._bytes += size
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            return True

    def _run(self) -> None:
        while (waiting := self._next()) is not None:
            self._deliver(waiting[0])

    def _next(self) -> tuple[Item, int] | None:
        """Wait for what to deliver next; None if there will be nothing any more."""
        with self._changed:
            while not self._waiting:
                if self._closed:
                    return None
                self._changed.wait()
            item, size = self._waiting.popleft()
            self._bytes -= size
            return item, size

    def close(self, patience: float) -> bool:
        """Wait at most *patience* seconds until all is delivered, then leave out the rest; return whether that was enough."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is None:
            return True
        self._thread.join(patience)
        with self._changed:
            if not self._thread.is_alive():
                return True
            self.left_out += len(self._waiting)
            self._waiting.clear()
            return False
