"""``IMG_TRACE_PLUGINS=1``: each call of a plugin as a line on standard error, with the time that it took."""

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
def timed(plugin: str, what: str) -> Iterator[None]:
    """Write a line about what was done inside of the ``with`` block, also if it fails."""
    began = time.perf_counter()
    try:
        yield
    finally:
        sys.stderr.write(f"plugin {plugin}: {what} {(time.perf_counter() - began) * 1000:.2f} ms\n")


def traced(plugin: str, hook: str, function: Callable[..., Any], *, wrapper: bool) -> Callable[..., Any]:
    """Return an implementation of *hook* like *function* whose calls are written; marks and arguments are those of *function*."""

    @wraps(function)
    def call(*args: Any, **more: Any) -> Any:  # Any: what the hook says
        with timed(plugin, hook):
            return function(*args, **more)

    @wraps(function)
    def wrap(*args: Any, **more: Any) -> Generator[Any, Any, Any]:
        with timed(plugin, f"{hook}, around others,"):
            return (yield from function(*args, **more))

    return wrap if wrapper else call
