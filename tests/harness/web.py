"""A web server on loopback whose answers tests set, and which remembers what it was asked."""

from __future__ import annotations

import hashlib
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

__all__ = ["Page", "WebServer", "speak_tls", "web_server"]


@dataclass(slots=True)
class Page:
    """What a path answers: with *modified* and *etag* it can tell "unchanged"; *hook* may look at a request and give a status."""

    content: bytes = b""
    modified: str = ""
    status: int = 200
    etag: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    hook: Callable[[BaseHTTPRequestHandler], int] | None = None


@dataclass(slots=True)
class WebServer:
    """A running server; *requests* are method, path and headers (names in lower case), in order."""

    address: str
    scheme: str = "http"
    pages: dict[str, Page] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its address as a URL, without a slash at the end."""
        return f"{self.scheme}://{self.address}"

    def answers(self, path: str) -> list[dict[str, str]]:
        """Return the headers of all requests for *path*."""
        return [headers for _, asked, headers in self.requests if asked == path]


def speak_tls(server: ThreadingHTTPServer, certificate: tuple[Path, Path]) -> None:
    """Let *server* speak TLS with *certificate* and key; the handshake happens in the connection's thread, at its first read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)


@contextmanager
def web_server(certificate: tuple[Path, Path] | None = None) -> Iterator[WebServer]:
    """Run a server for a block; with *certificate* and key it speaks TLS."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
            page = server.pages.get(self.path, Page(b"nothing here", status=404))
            status = (page.hook and page.hook(self)) or page.status
            etag = f'"{hashlib.sha256(page.content).hexdigest()[:16]}"' if page.etag else ""
            if status == 200 and etag and self.headers.get("If-None-Match") == etag:
                status = 304
            if status == 200 and page.modified and self.headers.get("If-Modified-Since") == page.modified:
                status = 304
            self.send_response(status)
            for name, value in {"ETag": etag, "Last-Modified": page.modified, **page.headers}.items():
                if value:
                    self.send_header(name, value)
            body = b"" if status == 304 else page.content
            self.send_header("Content-Length", str(len(body)))
            try:
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:
                pass  # they stopped listening

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        speak_tls(httpd, certificate)
    server = WebServer(f"127.0.0.1:{httpd.server_port}", "https" if certificate else "http")
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()
