"""Single requests over HTTP.

A `Http` sends single requests: no redirects, no cookies, no credentials, no decoding, no retries of its own; all of that is
policy and decided by the caller. HTTP/1.1 only: HTTP/2 costs three times the processor for large bodies.
"""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit
from weakref import WeakSet

from img_core.linux.spans import span
from img_core.net import _library as library
from img_core.net.hosts import authority, is_insecure, origin
from img_core.net.pace import Pace
from img_core.net.proxies import proxy_for
from img_core.net.retry import Failure
from img_core.net.trust import has_more, tls_context
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from types import TracebackType

    from img_core.net.hosts import Origin
    from img_core.net.retry import Patience
    from img_core.net.trust import Trust

__all__ = ["Http", "Response"]

_LEFT = 64 << 10  #: bytes of an unread body for which no connection is given up
_LEFT_SECONDS = 1.0  #: that they may take


class Response:
    """One answer whose body was not read yet; close it, or use it in a ``with``."""

    def __init__(self, url: str, raw: Any, pace: Pace) -> None:  # Any: the HTTP library
        self.url = url
        self.status: int = raw.status
        self._raw = raw
        self._pace = pace
        self._unread = True

    def header(self, name: str) -> str | None:
        """Return the first value of header *name*, or None."""
        values = self.headers(name)
        return values[0] if values else None

    def headers(self, name: str) -> list[str]:
        """Return all values of header *name*, one per line of the answer."""
        wanted = name.lower().encode()
        return [_text(value) for key, value in self._raw.headers if key.lower() == wanted]

    def chunks(self) -> Iterator[bytes]:
        """Give the body as it arrives, undecoded. Raises `Failure`, also when it comes too slowly to be worth waiting."""
        return self._chunks(None)

    def _chunks(self, within: float | None) -> Iterator[bytes]:
        self._unread = False
        with _translated():
            yield from self._pace.paced(self._raw.stream, within=within)

    def read(self, limit: int) -> bytes | None:
        """Return the whole body, or None if it has more than *limit* bytes."""
        content = bytearray()
        for chunk in self._chunks(self._pace.limits.document_seconds):
            content += chunk
            if len(content) > limit:
                return None
        return bytes(content)

    def close(self) -> None:
        """Give the connection back, or drop it if the body was not read to its end. A short one that nobody read is read away."""
        if self._unread and int(self.header("Content-Length") or _LEFT + 1) <= _LEFT:
            with suppress(Failure):
                for _ in self._chunks(_LEFT_SECONDS):
                    pass
        with _translated():
            self._raw.close()

    def __enter__(self) -> Response:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Http:
    """Sends requests; keeps connections. Safe to use from several threads."""

    def __init__(
        self,
        *,
        environment: Mapping[str, str],
        insecure: Collection[str],
        limits: Patience,
        trust: Mapping[str, Trust] | None = None,
    ) -> None:
        self._trust = trust or {}  # by host:port
        self._environment = environment
        self._insecure = insecure
        self._limits = limits
        self._pace = Pace(limits)
        self._pools: dict[_Way, Any] = {}  # Any: the HTTP library
        self._pools_lock = threading.Lock()  # guards this, the next two, and `_closed`
        self._ways: dict[Origin, _Way] = {}
        self._untrusted: set[_Way] = set()  # quick ones that did not do
        self._streams: WeakSet[Any] = WeakSet()  # of all open connections; Any: the HTTP library
        self._closed = False

    def send(
        self, method: str, url: str, headers: Mapping[str, str], content: Iterable[bytes] | bytes = b""
    ) -> Response:
        """Send one request and return its answer, whatever the status. Raises `Failure` if there is none.

        Parts of *content* that do not come from memory need a ``Content-Length`` among *headers*.
        """
        with _translated():
            way = self._way(url)  # says what is no HTTP address, without telling of its parts
            if way.quick:
                try:
                    return self._send(way, method, url, headers, content)
                except Exception as err:  # its certificate may be among those that are in the one large file only
                    if not isinstance(_system_cause(err), ssl.SSLCertVerificationError):
                        raise
                    self._untrusted.add(way)
                    way = way._replace(quick=False)
            return self._send(way, method, url, headers, content)

    def _send(
        self, way: _Way, method: str, url: str, headers: Mapping[str, str], content: Iterable[bytes] | bytes
    ) -> Response:
        limits = self._limits
        timeout = {"connect": limits.connect_seconds, "pool": None}
        timeout |= {"read": limits.stall_seconds, "write": limits.stall_seconds}
        pool = self._pool(way)
        extensions = {"timeout": timeout, "trace": self._trace}
        request = library.new_request(method, url, headers, content, extensions)
        self._pace.begin()
        try:
            # Without the query: it may hold what nobody else may see.
            with span("http", f"{method} {urlsplit(url).path}", host=authority(url)):
                return Response(url, pool.handle_request(request), self._pace)
        finally:
            self._pace.begin()

    def close(self) -> None:
        """Close all connections; threads that wait for an answer or send one get a `Failure` at once."""
        with self._pools_lock:
            self._closed = True
            pools, streams = list(self._pools.values()), list(self._streams)
            self._pools.clear()
        for stream in streams:
            _wake(stream.get_extra_info("socket"))
        for pool in pools:
            pool.close()

    def _trace(self, event: str, details: Mapping[str, Any]) -> None:  # Any: the HTTP library
        """Hear of every step of a request (httpcore's trace extension).

        New connections are noted, so that `close` can reach those in use, and watched; a request that is sent expects an answer.
        """
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            stream = details["return_value"]
            self._pace.watch(stream)
            with self._pools_lock:
                self._streams.add(stream)
        elif event.endswith("receive_response_headers.started"):
            self._pace.expect_headers()

    def _way(self, url: str) -> _Way:
        where = origin(url)
        if where is None:
            raise Failure(f"`{show(url)}` is not an HTTP address", transient=False)
        if where not in self._ways:
            verified = where.scheme == "https" and not is_insecure(authority(url), self._insecure)
            trust = self._trust.get(authority(url))
            quick = verified and has_more(trust)
            self._ways[where] = _Way(where.scheme, proxy_for(url, self._environment), verified, trust, quick)
        way = self._ways[where]
        return way._replace(quick=False) if way in self._untrusted else way

    def _pool(self, way: _Way) -> Any:  # Any: the HTTP library
        with self._pools_lock:
            if self._closed:
                raise Failure("the client was closed", transient=False)
            if way not in self._pools:
                self._pools[way] = library.new_pool(_context(way), way.proxy)
            return self._pools[way]


