"""What a running step printed: kept as it came, made readable only when somebody looks at it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from img_lib_progress.text import clean_line, log_time

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Log"]

_LIMIT = 256 * 1024  #: bytes that are kept
_SMALL = 1024  #: bytes of a chunk that others are added to: a program may write single characters
_LINE_LIMIT = 4096  #: bytes of one line that are looked at
_LEFT_OUT = "[earlier output is left out]"


class Log:
    """The end of a step's output. Adding costs the same whatever it holds: a step may print thousands of lines per second."""

    __slots__ = ("_chunks", "_cut", "_size")

    def __init__(self) -> None:
        self._chunks: deque[tuple[float, bytes]] = deque()  #: time of arrival and bytes
        self._size = 0
        self._cut = False  #: whether something is missing at the beginning

    def __bool__(self) -> bool:
        return self._size > 0

    def add(self, time: float, data: bytes) -> None:
        """Take output that came at *time*."""
        data = data[-_LIMIT:]
        self._size += len(data)
        if self._chunks and len(self._chunks[-1][1]) < _SMALL and not self._chunks[-1][1].endswith(b"\n"):
            data = self._chunks.pop()[1] + data  # the rest of a line; a line has the time of its end
        self._chunks.append((time, data))
        while self._size - len(self._chunks[0][1]) >= _LIMIT:
            self._size -= len(self._chunks.popleft()[1])
            self._cut = True

    def last(self, count: int) -> list[str]:
        """Return the last *count* lines without colours; the last one may be unfinished."""
        tail = b""
        for _time, data in reversed(self._chunks):
            tail = data + tail
            if tail.count(b"\n") > count or len(tail) > count * _LINE_LIMIT:
                break
        lines = [line for line in tail.split(b"\n")[-count - 1 :] if line.strip()]
        return [clean_line(line[-_LINE_LIMIT:], colours=False).expandtabs(4) for line in lines[-count:]]

    def lines(self, started: float, *, colours: bool) -> Iterator[str]:
        """Give all lines, each with its time since *started*."""
        if self._cut:
            yield _LEFT_OUT
        rest, time = b"", started
        for time, data in self._chunks:
            *complete, rest = (rest + data).split(b"\n")
            for line in complete:
                yield f"{log_time(time - started)} {clean_line(line, colours=colours)}"
        if rest:
            yield f"{log_time(time - started)} {clean_line(rest, colours=colours)}"
