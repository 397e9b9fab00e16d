"""Progress of work that moves many bytes: told seldom enough to read, often enough to be stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from img_core.spec.exporter import ExportProgress

__all__ = ["Ticker"]

_BYTES = 16 << 20
_CALLS = 2000


class Ticker:
    """Call it with the bytes done so far, and `finish` once at the end, while what was written can still be taken back.

    It tells people every 16 MiB or 2000 calls, and at the end. Raises what `ExportProgress.status` raises, e.g. Canceled.
    """

    def __init__(self, progress: ExportProgress, text: str) -> None:
        self._progress = progress
        self._text = text
        self._done = 0
        self._next = _BYTES
        self._calls = 0

    def __call__(self, done: int) -> None:
        """Note that *done* bytes are done."""
        self._done = done
        self._calls += 1
        if done >= self._next or self._calls >= _CALLS:
            self._next, self._calls = done + _BYTES, 0
            self._progress.status(self._text, current=done, finished=False)

    def finish(self) -> None:
        """Tell that all is done."""
        self._progress.status(self._text, current=self._done, total=self._done)
