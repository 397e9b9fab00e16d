"""Connections: to a server or through a proxy, with TLS or without."""

from __future__ import annotations

import socket
import sys
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from img_core.linux.spans import span
from img_core.net.hosts import origin
from img_core.net.http1 import Connection
from img_core.net.retry import Failure
from img_core.net.trust import has_more, tls_context
from img_core.spec.text import show

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from img_core.net.hosts import Origin
    from img_core.net.http1 import Stream
    from img_core.net.pace import Pace
    from img_core.net.trust import Trust

__all__ = ["Dial", "in_ascii", "proxy_authorization"]


class Dial:
    """Makes connections to *where*, through *proxy* if that is not None; its TLS context is made once. Safe to use from several threads.

    *opened* hears of each stream as soon as there is one to be ended, and again when TLS begins on it.
    """

    def __init__(
        self,
        where: Origin,
        proxy: str | None,
        *,
        verified: bool,
        trust: Trust | None,
        pace: Pace,
        opened: Callable[[Stream], None],
    ) -> None:
        self._where = where
        self._proxy = proxy
        self._verified = verified
        self._trust = trust
        self._pace = pace
        self._opened = opened
        self._lock = threading.Lock()  # guards the contexts
        self._contexts: dict[bool, ssl.SSLContext] = {}  # by whether they are quick
        self._quick = True  # first with the certificates that need no loading

    def connect(self) -> Connection:
        """Return a new connection. Raises `Failure`, OSError."""
        try:
            return Connection(self._line() if self._where.scheme == "http" else self._secure_line(), self._pace)
        except TimeoutError as err:
            raise Failure("no connection in time", transient=True) from err

    def _secure_line(self) -> Stream:
        if self._quick and self._verified and has_more(self._trust):
            try:
                return self._with_tls(self._context(quick=True))
            except OSError as err:
                if not is_distrust(err):
                    raise  # else its certificate is perhaps among those that are in the one large file only
        self._quick = False
        return self._with_tls(self._context(quick=False))

    def _context(self, *, quick: bool) -> ssl.SSLContext:
        with self._lock:
            if quick not in self._contexts:
                with span("http", "load certificates"):
                    self._contexts[quick] = tls_context(self._verified, self._trust, quick=quick)
            return self._contexts[quick]

    def _line(self) -> Stream:
        """Connect to the server, or to the proxy."""
        place = self._where if self._proxy is None else origin(self._proxy)
        if place is None:
            raise Failure(
                f"the request cannot be made: `{show(urlsplit(self._proxy or '').scheme)}` proxies are not supported",
                transient=False,
            )
        try:
            # As bytes, so that the codec of international names is not imported for those that need none.
            host: Any = (
                place.host.encode("ascii") if place.host.isascii() else place.host
            )  # Any: getaddrinfo takes both
            line = socket.create_connection((host, place.port), timeout=self._pace.limits.connect_seconds)
        except ValueError as err:  # a label that is too long, a NUL
            raise Failure(f"`{show(place.host)}` is no host name", transient=False) from err
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._opened(line)
        if self._proxy is not None and place.scheme == "https":
            return self._secured(tls_context(verified=True, trust=None), line, place.host)
        return line

    def _with_tls(self, context: ssl.SSLContext) -> Stream:
        stream = self._line()
        try:
            if self._proxy is not None:
                self._tunnel(stream, self._proxy)
            return self._secured(context, stream, self._where.host)
        except BaseException:
            stream.close()
            raise

    def _secured(self, context: ssl.SSLContext, stream: Stream, host: str) -> Stream:
        if not isinstance(stream, socket.socket) or hasattr(stream, "do_handshake"):
            from img_core.net.nested_tls import NestedTls

            return NestedTls(context, stream, host)
        # The handshake comes after `opened` knows the new object: the old one loses its descriptor.
        secured: Any = context.wrap_socket(stream, server_hostname=host, do_handshake_on_connect=False)
        self._opened(secured)
        secured.settimeout(self._pace.limits.connect_seconds)
        try:
            secured.do_handshake()
        except BaseException:
            secured.close()
            raise
        return secured  # type: ignore[no-any-return]  # a socket

    def _tunnel(self, stream: Stream, proxy: str) -> None:
        """Ask *proxy* for a tunnel to the server (RFC 9110, 9.3.6)."""
        there = in_ascii(f"{_bracketed(self._where.host)}:{self._where.port}")
        head = Connection(stream, self._pace).exchange("CONNECT", there, {"Host": there, **proxy_authorization(proxy)})
        self._pace.begin()
        if not 200 <= head.status < 300:
            raise Failure(show(f"{head.status} {head.reason}"), transient=False)


def in_ascii(host: str) -> str:
    """Return ``host[:port]`` as it is written in requests: international names by their rules (RFC 3490). Raises `Failure`."""
    if host.isascii():
        return host
    name, colon, port = host.partition(":")
    try:
        return name.encode("idna").decode() + colon + port
    except UnicodeError as err:
        raise Failure(f"`{show(name)}` is no host name", transient=False) from err


def proxy_authorization(proxy: str) -> dict[str, str]:
    """Return the header that logs in at *proxy*, if its address holds a user."""
    parts = urlsplit(proxy)
    if parts.username is None:
        return {}
    from base64 import b64encode

    account = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Proxy-Authorization": "Basic " + b64encode(account.encode()).decode()}


def is_distrust(err: BaseException) -> bool:
    """Tell whether *err* says that a certificate is not trusted."""
    ssl = sys.modules.get("ssl")
    return ssl is not None and isinstance(err, ssl.SSLCertVerificationError)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
