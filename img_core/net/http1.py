"""HTTP/1.1 on one connection (RFC 9112), as a client: one exchange after the other.

Strict in what decides where an answer ends, for the next one begins there; a connection whose answer was not read to its end, or that says
``close``, is not used again. Everything a server sends has a limit, except the body, which is given as it arrives.
"""

from __future__ import annotations

import re
import select
from typing import TYPE_CHECKING, NamedTuple, Protocol

from img_core.net.retry import Failure
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from img_core.net.pace import Pace

__all__ = ["Connection", "Head", "Stream"]

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: (.*))?")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_LINE = 128 << 10  #: bytes; long cookies and policies are common, headers without end are not
_TRAILERS = 64 << 10
_RECEIVED = 64 << 10
_BLOCK = 256 << 10  #: what is given at once if it is there: TLS has records of 16 KiB
_TOGETHER = 64 << 10  #: a body up to this size is sent in one piece with the head
_LEFT = 64 << 10  #: a body that nobody read is read away if not more than this is left of it, and here already
_BODYLESS = frozenset({204, 304})


class Stream(Protocol):
    """A connected socket, perhaps with TLS."""

    def recv(self, size: int, /) -> bytes:
        """Return what is there, up to *size* bytes; nothing at the end."""

    def sendall(self, data: memoryview, /) -> object:
        """Send all of *data*."""

    def settimeout(self, seconds: float | None, /) -> None:
        """Let the next calls wait at most so long."""

    def fileno(self) -> int:
        """Return the descriptor, or -1."""

    def shutdown(self, how: int, /) -> None:
        """End it for both sides, also under a thread that waits for it."""

    def close(self) -> None:
        """Close it."""


class Head(NamedTuple):
    """What an answer begins with. Names of headers are in lower case."""

    status: int
    reason: str
    headers: list[tuple[str, str]]

    def values(self, name: str) -> list[str]:
        """Return the values of all lines of header *name*."""
        wanted = name.lower()
        return [value for key, value in self.headers if key == wanted]


