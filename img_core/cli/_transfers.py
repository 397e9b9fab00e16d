"""Shows how far the transfers of a pull or push are: one line per blob, redrawn on a terminal, now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from img_core.cli._format import binary_size
from img_core.cli._output import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["showing_transfers"]

_PLAIN_SECONDS = 5.0  # between two lines about one blob
_TERMINAL_SECONDS = 0.1
_SMALL = 64 * 1024  # bytes; nobody wants to read about a config


@contextmanager
def showing_transfers(doing: str, *, quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Give a function that takes a digest and its bytes done and to do, from any thread. *doing* is a word such as ``pulling``."""
    if quiet or sys.stderr is None:
        yield lambda _digest, _current, _total: None
        return
    shown = _Line(doing) if sys.stderr.isatty() else _Lines(doing)
    try:
        yield shown.status
    finally:
        shown.close()


class _Transfer:
    """How far one blob is, and since when."""

    def __init__(self, current: int) -> None:
        self.started = time.monotonic()
        self.first = current  #: bytes that were there when it began
        self.shown = self.started
        self.current = current
        self.total = 0


class _Lines:
    """Writes a line about a blob when it is done, and every few seconds while it is not."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._transfers: dict[str, _Transfer] = {}
        self._transfers_lock = threading.Lock()
        self._finished: set[str] = set()

    def status(self, digest: str, current: int, total: int) -> None:
        """Take news."""
        with self._transfers_lock:
            if digest in self._finished or total < _SMALL:
                return
            transfer = self._transfers.setdefault(digest, _Transfer(current))
            now = time.monotonic()
            if current >= total:
                self._finished.add(digest)
                seconds = now - transfer.started
                say(f"{self._doing} {digest} {_progress(total, total)}{_rate(total - transfer.first, seconds)} done")
            elif now - transfer.shown >= _PLAIN_SECONDS:
                transfer.shown = now
                rate = _rate(current - transfer.first, now - transfer.started)
                say(f"{self._doing} {digest} {_progress(current, total)}{rate}")

    def close(self) -> None:
        """End; there is nothing left to show."""


class _Line:
    """Redraws one line with the sum of all transfers."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._transfers: dict[str, _Transfer] = {}
        self._transfers_lock = threading.Lock()
        self._started = self._shown = time.monotonic()
        self._drawn = False

    def status(self, digest: str, current: int, total: int) -> None:
        """Take news."""
        with self._transfers_lock:
            transfer = self._transfers.setdefault(digest, _Transfer(current))
            transfer.current, transfer.total = current, total
            now = time.monotonic()
            if now - self._shown >= _TERMINAL_SECONDS:
                self._shown = now
                self._draw(now)

    def _draw(self, now: float) -> None:
        known = self._transfers.values()
        current, total = sum(item.current for item in known), sum(item.total for item in known)
        fresh = sum(item.current - item.first for item in known)
        self._write(f"\r{self._doing} {_progress(current, total)}{_rate(fresh, now - self._started)}\x1b[K")
        self._drawn = True

    def close(self) -> None:
        """Remove the line."""
        if self._drawn:
            self._write("\r\x1b[K")

    @staticmethod
    def _write(text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError):
            pass  # a closed terminal is not our business


def _progress(current: int, total: int) -> str:
    return f"{binary_size(current)} / {binary_size(total)}"


def _rate(size: int, seconds: float) -> str:
    return f" {binary_size(size / seconds)}/s" if seconds > 0.01 and size > 0 else ""
