"""Two halves of one stream in two threads: hashing and (de)compressing beside the file system work.

Both directions use a bounded queue. An error on either side surfaces in the caller, and no thread outlives the call.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from img_core.linux.parallel import Worker
from img_core.linux.spans import span

__all__ = ["Prefetch", "Worker"]

_DEPTH = 4  # blocks of about 1 MiB in flight
_POLL = 0.05  # seconds; only how long a stop may take, never how long data waits


class Prefetch:
    """Iterates over *source* in its own thread, a few blocks ahead; `read` gives them to a reader.

    Leaving the ``with`` block stops the thread after the block it is making.
    """

    def __init__(self, source: Iterable[bytes], *, name: str) -> None:
        self._source = source
        self._queue: queue.Queue[bytes | None] = queue.Queue(_DEPTH)
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._rest = b""
        self._done = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            blocks = iter(self._source)
            while True:
                with span("pipeline", self._thread.name):
                    block = next(blocks, None)
                if block is None or not self._offer(block):
                    return
        except BaseException as err:  # raised again by `read`
            self._error = err
        finally:
            self._offer(None)

    def _offer(self, block: bytes | None) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(block, timeout=_POLL)
                return True
            except queue.Full:
                continue
        return False

    def read(self, size: int, /) -> bytes:
        """Return between 1 and *size* bytes, or nothing at the end; raise what the source failed with."""
        while not self._rest and not self._done:
            block = self._queue.get()
            if block is None:
                self._done = True
                if self._error is not None:
                    raise self._error
            else:
                self._rest = block
        piece, self._rest = _split(self._rest, size)
        return piece

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()


def _split(block: bytes, size: int) -> tuple[bytes, bytes]:
    """Return the first *size* bytes and the rest; a block that fits is not copied."""
    return (block, b"") if len(block) <= size else (block[:size], block[size:])


class Serial:
    """The same interface as `Prefetch` without a thread: for small streams, where a thread costs more than it gives."""

    def __init__(self, source: Iterable[bytes]) -> None:
        self._blocks: Iterator[bytes] = iter(source)
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        """Return between 1 and *size* bytes, or nothing at the end."""
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return b""
            self._rest = block
        piece, self._rest = _split(self._rest, size)
        return piece

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass
