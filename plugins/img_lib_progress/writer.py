"""Writing to a stream that may be closed, full, or unable to spell a character."""

from __future__ import annotations

from typing import TextIO

__all__ = ["TextWriter"]


class TextWriter:
    """Writes text until the stream fails; from then on nothing, because progress must never stop a build."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write and flush *text*."""
        if self._stream is None or not text:
            return
        try:
            self._put(self._stream, text)
        except (OSError, ValueError):  # ValueError: the stream was closed
            self._stream = None

    @staticmethod
    def _put(stream: TextIO, text: str) -> None:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            encoding = stream.encoding or "ascii"
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
