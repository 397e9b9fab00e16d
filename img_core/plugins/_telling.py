"""Telling listeners what a build does without waiting for them: they are called by a thread of their own, in order."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from img_core.linux.outbox import Outbox
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

_PATIENCE = 3.0  #: seconds that a finished build waits for its listeners
_PATIENCE_CANCELED = 0.3


def _reason(error: BaseException) -> str:
    return error.message if isinstance(error, ImgError) else describe_failure(error)


class Telling:
    """Tells the listeners behind *relay* of one build. Use as a context manager: the end waits a little for who is behind.

    *failed* hears of each failure, from the thread that calls; *warn* gets one line if something was not told at all: output, and states
    of transfers, are left out for a slow listener.
    """

    def __init__(
        self, relay: HookRelay, failed: Callable[[ListenerFailure], None], warn: Callable[[str], None]
    ) -> None:
        self._relay = relay
        self._failed = failed
        self._warn = warn
        self._notice = Notice()
        self._slow = ""
        self._outbox = Outbox(self._call, name="listeners")
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
        if not self._outbox.put((hook, values), size=size, optional=isinstance(event, StepLog | StepStatus)):
            self._slow = self._slow or self._notice.listener

    def step_finished(self, vertex: Vertex, cached: bool, seconds: float, error: str = "") -> None:
        """Tell the hook of that name, or with an *error* `img_step_failed`."""
        if error:
            self.tell("img_step_failed", vertex=vertex, error=error, seconds=seconds)
        else:
            self.tell("img_step_finished", vertex=vertex, cached=cached, seconds=seconds)

    def _call(self, told: tuple[str, dict[str, object]]) -> None:
        hook, values = told
        self._notice.tell(self._relay, hook, values)
        for failure in self._notice.failures:
            self._failed(failure)
        self._notice.failures.clear()

    def close(self, patience: float = _PATIENCE) -> None:
        """Wait at most *patience* seconds until all is told, then leave out the rest."""
        if not self._outbox.close(patience):
            left_out = self._outbox.left_out
            self._warn(
                f"plugin {self._notice.listener} is not waited for, it is too slow; {left_out} events are left out"
            )
        elif self._outbox.left_out:
            self._warn(f"plugin {self._slow} is too slow: {self._outbox.left_out} events were left out")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        canceled = isinstance(error, Canceled | KeyboardInterrupt)
        why = "" if error is None else "canceled" if canceled else _reason(error)
        self.tell("img_build_finished", error=why, seconds=time.monotonic() - self._started)
        self.close(_PATIENCE_CANCELED if canceled else _PATIENCE)