class _Way(NamedTuple):
    """How a server is reached; servers that are reached in one way share the pool of connections."""

    scheme: str
    proxy: str | None
    verified: bool
    trust: Trust | None
    quick: bool  #: without the one large file of certificates, see `tls_context`


def _context(way: _Way) -> ssl.SSLContext:
    if way.scheme == "http":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used
    with span("http", "load certificates"):
        return tls_context(way.verified, way.trust, quick=way.quick)


def _wake(connection: socket.socket) -> None:
    """End a connection under the feet of the thread that waits for it; closing the descriptor would not wake it."""
    try:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # not TLS's own, which would wait for the other side
    except OSError:
        pass  # closed already


class _translated:  # noqa: N801 - reads as a statement: `with _translated():`
    """Turns the library's errors into `Failure`."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, Failure) or not isinstance(error, Exception):
            return
        if isinstance(error, (OSError, *library.transport_errors())):
            raise _failure(error) from error
        if isinstance(error, ValueError | ImportError):  # the last: a SOCKS proxy without its library
            raise Failure(f"the request cannot be made: {show(str(error))}", transient=False) from error


def _failure(error: BaseException) -> Failure:
    cause, raised = _system_cause(error), library.load()
    if isinstance(error, raised.ConnectTimeout):
        return Failure("no connection in time", transient=True)
    if isinstance(error, raised.TimeoutException):
        return Failure("no data in time", transient=True)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Failure(
            f"its certificate is not trusted: {show(cause.verify_message)}",
            transient=False,
            hint="add the certificate of its authority to the system's store",
            distrusted=True,
        )
    if isinstance(cause, ssl.SSLError) and cause.reason in {
        "WRONG_VERSION_NUMBER",
        "RECORD_LAYER_FAILURE",
        "HTTP_REQUEST",
    }:
        return Failure("it speaks no TLS", transient=False, distrusted=True)
    if isinstance(cause, socket.gaierror):
        text = f"the host name is not known ({cause.strerror})"
        return Failure(text, transient=cause.errno == socket.EAI_AGAIN, hint="check the spelling and the name server")
    if isinstance(cause, ConnectionRefusedError):
        return Failure(
            "connection refused", transient=False, hint="check that it is running and that the port is right"
        )
    if isinstance(error, raised.ProxyError | raised.UnsupportedProtocol | raised.LocalProtocolError):
        return Failure(show(str(error)), transient=False)
    text = (cause.strerror if cause is not None else None) or str(error) or type(error).__name__
    return Failure(show(text), transient=True)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _system_cause(error: BaseException | None) -> OSError | None:
    """Return the operating system's error at the bottom of a chain of exceptions."""
    found = None
    while error is not None:
        if isinstance(error, OSError):
            found = error
        error = error.__cause__ or error.__context__
    return found
