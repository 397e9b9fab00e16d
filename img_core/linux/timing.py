"""How long calls take, as lines on standard error for who looks for a slow one."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

__all__ = ["timed", "traced"]


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Write a line about *what* was done inside of the ``with`` block, also if it fails."""
    began = time.perf_counter()
    try:
        yield
    finally:
        sys.stderr.write(f"{what} {(time.perf_counter() - began) * 1000:.2f} ms\n")


def traced(what: str, function: Callable[..., Any], *, generator: bool) -> Callable[..., Any]:
    """Return a function like *function*, attributes included, of whose calls lines are written; of a *generator* until its end."""
    if not generator:
        return timed(what)(function)

    @wraps(function)
    def call(*args: Any, **more: Any) -> Generator[Any, Any, Any]:  # Any: as *function*
        with timed(f"{what}, around others,"):
            return (yield from function(*args, **more))

    return call
