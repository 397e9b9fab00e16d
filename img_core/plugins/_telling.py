"""Telling listeners what a build does without waiting for them: they are called by a thread of their own, in order."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Self

from img_core.plugins._discovery import describe_failure
from img_core.plugins._listeners import Notice
from img_core.spec.errors import Canceled, ImgError
from img_core.spec.progress import StepLog, StepStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from pluggy import HookRelay

    from img_core.plugins._listeners import ListenerFailure
    from img_core.spec.graph import Vertex

__all__ = ["OBSERVED", "Telling"]

#: The hooks that only observe.
OBSERVED = (
    "img_event", "img_step_finished", "img_step_failed", "img_layer_committed", "img_exported", "img_build_finished",
)  # fmt: skip

#: So much may wait for a slow listener before output and states of transfers are left out: events, and bytes of output.
_MOST_EVENTS = 10_000
_MOST_BYTES = 16 << 20

_PATIENCE = 3.0  #: seconds that a finished build waits for its listeners
_PATIENCE_CANCELED = 0.3


def _reason(error: BaseException) -> str:
    return error.message if isinstance(error, ImgError) else describe_failure(error)


class Telling:
    """Tells the listeners behind *relay* of one build. Use as a context manager: the end waits a little for who is behind.

    *failed* hears of each failure, from the thread that calls; *warn* gets one line if something was not told at all.
    """

    def __init__(
        self, relay: HookRelay, failed: Callable[[ListenerFailure], None], warn: Callable[[str], None]
    ) -> None:
        self._relay = relay
        self._failed = failed
        self._warn = warn
        self._notice = Notice()
        self._waiting: deque[tuple[str, dict[str, object], int]] = deque()
        self._bytes = 0  # of output in `_waiting`
        self._left_out = 0
        self._slow = ""
        self._closed = False
        self._changed = threading.Condition()  # guards all of the above
        self._thread: threading.Thread | None = None
        self._started = time.monotonic()
        self._heard = {hook for hook in OBSERVED if getattr(relay, hook).get_hookimpls()}

    def hears(self, hook: str) -> bool:
        """Tell whether any listener implements *hook*."""
        return hook in self._heard

    def tell(self, hook: str, /, **values: object) -> None:
        """Have *hook* called, soon. Returns at once; callable from any thread."""
        if hook not in self._heard:
            return
        event = values.get("event")
        size = len(event.data) if isinstance(event, StepLog) else 0
        with self._changed:
            if self._closed:
                return
            full = len(self._waiting) >= _MOST_EVENTS or self._bytes + size > _MOST_BYTES
            if full and isinstance(event, StepLog | StepStatus):
                self._left_out += 1
                self._slow = self._slow or self._notice.listener
                return
            self._waiting.append((hook, values, size))
            self._bytes += size
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="listeners", daemon=True)
                self._thread.start()

    def step_finished(self, vertex: Vertex, cached: bool, seconds: float, error: str = "") -> None:
        """Tell the hook of that name, or with an *error* `img_step_failed`."""
        if error:
            self.tell("img_step_failed", vertex=vertex, error=error, seconds=seconds)
        else:
            self.tell("img_step_finished", vertex=vertex, cached=cached, seconds=seconds)

    def _run(self) -> None:
        while (item := self._next()) is not None:
            hook, values = item
            self._notice.tell(self._relay, hook, values)
            for failure in self._notice.failures:
                self._failed(failure)
            self._notice.failures.clear()

    def _next(self) -> tuple[str, dict[str, object]] | None:
        """Wait for what to tell next; None if there will be nothing any more."""
        with self._changed:
            while not self._waiting:
                if self._closed:
                    return None
                self._changed.wait()
            hook, values, size = self._waiting.popleft()
            self._bytes -= size
            return hook, values

    def close(self, patience: float = _PATIENCE) -> None:
        """Wait at most *patience* seconds until all is told, then leave out the rest."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is None:
            return
        self._thread.join(patience)
        with self._changed:
            if self._thread.is_alive():
                self._slow = self._notice.listener
                self._left_out += len(self._waiting)
                self._waiting.clear()
                self._warn(
                    f"plugin {self._slow} is not waited for, it is too slow; {self._left_out} events are left out"
                )
            elif self._left_out:
                self._warn(f"plugin {self._slow} is too slow: {self._left_out} events were left out")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        canceled = isinstance(error, Canceled | KeyboardInterrupt)
        why = "" if error is None else "canceled" if canceled else _reason(error)
        self.tell("img_build_finished", error=why, seconds=time.monotonic() - self._started)
        self.close(_PATIENCE_CANCELED if canceled else _PATIENCE)