class Connection:
    """One connection; for one thread at a time. Raises `Failure` for what is no HTTP, OSError for what is wrong with the line."""

    def __init__(self, stream: Stream, pace: Pace) -> None:
        self.stream = stream
        self._pace = pace
        self._buffer = bytearray()
        self._body: Iterator[bytes] = iter(())
        self._left: int | None = 0  #: bytes of the body that were not read yet; None: only its end tells
        self._reusable = True

    def exchange(
        self, method: str, target: str, headers: Mapping[str, str], content: Iterable[bytes] | bytes = b""
    ) -> Head:
        """Send a request and return the head of its answer. *target* is what stands in the request line (RFC 9112, 3.2)."""
        self._reusable = False  # until the answer is complete
        refused = self._send(_head_of(method, target, headers), content)
        self._pace.expect_headers()
        try:
            version, head = self._final_head()
        except (Failure, OSError):
            if refused is not None:
                raise refused from None
            raise
        self._begin_body(method, version, head, whole=refused is None)
        return head

    def body(self) -> Iterator[bytes]:
        """Give the body as it arrives."""
        return self._body

    def finish(self) -> bool:
        """Tell whether the connection can be used for another exchange; a short rest of the body is read away."""
        if self._left is not None and self._left <= len(self._buffer) <= _LEFT:
            for _chunk in self._body:  # does not wait
                pass
        return self._reusable and self._left == 0 and not self._buffer

    def is_stale(self) -> bool:
        """Tell whether the server closed it, or sent what nobody asked for."""
        return self._readable()

    def close(self) -> None:
        """Close the connection."""
        self.stream.close()

    # ------------------------------------------------------------------------------------------------------- sending

    def _send(self, head: bytes, content: Iterable[bytes] | bytes) -> OSError | None:
        """Send a request; return the error of a server that takes no more of it: it may have answered before."""
        try:
            if isinstance(content, bytes) and len(content) <= _TOGETHER:
                self._pace.send(self.stream, head + content)
                return None
            self._pace.send(self.stream, head)
        except TimeoutError:
            raise
        except OSError as err:
            return err
        for chunk in (content,) if isinstance(content, bytes) else content:
            try:
                self._pace.send(self.stream, chunk)
            except TimeoutError:
                raise
            except OSError as err:
                return err
        return None

    # ----------------------------------------------------------------------------------------------------- receiving

    def _final_head(self) -> tuple[bytes, Head]:
        while True:
            version, head = self._head()
            if head.status >= 200:
                return version, head
            if head.status == 101:
                raise Failure("it changes to a protocol that nobody asked for", transient=False)

    def _head(self) -> tuple[bytes, Head]:
        line = self._line(_LINE)
        found = _STATUS_LINE.fullmatch(line)
        if found is None:
            raise Failure(f"it speaks no HTTP/1.1: `{show(line[:80].decode('latin-1'))}`", transient=True)
        version, status, reason = found.groups()
        return version, Head(int(status), (reason or b"").decode("latin-1"), self._headers())

    def _headers(self) -> list[tuple[str, str]]:
        headers: list[tuple[str, str]] = []
        while line := self._line(_LINE):
            if line[:1] in b" \t" and headers:  # an old way to go on in the next line (RFC 9112, 5.2)
                name, value = headers.pop()
                headers.append((name, f"{value} {line.strip().decode('latin-1')}"))
                continue
            key, colon, content = line.partition(b":")
            if not colon or not _TOKEN.fullmatch(key):
                raise Failure(f"it sends a header that is none: `{show(line[:80].decode('latin-1'))}`", transient=True)
            headers.append((key.decode("ascii").lower(), content.strip(b" \t").decode("latin-1")))
        return headers

    def _begin_body(self, method: str, version: bytes, head: Head, *, whole: bool) -> None:
        """Find out how long the body is (RFC 9112, 6.3). *whole*: the server took all that we sent."""
        options = {word.strip().lower() for value in head.values("connection") for word in value.split(",")}
        keeps = "close" not in options and (version == b"1" or "keep-alive" in options)
        self._reusable = keeps and whole
        coding = ",".join(head.values("transfer-encoding")).strip().lower()
        self._left = 0
        if method == "HEAD" or head.status in _BODYLESS or (method == "CONNECT" and head.status < 300):
            self._body = iter(())
        elif coding:
            if coding != "chunked":
                raise Failure(f"it codes its answer as `{show(coding)}`", transient=False)
            self._reusable = self._reusable and not head.values("content-length")  # who sends both is up to something
            self._left = None
            self._body = self._chunked()
        elif lengths := head.values("content-length"):
            self._left = _length(lengths)
            self._body = self._counted()
        else:
            self._left = None
            self._reusable = False
            self._body = self._until_closed()

    def _counted(self) -> Iterator[bytes]:
        while self._left:
            data = self._some(self._left)
            if not data:
                raise Failure("the connection ended in the middle of an answer", transient=True)
            self._left -= len(data)
            yield data

    def _chunked(self) -> Iterator[bytes]:
        while size := self._chunk_size():
            while size:
                data = self._some(size)
                if not data:
                    raise Failure("the connection ended in the middle of an answer", transient=True)
                size -= len(data)
                yield data
            if self._line(2):
                raise Failure("it does not end a chunk where it said", transient=True)
        spare = _TRAILERS
        while line := self._line(spare):
            spare -= len(line)
        self._left = 0

    def _chunk_size(self) -> int:
        line = self._line(_LINE)
        found = _CHUNK_SIZE.fullmatch(line)
        if found is None:
            raise Failure(f"`{show(line[:80].decode('latin-1'))}` is no length of a chunk", transient=True)
        return int(found[1], 16)

    def _until_closed(self) -> Iterator[bytes]:
        while data := self._some(_BLOCK):
            yield data
        self._left = 0

    def _line(self, limit: int) -> bytes:
        """Return the next line without its end. Raises `Failure` if it has more than *limit* bytes."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0 and len(self._buffer) <= limit:
            searched = len(self._buffer)
            data = self._pace.receive(self.stream, _RECEIVED)
            if not data:
                what = "in the middle of an answer" if self._buffer else "without an answer"
                raise Failure(f"it closed the connection {what}", transient=True)
            self._buffer += data
        if end < 0 or end > limit:
            raise Failure("it sends a line without end", transient=True)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.removesuffix(b"\r")

    def _some(self, most: int) -> bytes:
        """Return up to *most* bytes, at least one except at the end: those that are there."""
        most = min(most, _BLOCK)
        if self._buffer:
            data = bytes(self._buffer[:most])
            del self._buffer[:most]
            return data
        first = self._pace.receive(self.stream, most)
        if not first or len(first) == most:
            return first
        parts, size = [first], len(first)
        try:
            while size < most and self._readable() and (data := self._pace.receive(self.stream, most - size)):
                parts.append(data)
                size += len(data)
        except (Failure, OSError):
            pass  # the next call meets it again; what came before counts
        return b"".join(parts)

    def _readable(self) -> bool:
        """Tell whether something came, the end among it."""
        poll = select.poll()
        poll.register(self.stream.fileno(), select.POLLIN)
        return bool(poll.poll(0))


def _head_of(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """Return the head of a request. Raises `Failure` for what would not stay where it belongs."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if any(not line.isprintable() for line in lines):
        raise Failure("the request cannot be made: a header has more than one line", transient=False)
    try:
        return "\r\n".join([*lines, "", ""]).encode("ascii")
    except UnicodeEncodeError:
        raise Failure("the request cannot be made: a header is not ASCII", transient=False) from None


def _length(values: list[str]) -> int:
    """Return what all lines of ``Content-Length`` say."""
    told = {item.strip() for value in values for item in value.split(",")}
    text = told.pop() if len(told) == 1 else ""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Failure("it does not say how long its answer is", transient=False)
    return int(text)
