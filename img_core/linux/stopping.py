"""Stopping by an exception wherever the program is when a signal comes: also where Python drops what is raised, or wraps it."""

from __future__ import annotations

import signal
import sys

TYPE_CHECKING = False  # see `img_core.linux.stdout`
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Stopped", "signal_in", "stop_where_dropped"]

_MOMENT = 0.01  # seconds


class Stopped(KeyboardInterrupt):
    """A signal asked us to stop. A KeyboardInterrupt, so that plugin boundaries let it pass."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def signal_in(err: BaseException) -> int:
    """Return the signal because of which *err* was raised, 0 if it was something else.

    What is raised while a class is being made, Python before 3.12 wraps in a RuntimeError.
    """
    reason: BaseException | None = err
    while reason is not None and not isinstance(reason, KeyboardInterrupt):
        reason = reason.__cause__
    return int(getattr(reason, "signum", signal.SIGINT)) if reason is not None else 0


def stop_where_dropped(stop: Callable[[int], None]) -> None:
    """From now on call *stop* with the signal a moment after a `Stopped` was raised where nobody gets it: it may raise another one.

    That is in destructors, and in what Python calls when an object goes, as at the end of each import. Takes SIGALRM for it.
    """

    def dropped(lost: sys.UnraisableHookArgs) -> None:
        if not isinstance(lost.exc_value, Stopped):
            sys.__unraisablehook__(lost)
            return
        signum = lost.exc_value.signum
        signal.signal(signal.SIGALRM, lambda _alarm, _frame: stop(signum))
        signal.setitimer(signal.ITIMER_REAL, _MOMENT)

    sys.unraisablehook = dropped
