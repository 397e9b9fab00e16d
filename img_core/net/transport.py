"""HTTP requests, one at a time: no redirects, no cookies, no credentials, no decoding, no retries.

All of that is policy and decided by the caller. HTTP/1.1 only: HTTP/2 costs three times the processor for large bodies. The protocol is
our own (`img_core.net.http1`): to import a library that speaks it takes longer than most commands.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit
from weakref import WeakSet

from img_core.linux.spans import span
from img_core.net.dial import Dial, in_ascii, is_distrust, proxy_authorization
from img_core.net.hosts import authority, is_insecure, origin
from img_core.net.pace import Pace
from img_core.net.proxies import proxy_for
from img_core.net.retry import Failure
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from types import TracebackType

    from img_core.net.http1 import Connection, Head, Stream
    from img_core.net.retry import Patience
    from img_core.net.trust import Trust

__all__ = ["Http", "Response"]

_IDLE_SECONDS = 15.0  #: how long a connection is kept for another request: less than servers do
_PORTS = {"http": 80, "https": 443}
_NO_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"}
#: What may stand in a request target as it is; the rest, which servers put into their addresses, is escaped.
_SAFE = "!#$%&'()*+,/:;=?@[]~"


class Response:
    """One answer whose body was not read yet; close it, or use it in a ``with``."""

    def __init__(self, url: str, head: Head, connection: Connection, pool: _Pool, pace: Pace) -> None:
        self.url = url
        self.status = head.status
        self._head = head
        self._connection: Connection | None = connection
        self._body = connection.body()
        self._pool = pool
        self._pace = pace

    def header(self, name: str) -> str | None:
        """Return the first value of header *name*, or None."""
        return next(iter(self._head.values(name)), None)

    def headers(self, name: str) -> list[str]:
        """Return all values of header *name*, one per line of the answer."""
        return self._head.values(name)

    def chunks(self) -> Iterator[bytes]:
        """Give the body as it arrives, undecoded. Raises `Failure`, also when it comes too slowly to be worth waiting."""
        return self._chunks(None)

    def _chunks(self, within: float | None) -> Iterator[bytes]:
        with _translated():
            yield from self._pace.paced(self._body, within=within)

    def read(self, limit: int) -> bytes | None:
        """Return the whole body, or None if it has more than *limit* bytes."""
        content = bytearray()
        for chunk in self._chunks(self._pace.limits.document_seconds):
            content += chunk
            if len(content) > limit:
                return None
        return bytes(content)

    def close(self) -> None:
        """Give the connection back, or drop it if the body was not read to its end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with _translated():
                self._pool.give_back(connection)

    def __enter__(self) -> Response:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Pool:
    """The connections to one server; those that no request uses are kept for a while, the last one is used first."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._idle: list[tuple[float, Connection]] = []
        self._lock = threading.Lock()  # guards the list
        self._closed = False

    def connection(self) -> Connection:
        """Return a connection that nobody uses. Raises `Failure`, OSError."""
        while True:
            with self._lock:
                since, kept = self._idle.pop() if self._idle else (0.0, None)
            if kept is None:
                with span("http", "connect"):
                    return self._dial.connect()
            if time.monotonic() - since <= _IDLE_SECONDS and not kept.is_stale():
                return kept
            kept.close()

    def give_back(self, connection: Connection) -> None:
        """Keep *connection* if it can be used again."""
        if connection.finish():
            with self._lock:
                if not self._closed:
                    self._idle.append((time.monotonic(), connection))
                    return
        connection.close()

    def close(self) -> None:
        """Close what nobody uses, and keep nothing more."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()


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
        self._pace = Pace(limits)
        self._lock = threading.Lock()  # guards the three below
        self._pools: dict[tuple[str, str | None], _Pool] = {}  # by scheme://host:port and proxy
        self._streams: WeakSet[Stream] = WeakSet()  # of all open connections
        self._closed = False

    def send(
        self, method: str, url: str, headers: Mapping[str, str], content: Iterable[bytes] | bytes = b""
    ) -> Response:
        """Send one request and return its answer, whatever the status. Raises `Failure` if there is none.

        *content* that is not in memory needs a ``Content-Length`` among *headers*.
        """
        with _translated():
            pool, proxy = self._pool(url)  # says what is no HTTP address, without telling of its parts
            target, sent = _request(method, url, proxy, headers, content)
            # Without the query: it may hold what nobody else may see.
            with span("http", f"{method} {target.partition('?')[0]}", host=authority(url)):
                return self._exchange(pool, url, method, target, sent, content)

    def _exchange(
        self,
        pool: _Pool,
        url: str,
        method: str,
        target: str,
        headers: Mapping[str, str],
        content: Iterable[bytes] | bytes,
    ) -> Response:
        self._pace.begin()
        connection = pool.connection()
        try:
            head = connection.exchange(method, target, headers, content)
        except BaseException:
            connection.close()
            raise
        finally:
            self._pace.begin()
        return Response(url, head, connection, pool, self._pace)

    def close(self) -> None:
        """Close all connections; threads that wait for an answer or send one get a `Failure` at once."""
        with self._lock:
            self._closed = True
            pools, streams = list(self._pools.values()), list(self._streams)
        for stream in streams:
            _wake(stream)
        for pool in pools:
            pool.close()

    def _opened(self, stream: Stream) -> None:
        """Note a new connection, so that `close` can end it also while it is used."""
        with self._lock:
            self._streams.add(stream)
            closed = self._closed
        if closed:
            stream.close()
            raise Failure("the client was closed", transient=False)

    def _pool(self, url: str) -> tuple[_Pool, str | None]:
        where = origin(url)
        if where is None:
            raise Failure(f"`{show(url)}` is not an HTTP address", transient=False)
        proxy = proxy_for(url, self._environment)
        there = authority(url)
        key = (f"{where.scheme}://{there}", proxy)
        with self._lock:
            if self._closed:
                raise Failure("the client was closed", transient=False)
            if key not in self._pools:
                verified = not is_insecure(there, self._insecure)
                dial = Dial(
                    where, proxy, verified=verified, trust=self._trust.get(there), pace=self._pace, opened=self._opened
                )
                self._pools[key] = _Pool(dial)
            return self._pools[key], proxy


