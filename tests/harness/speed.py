"""How long a piece of work would take on a quiet machine, however busy this one is."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

__all__ = ["processor_seconds"]

#: Seconds of processor time that `_reference` takes on the quiet machine on which the budgets of tests were set.
_QUIET = 0.016
_ATTEMPTS = 5


def processor_seconds(work: Callable[[], object], *, enough: float) -> float:
    """Return the processor time of *work* in seconds: the best of a few, or the first one below *enough*.

    Neighbours slow down even processor time: they share caches and execution units with us. So what is not quick enough at once is
    measured against a fixed piece of work just before and after; a machine that needs twice as long for that has twice the time.
    """
    best = _timed(work)
    if best < enough:
        return best
    for _ in range(_ATTEMPTS):
        before = _reference()
        elapsed = _timed(work)
        slowness = max(1.0, (before + _reference()) / 2 / _QUIET)
        best = min(best, elapsed / slowness)
        if best < enough:
            break
    return best


def _reference() -> float:
    return _timed(lambda: sum(number * number for number in range(500_000)))


def _timed(work: Callable[[], object]) -> float:
    # Without the collector: it walks over everything that the tests before have left, which says nothing about the work.
    gc.disable()
    try:
        started = time.process_time()
        work()
        return time.process_time() - started
    finally:
        gc.enable()
