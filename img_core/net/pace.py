"""How long an exchange may take, whatever the other side sends: a deadline for the headers of an answer, a least rate for all bytes.

A timeout of a socket is about one read. Who sends a byte now and then, or one interim answer (1xx) after the other, never meets it.
The HTTP library reads and writes through stream objects, which `Pace.watch` makes ask here first.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from img_core.linux.spans import span
from img_core.net.retry import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from img_core.net.retry import Patience

__all__ = ["Pace"]

_HEADER_BYTES = 256 << 10  #: of one answer, all interim ones among them; the library limits each of them
_PIECE = 64 << 10  #: bytes that are sent between two looks at the clock
_SHORTEST = 0.001  #: seconds; 0 would mean "do not wait"


class Pace:
    """The clock of one client. Safe to use from several threads: each is about one exchange at a time."""

    def __init__(self, limits: Patience) -> None:
        self.limits = limits
        self._here = (
            threading.local()
        )  #: ``until``, ``reason``: of the reads of this thread; ``spare``: bytes that they may bring

    def watch(self, stream: Any) -> None:  # Any: the HTTP library
        """Let *stream*, a new connection, keep to the limits."""
        read, write = stream.read, stream.write

        def timely_read(max_bytes: int, timeout: float | None = None) -> bytes:
            data: bytes = self._timely(lambda seconds: read(max_bytes, seconds), timeout)
            self._count(len(data))
            return data

        def timely_write(buffer: bytes, timeout: float | None = None) -> None:
            self._write(write, buffer, timeout)

        stream.read, stream.write = timely_read, timely_write

    def begin(self) -> None:
        """Note that a new exchange begins in this thread: reads are free until its headers are due."""
        self._set(None, "", None)

    def expect_headers(self) -> None:
        """Note that the request is sent: from now on the headers of its answer are due."""
        seconds = self.limits.header_seconds
        self._set(time.monotonic() + seconds, f"no answer in {seconds:.0f} seconds", _HEADER_BYTES)

    def paced(self, body: Iterable[bytes], *, within: float | None = None) -> Iterator[bytes]:
        """Give the chunks of *body* if they come at the least rate, and all *within* these seconds. Raises `Failure`.

        Only waiting for them counts: who uses them may take any time.
        """
        stall, floor = self.limits.stall_seconds, self.limits.floor_bytes
        chunks = iter(body)
        waited = received = spent = 0.0
        while True:
            started = time.monotonic()
            slow = stall if received >= floor else stall - waited
            whole = slow if within is None else within - spent
            reason = f"only {received:.0f} bytes in {stall:.0f} seconds" if slow <= whole else "the answer does not end"
            self._set(started + min(slow, whole), reason, None)
            try:
                with span("http", "receive"):
                    chunk = next(chunks, None)
            finally:
                self.begin()
            if chunk is None:
                return
            passed = time.monotonic() - started
            waited, spent, received = waited + passed, spent + passed, received + len(chunk)
            if waited > stall and received < floor:
                raise Failure(f"only {received:.0f} bytes in {stall:.0f} seconds", transient=True)
            if waited > stall:
                waited = received = 0.0
            yield chunk

    def _set(self, until: float | None, reason: str, spare: int | None) -> None:
        self._here.until, self._here.reason, self._here.spare = until, reason, spare

    def _count(self, size: int) -> None:
        spare = getattr(self._here, "spare", None)
        if spare is None:
            return
        self._here.spare = spare - size
        if spare < size:
            raise Failure(f"more than {_HEADER_BYTES >> 10} KiB of headers", transient=False)

    def _timely(self, act: Callable[[float | None], Any], timeout: float | None) -> Any:  # Any: what *act* gives
        """Let *act* wait no longer than there is time, and not than *timeout*."""
        until = getattr(self._here, "until", None)
        if until is None:
            return act(timeout)
        left = until - time.monotonic()
        if left <= 0:
            raise Failure(self._here.reason, transient=True)
        try:
            return act(max(_SHORTEST, left if timeout is None else min(left, timeout)))
        except Exception as err:  # of the HTTP library, which has no common root for timeouts
            if time.monotonic() >= until:
                raise Failure(self._here.reason, transient=True) from err
            raise

    def _write(self, write: Callable[[Any, float], None], buffer: bytes, timeout: float | None) -> None:
        """Send *buffer* at the least rate."""
        rate = self.limits.floor_bytes / self.limits.stall_seconds
        view = memoryview(buffer)
        until = time.monotonic() + self.limits.stall_seconds + len(view) / rate
        for start in range(0, len(view), _PIECE):
            left = until - time.monotonic()
            if left <= 0:
                raise Failure("it takes what we send too slowly", transient=True)
            write(view[start : start + _PIECE], left if timeout is None else min(left, timeout))
