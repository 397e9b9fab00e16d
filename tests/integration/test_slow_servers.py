"""Servers that never finish: interim answers without end, headers and bodies byte by byte, what is sent and not taken."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from harness.host import need
from harness.img import Img, write_context
from img_core.images import oci
from img_core.net.retry import Patience
from img_core.net.web import Web
from img_core.spec.errors import ImgError, RegistryError
from img_core.spec.values import Descriptor
from img_core.testing.images import make_image
from img_core.testing.registry import Authority
from img_registry_oci._client import RegistryClient

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = pytest.mark.registry

QUICK = Patience(
    tries=2, first_pause=0.01, longest_pause=0.01, total_seconds=1,
    header_seconds=0.5, stall_seconds=0.5, document_seconds=1.0,
)  # fmt: skip
SECONDS = 15.0  # for two tries on a loaded machine; without limits they would take a minute at least, or for ever
IMAGE = make_image([{"a": os.urandom(100_000)}])
LAYER = IMAGE.layers[0]

Talk = Callable[[socket.socket], None]


@contextmanager
def server(talk: Talk) -> Iterator[str]:
    """Let *talk* answer each connection in a thread of its own, after the first bytes of the request; give ``host:port``.

    A registry's first request, whether it speaks TLS, gets its answer.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        probed = threading.Event()

        def serve(connection: socket.socket) -> None:
            with contextlib.suppress(OSError), connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if connection.recv(65536).startswith(b"GET /v2/ ") and not probed.is_set():
                    probed.set()
                    connection.sendall(OK + b"Content-Length: 0\r\n\r\n")
                    connection.recv(65536)
                talk(connection)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def slowly(head: bytes, piece: bytes = b"x", pause: float = 0.05) -> Talk:
    """Send *head* and then *piece* again and again."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(head)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            connection.sendall(piece)
            time.sleep(pause)

    return talk


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"

#: What servers do that an answer of theirs never ends.
ENDLESS: dict[str, Talk] = {
    "interim-answers": slowly(b"", INTERIM),
    "interim-answers-in-a-flood": slowly(b"", INTERIM * 100, 0.0),
    "status-line": slowly(b"HTTP/1.1 200 "),
    "a-header": slowly(OK + b"X-Long: "),
    "many-headers": slowly(OK, b"X: y\r\n"),
    "body-of-known-length": slowly(OK + b"Content-Length: 100000\r\n\r\n"),
    "body-in-chunks": slowly(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "length-of-a-chunk": slowly(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "extension-of-a-chunk": slowly(OK + b"Transfer-Encoding: chunked\r\n\r\n1;"),
    "trailers": slowly(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"X: y\r\n"),
    "body-without-length": slowly(OK + b"\r\n"),
    "error-body": slowly(b"HTTP/1.1 404 Not Found\r\nContent-Length: 8000\r\n\r\n"),
    "login-body": slowly(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 100000\r\nWWW-Authenticate: Basic\r\n\r\n"),
}

ASKED: dict[str, Callable[[RegistryClient], object]] = {
    "login": lambda client: client.ping(),
    "manifest": lambda client: client.manifest("app", "1"),
    "blob": lambda client: b"".join(client.blob("app", LAYER)),
    "tags": lambda client: client.tags("app"),
    "upload": lambda client: client.upload("app", LAYER, lambda start: [IMAGE.blobs[LAYER.digest][start:]]),
    "put": lambda client: client.put_manifest("app", "1", IMAGE.content, oci.OCI_MANIFEST),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("way", ENDLESS)
def test_an_answer_of_a_registry_that_never_ends_is_given_up(way: str, asked: str) -> None:
    started = time.monotonic()
    with (
        server(ENDLESS[way]) as address,
        RegistryClient(address, limits=QUICK) as client,
        contextlib.suppress(ImgError),  # some of them are refused, or all that is wanted, before they are read
    ):
        ASKED[asked](client)
    assert time.monotonic() - started < SECONDS


@pytest.mark.parametrize("way", ENDLESS)
def test_an_answer_of_a_web_server_that_never_ends_is_given_up(way: str) -> None:
    web = Web(environment={}, limits=QUICK)
    started = time.monotonic()
    try:
        with server(ENDLESS[way]) as address, pytest.raises(RegistryError, match="failed to fetch"):
            web.get(f"http://{address}/f", lambda response: sum(map(len, response.chunks())))
    finally:
        web.close()
    assert time.monotonic() - started < SECONDS


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("interim-answers", "no answer in"),
        ("interim-answers-in-a-flood", "of headers"),
        ("a-header", "no answer in"),
        ("body-without-length", r"only \d+ bytes in"),
        ("extension-of-a-chunk", r"only \d+ bytes in"),
    ],
)
def test_the_reason_is_told(way: str, words: str) -> None:
    limits = replace(QUICK, header_seconds=SECONDS) if words == "of headers" else QUICK
    with (
        server(ENDLESS[way]) as address,
        RegistryClient(address, limits=limits) as client,
        pytest.raises(RegistryError, match=words),
    ):
        b"".join(client.blob("app", LAYER))


def test_a_document_ends_in_time_even_at_a_good_rate() -> None:
    fast = slowly(OK + b"Content-Length: 4000000\r\n\r\n", b" " * 2000, 0.01)
    with (
        server(fast) as address,
        RegistryClient(address, limits=QUICK) as client,
        pytest.raises(RegistryError, match="does not end"),
    ):
        client.manifest("app", "1")


def test_what_is_sent_has_to_be_taken() -> None:
    """A registry that takes an upload byte by byte, with the smallest window there is."""
    content = bytes(8 << 20)
    blob = Descriptor(oci.OCI_LAYER, oci.digest(content), len(content))

    def talk(connection: socket.socket) -> None:
        for answer in (b"404 Not Found", b"202 Accepted"):  # is it there? may it be sent?
            connection.sendall(b"HTTP/1.1 " + answer + b"\r\nContent-Length: 0\r\nLocation: /up\r\n\r\n")
            connection.recv(65536)
        end = time.monotonic() + 60
        while time.monotonic() < end and connection.recv(1):
            time.sleep(0.05)

    started = time.monotonic()
    with (
        server(talk) as address,
        RegistryClient(address, limits=QUICK) as client,
        pytest.raises(RegistryError, match="failed to push"),
    ):
        client.upload("app", blob, lambda start: [content[start:]])
    assert time.monotonic() - started < SECONDS


def test_who_uses_a_body_slowly_is_not_the_servers_fault(authority: Authority) -> None:
    whole = IMAGE.blobs[LAYER.digest]
    body = whole * 40

    def talk(connection: socket.socket) -> None:
        connection.sendall(OK + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)

    web = Web(environment={}, limits=QUICK)

    def use(response: object) -> int:
        size = 0
        for number, chunk in enumerate(response.chunks()):  # type: ignore[attr-defined]
            size += len(chunk)
            if number in (0, 1):
                time.sleep(0.7)  # longer than a server may be silent
        return size

    try:
        with server(talk) as address:
            assert web.get(f"http://{address}/f", use) == len(body)
    finally:
        web.close()


@pytest.mark.rootless
def test_git_gives_up_on_servers_that_never_finish(new_state: Callable[..., Img], tmp_path: Path) -> None:
    """All at the same time: git's patience of half a minute is not ours to shorten here."""
    need("git")
    ways = ("interim-answers", "a-header", "body-in-chunks", "body-without-length")
    with contextlib.ExitStack() as opened:
        running: dict[str, subprocess.Popen[bytes]] = {}
        for way in ways:
            address = opened.enter_context(server(ENDLESS[way]))
            context = tmp_path / way
            write_context(context, f"FROM scratch\nADD http://{address}/r.git /x\n")
            running[way] = new_state(seeded=False).start("build", "-t", "x", context, log=tmp_path / f"{way}.log")
        for way, process in running.items():
            assert process.wait(timeout=100) == 6, way
            assert "cannot read git repository" in (tmp_path / f"{way}.log").read_text()
