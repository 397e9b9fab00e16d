"""A registry that misbehaves on command, on loopback: one hook per request, everything recorded.

::

    with FaultyRegistry() as registry:
        registry.add("app", "latest", make_image())
        registry.rule("GET /v2/app/blobs/", status(503), times=2)
        …
        assert [request.path for request in registry.requests] == […]

It serves what was added, with ranges, as a registry would; the first rule that matches a request and is not used up answers it
instead. An action gets the open `Exchange` and writes whatever it likes.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import ssl
import struct
import threading
import uuid
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from img_core.testing._registry_faults import (
    challenge,
    cut_after,
    drip,
    endless,
    lose_upload_after,
    redirect,
    reply,
    stall,
    status,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    from img_core.testing.images import SmallImage

__all__ = [
    "LARGE",
    "Exchange",
    "FaultyRegistry",
    "Recorded",
    "challenge",
    "cut_after",
    "drip",
    "endless",
    "lose_upload_after",
    "redirect",
    "reply",
    "stall",
    "status",
]


LARGE = 64 << 20  #: bytes; of a larger body only the digest is kept


@dataclass(slots=True)
class Recorded:
    """One request as it came in, and what went out."""

    method: str
    path: str
    headers: Mapping[str, str]  #: names in lower-case
    body: bytes  #: empty if it was larger than `LARGE`
    digest: str = ""  #: of a body larger than that
    connection: str = ""  #: requests that came by one connection have the same
    status: int = 0
    sent: int = 0  #: bytes of body

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(slots=True)
class _Rule:
    pattern: re.Pattern[str]
    action: Callable[[Exchange], None]
    times: int | None
    used: int = 0


@dataclass(slots=True)
class Exchange:
    """A request that waits for its answer."""

    registry: FaultyRegistry
    request: Recorded
    handler: BaseHTTPRequestHandler = field(repr=False)

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Write status line and headers, nothing else."""
        self.request.status = status
        self.handler.send_response_only(status)
        for name, value in headers.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()

    def write(self, content: bytes) -> bool:
        """Write a part of the body; return False if the client is gone."""
        try:
            self.handler.wfile.write(content)
            self.handler.wfile.flush()
        except OSError:
            self.handler.close_connection = True
            return False
        self.request.sent += len(content)
        return True

    def answer(self, status: int, content: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Write a whole answer."""
        self.head(status, {"Content-Length": str(len(content)), **(headers or {})})
        if self.request.method != "HEAD":
            self.write(content)

    def serve(self) -> None:
        """Answer as a healthy registry does."""
        self.registry.serve(self)

    def content(self) -> bytes | None:
        """Return what a healthy registry would send for this path, or None."""
        found = self.registry.find(self.request.path)
        return found[1] if found else None

    def reset(self) -> None:
        """Cut the connection with a TCP reset."""
        self.handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """End the connection after this answer."""
        self.handler.close_connection = True


class FaultyRegistry:
    """Runs inside a ``with``, on *host* (any address of 127.0.0.0/8); TLS with *certificate* (certificate and key file)."""

    def __init__(self, *, host: str = "127.0.0.1", certificate: tuple[Path, Path] | None = None) -> None:
        self.host = host
        self.scheme = "http" if certificate is None else "https"
        self._certificate = certificate
        self._manifests: dict[str, tuple[str, bytes]] = {}
        self._blobs: dict[str, bytes] = {}
        self._rules: list[_Rule] = []
        self._uploads = _Uploads(self)
        self._lock = threading.Lock()
        self.requests: list[Recorded] = []
        self.stopping = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """``host:port``, as it stands in references."""
        if self._server is None:
            raise RuntimeError("the registry runs inside a `with`")
        return f"{self.host}:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """``scheme://host:port``."""
        return f"{self.scheme}://{self.address}"

    def add(self, repository: str, tag: str, image: SmallImage) -> None:
        """Serve *image* as ``repository:tag`` and by all its digests."""
        for digest, content in image.blobs.items():
            self._blobs[f"/v2/{repository}/blobs/{digest}"] = content
            if b'"schemaVersion"' in content[:40]:
                media_type = re.search(rb'"mediaType": "([^"]*)"', content)
                kind = media_type[1].decode() if media_type else image.top.media_type
                self._manifests[f"/v2/{repository}/manifests/{digest}"] = (kind, content)
        self._manifests[f"/v2/{repository}/manifests/{tag}"] = (image.top.media_type, image.content)

    def add_manifest(self, repository: str, reference: str, media_type: str, content: bytes) -> None:
        """Serve any bytes as a manifest."""
        self._manifests[f"/v2/{repository}/manifests/{reference}"] = (media_type, content)

    def rule(self, pattern: str, action: Callable[[Exchange], None], *, times: int | None = None) -> None:
        """Let *action* answer requests whose ``METHOD path`` matches *pattern* (a regular expression), *times* or for ever."""
        self._rules.append(_Rule(re.compile(pattern), action, times))

    def heal(self) -> None:
        """Forget all rules: behave from now on."""
        with self._lock:
            self._rules.clear()

    def asked(self, pattern: str = "") -> list[Recorded]:
        """Return the recorded requests whose ``METHOD path`` matches *pattern*, without the probe of ``/v2/``."""
        return [item for item in self.requests if item.path != "/v2/" and re.search(pattern, str(item))]

    def find(self, path: str) -> tuple[str, bytes] | None:
        """Return media type and bytes of *path*."""
        path = path.partition("?")[0]
        if path in self._blobs:
            return "application/octet-stream", self._blobs[path]
        return self._manifests.get(path)

    def manifests(self) -> list[tuple[str, bytes]]:
        """Return media types and bytes of all manifests."""
        return list(self._manifests.values())

    def add_blob(self, repository: str, content: bytes, *, algorithm: str = "sha256") -> str:
        """Serve *content* as a blob; return its digest."""
        digest = _digest(content, algorithm)
        self._blobs[f"/v2/{repository}/blobs/{digest}"] = content
        return digest

    def keep_upload(self, path: str, content: bytes) -> None:
        """Count *content* as arrived in the upload *path*, although its request is never answered."""
        self._uploads.keep(path, content)

    def handle(self, exchange: Exchange) -> None:
        """Record the request and answer it; called from the thread of the connection."""
        with self._lock:
            self.requests.append(exchange.request)
            rule = self._matching_rule(str(exchange.request))
        (rule.action if rule else Exchange.serve)(exchange)

    def serve(self, exchange: Exchange) -> None:
        """Answer as a healthy registry does."""
        request = exchange.request
        if request.path == "/v2/":
            return exchange.answer(200, b"{}")
        if request.method not in {"GET", "HEAD"} or "/blobs/uploads/" in request.path:
            return self._change(exchange)
        if request.path.partition("?")[0].endswith("/tags/list"):
            return self._list_tags(exchange)
        found = self.find(request.path)
        if found is None:
            return exchange.answer(404, b'{"errors":[{"code":"NAME_UNKNOWN","message":"not here"}]}')
        media_type, content = found
        if request.method == "HEAD":
            return exchange.head(200, _description(request.path, media_type, content))
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if span is None:
            return exchange.answer(200, content, {"Content-Type": media_type})
        first, last = int(span[1]), min(int(span[2] or len(content)), len(content) - 1)
        headers = {"Content-Type": media_type, "Content-Range": f"bytes {first}-{last}/{len(content)}"}
        return exchange.answer(206, content[first : last + 1], headers)

    def _change(self, exchange: Exchange) -> None:
        path = exchange.request.path
        if exchange.request.method != "DELETE" or "/manifests/" not in path:
            return self._uploads.serve(exchange)
        digest = path.rpartition("/")[2]
        gone = [name for name, (_, content) in list(self._manifests.items()) if _digest(content) == digest]
        for name in gone:
            self._manifests.pop(name, None)
        return exchange.answer(202 if gone else 404)

    def _list_tags(self, exchange: Exchange) -> None:
        """List all tags of a repository on one page."""
        repository = exchange.request.path.partition("?")[0].removesuffix("/tags/list")
        names = [name.partition("/manifests/") for name in list(self._manifests)]
        tags = sorted(tag for place, _, tag in names if place == repository and ":" not in tag)
        if not tags:
            return exchange.answer(404, b'{"errors":[{"code":"NAME_UNKNOWN","message":"not here"}]}')
        return exchange.answer(200, json.dumps({"name": repository.removeprefix("/v2/"), "tags": tags}).encode())

    def _matching_rule(self, text: str) -> _Rule | None:
        for rule in self._rules:
            if rule.pattern.search(text) and (rule.times is None or rule.used < rule.times):
                rule.used += 1
                return rule
        return None

    def __enter__(self) -> FaultyRegistry:
        self._server = _Server((self.host, 0), _handler_for(self))
        if self._certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self._certificate)
            # The handshake happens in the connection's thread, at its first read.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stopping.set()
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