def _request(
    method: str, url: str, proxy: str | None, headers: Mapping[str, str], content: Iterable[bytes] | bytes
) -> tuple[str, Mapping[str, str]]:
    """Return the target of the request line and all headers."""
    parts = urlsplit(url)
    host = authority(url)
    port = _PORTS[parts.scheme]
    named = in_ascii(host.removesuffix(f":{port}"))
    target = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
    sent = {"Host": named, **headers}
    if isinstance(content, bytes) and (content or method in ("POST", "PUT", "PATCH")):
        sent["Content-Length"] = str(len(content))
    if proxy is not None and parts.scheme == "http":
        target = f"http://{named}{target}"
        sent.update(proxy_authorization(proxy))
    return target, sent


def _wake(stream: Stream) -> None:
    """End a connection under the feet of the thread that waits for it; closing the descriptor would not wake it."""
    try:
        if isinstance(stream, socket.socket):
            socket.socket.shutdown(stream, socket.SHUT_RDWR)  # not TLS's own, which would wait for the other side
    except OSError:
        pass  # closed already


class _translated:  # noqa: N801 - reads as a statement: `with _translated():`
    """Turns what the system says of a connection into `Failure`."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            raise _failure(error) from error


def _failure(error: OSError) -> Failure:
    if is_distrust(error):
        return Failure(
            f"its certificate is not trusted: {show(getattr(error, 'verify_message', ''))}",
            transient=False,
            hint="add the certificate of its authority to the system's store",
            distrusted=True,
        )
    if (ssl := sys.modules.get("ssl")) and isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
        return Failure("it speaks no TLS", transient=False, distrusted=True)
    if isinstance(error, socket.gaierror):
        text = f"the host name is not known ({error.strerror})"
        return Failure(text, transient=error.errno == socket.EAI_AGAIN, hint="check the spelling and the name server")
    if isinstance(error, ConnectionRefusedError):
        return Failure(
            "connection refused", transient=False, hint="check that it is running and that the port is right"
        )
    if isinstance(error, TimeoutError):
        return Failure("no data in time", transient=True)
    return Failure(show(error.strerror or str(error) or type(error).__name__), transient=True)
