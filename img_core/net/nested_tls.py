"""TLS inside of TLS: to a server behind a proxy that is itself reached by TLS. Python's sockets cannot nest."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from img_core.net.http1 import Stream

    Result = TypeVar("Result")

__all__ = ["NestedTls"]

_RECORDS = 64 << 10


class NestedTls:
    """A `Stream` that speaks TLS to *host* over the stream *outer*."""

    def __init__(self, context: ssl.SSLContext, outer: Stream, host: str) -> None:
        self._outer = outer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._inner = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._driven(self._inner.do_handshake)

    def _driven(self, act: Callable[[], Result]) -> Result:
        """Let the inner TLS *act*, and carry its records to and fro until it is done."""
        while True:
            try:
                result = act()
            except ssl.SSLWantReadError:
                self._flush()
                if data := self._outer.recv(_RECORDS):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._outer.sendall(memoryview(data))

    def recv(self, size: int, /) -> bytes:
        """Return what is there; nothing at the end."""
        try:
            return self._driven(lambda: self._inner.read(size))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def sendall(self, data: memoryview, /) -> None:
        """Send all of *data*."""
        while data:
            data = data[self._driven(lambda rest=data: self._inner.write(rest)) :]  # type: ignore[misc]  # of no other type

    def settimeout(self, seconds: float | None, /) -> None:
        """Let the next calls wait at most so long."""
        self._outer.settimeout(seconds)

    def fileno(self) -> int:
        """Return the descriptor, or -1."""
        return self._outer.fileno()

    def shutdown(self, how: int, /) -> None:
        """End it for both sides."""
        self._outer.shutdown(how)

    def close(self) -> None:
        """Close it."""
        self._outer.close()