class _Uploads:
    """The upload state machine of the distribution-spec, with the bytes that arrived so far by upload."""

    def __init__(self, registry: FaultyRegistry) -> None:
        self._registry = registry
        self._open: dict[str, bytes] = {}

    def serve(self, exchange: Exchange) -> None:
        """Answer one request that changes something, or asks how far it got."""
        request = exchange.request
        path, _, text = request.path.partition("?")
        query = dict(parse_qsl(text))
        repository = re.sub("^/v2/|/(blobs/uploads|manifests)/[^/]*$", "", path)
        if request.method == "PUT" and "/manifests/" in path:
            self._store_manifest(exchange, repository, path.rpartition("/")[2])
        elif request.method == "POST":
            self._begin(exchange, repository, query)
        elif path not in self._open:
            exchange.answer(404, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')
        elif request.method == "GET":
            exchange.answer(204, b"", self._position(path))
        elif request.method == "PATCH":
            self._append(exchange, path)
        elif not self._finish(repository, self._open[path] + request.body, query.get("digest", "")):
            exchange.answer(400, b'{"errors":[{"code":"DIGEST_INVALID"}]}')
        else:
            del self._open[path]
            exchange.answer(201)

    def _begin(self, exchange: Exchange, repository: str, query: Mapping[str, str]) -> None:
        source = self._registry.find(f"/v2/{query.get('from')}/blobs/{query.get('mount')}")
        if source is not None:
            self._finish(repository, source[1], query.get("mount", ""))
            exchange.answer(201)
            return
        path = f"/v2/{repository}/blobs/uploads/{uuid.uuid4()}"
        self._open[path] = b""
        exchange.answer(202, b"", self._position(path))

    def _finish(self, repository: str, content: bytes, digest: str) -> bool:
        """Serve a blob that arrived if it is what *digest* says; tell whether it is."""
        return self._registry.add_blob(repository, content, algorithm=digest.partition(":")[0] or "sha256") == digest

    def _append(self, exchange: Exchange, path: str) -> None:
        first = exchange.request.headers.get("content-range", f"{len(self._open[path])}-").partition("-")[0]
        if first != str(len(self._open[path])):
            exchange.answer(416, b"", self._position(path))
            return
        self._open[path] += exchange.request.body
        exchange.answer(202, b"", self._position(path))

    def keep(self, path: str, content: bytes) -> None:
        """Count *content* as arrived, although the request was never answered."""
        self._open[path.partition("?")[0]] += content

    def _position(self, path: str) -> dict[str, str]:
        return {"Location": f"{path}?state=x", "Range": f"0-{max(0, len(self._open[path]) - 1)}"}

    def _store_manifest(self, exchange: Exchange, repository: str, reference: str) -> None:
        media_type, content = exchange.request.headers.get("content-type", ""), exchange.request.body
        algorithm = _algorithm(reference)
        for name in (reference, _digest(content), _digest(content, algorithm)):
            self._registry.add_manifest(repository, name, media_type, content)
        exchange.answer(201, b"", {"Docker-Content-Digest": _digest(content, algorithm)})


def _digest(content: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def _algorithm(reference: str) -> str:
    """Return the algorithm of the digest *reference*; that of a tag is sha256."""
    algorithm, colon, _ = reference.rpartition("/")[2].partition(":")
    return algorithm if colon else "sha256"


def _description(path: str, media_type: str, content: bytes) -> dict[str, str]:
    digest = _digest(content, _algorithm(path))
    return {"Content-Type": media_type, "Content-Length": str(len(content)), "Docker-Content-Digest": digest}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:  # Any: as in the base class
        """Say nothing: clients that hang up are what the tests are about."""


def _handler_for(registry: FaultyRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else an answer waits 40 ms for the acknowledgement of its head
        timeout = 60

        def _handle(self) -> None:
            text = self.headers.get("content-length", "0")
            length = int(text) if text.isdigit() else 0
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(length) if length <= LARGE else b""
            digest = self._digest_of(length) if length > LARGE else ""
            place = f"{self.client_address[0]}:{self.client_address[1]}"
            recorded = Recorded(self.command, self.path, headers, body, digest, place)
            registry.handle(Exchange(registry, recorded, self))

        def _digest_of(self, length: int) -> str:
            hasher = hashlib.sha256()
            while length > 0 and (data := self.rfile.read(min(length, 1 << 20))):
                hasher.update(data)
                length -= len(data)
            return f"sha256:{hasher.hexdigest()}"

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_CONNECT = _handle  # noqa: N815 - names of the base class

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - name of the base class
            """Print nothing."""

    return Handler
